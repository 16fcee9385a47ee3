"""Decoder process: answers requests for images and video frames over a pipe."""

import os
import signal
import time
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import PipelineError
from pipelines.media import images
from pipelines.media.isolation import SMALL_BYTES
from pipelines.media.video.reader import VideoReader

#: Seconds between two signs of life.
_SIGN_S = 1.0


def serve(conn: Connection, stop: Any) -> None:
    """Answer requests until the other side is gone; the main function of a decoder process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    vars(images)["BUDGET"] = _AskedBudget(conn)
    kept: dict[str, Any] = {}
    sign = _Sign(conn, stop)
    while True:
        try:
            kind, *request = conn.recv()
        except (EOFError, OSError):
            os._exit(0)
        try:
            value = _answered(kind, request, kept, sign)
        except BaseException as error:
            conn.send(("error", _sendable(error)))
            continue
        if isinstance(value, Image.Image):
            size, info, data = value.size, _plain(value.info), value.tobytes()
            del value
            conn.send(("image", size, info))
            conn.send_bytes(data)
        else:
            conn.send(("value", value))


def _answered(kind: str, request: list[Any], kept: dict[str, Any], sign: "_Sign") -> Any:
    if kind == "call":
        function, args, options = request
        return function(*args, **options)
    if kind == "open":
        path, max_seconds = request
        reader = kept["video"] = VideoReader(
            path, max_seconds=max_seconds, cancel=CancelToken(sign)
        )
        return reader.info, reader.times_s
    heard = {"cancel": CancelToken(sign.is_stopped), "on_progress": sign.progress}
    if kind == "frames":
        indices, size, options = request
        return kept["video"].frames_at(indices, size, **heard, **options)
    return _answered_open(kind, request, kept, heard)


def _answered_open(
    kind: str, request: list[Any], kept: dict[str, Any], heard: dict[str, Any]
) -> Any:
    """Answer about the open video; frames read one part after the other are an order by number."""
    orders: dict[int, Any] = kept.setdefault("orders", {})
    if kind == "order":
        indices, size, options = request
        number = max(orders, default=0) + 1
        orders[number] = kept["video"].frames_in_order(indices, size, **heard, **options)
        return number
    if kind == "next":
        return next(orders[request[0]], None)
    ended = [request[0]] if kind == "forget" else [*orders]
    for number in ended:
        orders.pop(number).close()
    if kind == "close":
        kept.pop("video").close()
    return None


def _sendable(error: BaseException) -> BaseException:
    if isinstance(error, PipelineError | MemoryError | Cancelled):
        return error
    return RuntimeError(f"{type(error).__name__} in a decoder: {error}")


def _plain(info: dict[Any, Any]) -> dict[str, Any]:
    """Return what of a picture's `info` is numbers; the rest is data of the file."""
    kinds = (int, float, tuple)
    return {str(key): value for key, value in info.items() if isinstance(value, kinds)}


class _Sign:
    """Conditions of a decoder's tokens, from the stop flag in shared memory.

    Calling it also reports that the process is alive: for work that checks its token in the thread
    that decodes. Where other threads decode, `is_stopped` is the condition, and progress is the
    sign of life.
    """

    def __init__(self, conn: Connection, stop: Any) -> None:
        self._conn, self._stop, self._told = conn, stop, 0.0

    def __call__(self) -> bool:
        if time.monotonic() - self._told > _SIGN_S:
            self._told = time.monotonic()
            self._conn.send(("alive",))
        return self.is_stopped()

    def is_stopped(self) -> bool:
        return bool(self._stop.value)

    def progress(self, done: int, total: int) -> None:
        self._conn.send(("progress", done, total))


class _AskedBudget:
    """The budget of the process that asks, for one that decodes."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def take(self, needed: int) -> "_AskedHold":
        if needed > SMALL_BYTES:
            self._conn.send(("take", needed))
            refused = self._conn.recv()
            if refused is not None:
                raise refused
        return _AskedHold()


class _AskedHold:
    """Given back by the process that asks, when the picture is there."""

    def keep(self, needed: int) -> None:
        del needed

    def release(self) -> None:
        return
