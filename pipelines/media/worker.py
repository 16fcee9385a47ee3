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
from pipelines.media.isolation import BUDGET, SMALL_BYTES, Reservation
from pipelines.media.video.reader import VideoReader

#: Seconds between two heartbeats.
_HEARTBEAT_S = 1.0


def serve(conn: Connection, stop: Any) -> None:
    """Answer requests until the connection closes; the main function of a decoder process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    vars(images)["BUDGET"] = _RemoteBudget(conn)
    state: dict[str, Any] = {}
    heartbeat = _Heartbeat(conn, stop)
    while True:
        try:
            kind, *request = conn.recv()
        except (EOFError, OSError):
            os._exit(0)
        try:
            value = _respond(kind, request, state, heartbeat)
        except BaseException as error:
            conn.send(("error", _sendable(error)))
            continue
        if isinstance(value, Image.Image):
            size, info, data = value.size, _numbers(value.info), value.tobytes()
            del value
            conn.send(("image", size, info))
            conn.send_bytes(data)
        else:
            conn.send(("value", value))


def _respond(kind: str, request: list[Any], state: dict[str, Any], heartbeat: "_Heartbeat") -> Any:
    if kind == "call":
        function, args, options = request
        return function(*args, **options)
    if kind == "open":
        path, max_seconds = request
        cancel = CancelToken(heartbeat)
        reader = state["video"] = VideoReader(path, max_seconds=max_seconds, cancel=cancel)
        return reader.info, reader.times_s
    control = {"cancel": CancelToken(heartbeat.is_stopped), "on_progress": heartbeat.progress}
    if kind == "frames":
        indices, size, options = request
        return state["video"].frames_at(indices, size, **control, **options)
    return _respond_in_order(kind, request, state, control)


def _respond_in_order(
    kind: str, request: list[Any], state: dict[str, Any], control: dict[str, Any]
) -> Any:
    """Answer a request about sequential reading; each running iterator has a number."""
    iterators: dict[int, Any] = state.setdefault("iterators", {})
    if kind == "start":
        indices, size, options = request
        number = max(iterators, default=0) + 1
        iterators[number] = state["video"].frames_in_order(indices, size, **control, **options)
        return number
    if kind == "next":
        return next(iterators[request[0]], None)
    for number in [request[0]] if kind == "end" else [*iterators]:
        iterators.pop(number).close()
    if kind == "close":
        state.pop("video").close()
    return None


def _sendable(error: BaseException) -> BaseException:
    if isinstance(error, PipelineError | MemoryError | Cancelled):
        return error
    return RuntimeError(f"{type(error).__name__} in a decoder: {error}")


def _numbers(info: dict[Any, Any]) -> dict[str, Any]:
    types = (int, float, tuple)
    return {str(key): value for key, value in info.items() if isinstance(value, types)}


class _Heartbeat:
    """Condition of cancel tokens from the stop flag in shared memory; each check is a heartbeat.

    If other threads decode, `is_stopped` is the condition and progress is the heartbeat.
    """

    def __init__(self, conn: Connection, stop: Any) -> None:
        self._conn, self._stop, self._last = conn, stop, 0.0

    def __call__(self) -> bool:
        if time.monotonic() - self._last > _HEARTBEAT_S:
            self._last = time.monotonic()
            self._conn.send(("alive",))
        return self.is_stopped()

    def is_stopped(self) -> bool:
        return bool(self._stop.value)

    def progress(self, done: int, total: int) -> None:
        self._conn.send(("progress", done, total))


class _RemoteBudget:
    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def reserve(self, needed: int) -> Reservation:
        if needed > SMALL_BYTES:
            self._conn.send(("reserve", needed))
            refused = self._conn.recv()
            if refused is not None:
                raise refused
        return Reservation(BUDGET, 0)  # the parent process releases it when it has the image
