"""Decoding in processes of their own, so that a decoder that crashes or hangs costs one request.

`begin()` switches it on; until then, and inside such a process, pictures and videos are decoded
where they are asked for. A process answers one request at a time and is kept for the next one.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_bool
from functools import cache
from math import inf
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from pipelines.core.errors import DecoderLost, PipelineError, ReadingStopped
from pipelines.core.remote import KEY_VARIABLE
from pipelines.decode_budget import BUDGET, SMALL_BYTES, Hold

#: Seconds without a sign of life after which a decoder counts as hung.
HANG_S = 60.0

#: Seconds that a decoder has to end what it was told to stop.
STOP_S = 5.0

#: Seconds between two signs of life.
_SIGN_S = 1.0

#: Processes at once, and those that are kept while nobody asks.
MOST = 32
MOST_IDLE = 4

#: Seconds after which one that is kept is ended: a new one starts in a tenth of a second.
KEPT_S = 60.0

#: Seconds between two questions whether the caller wants to stop.
_POLL_S = 0.05

#: What the processes have read before they are asked.
_PRELOAD = ["pipelines.media.images", "pipelines.media.video.open"]

_BYTES_A_PIXEL = 4


#: Held while a process starts.
_STARTING = threading.Lock()


@contextmanager
def _keys_put_away() -> Iterator[None]:
    """Let no process that starts in the block inherit the keys of servers: it reads any file."""
    with _STARTING:
        names = [name for name in os.environ if name.startswith(KEY_VARIABLE)]
        kept = {name: os.environ.pop(name) for name in names}
        try:
            yield
        finally:
            os.environ.update(kept)


class _Switch:
    on = False


def begin() -> None:
    """From now on decode apart."""
    crew()  # there is one before several ask for it at once
    _Switch.on = True


def end() -> None:
    """Decode where it is asked for again, and end the processes that nobody uses."""
    _Switch.on = False
    crew().dismiss()


def rest() -> None:
    """End the processes that nobody has used for a while."""
    crew().dismiss(KEPT_S)


def is_on() -> bool:
    """Whether decoding is done apart."""
    return _Switch.on


@cache
def crew() -> "Crew":
    """Return the processes of this one."""
    return Crew()


class Decoder:
    """One process that decodes; used by one thread at a time."""

    def __init__(self, context: Any, target: Callable[..., None], hang_s: float) -> None:
        """Start it; `target` is what it runs."""
        self._conn, theirs = context.Pipe()
        self._stop = context.RawValue(c_bool, False)  # no lock that a crash could leave behind
        self._hang_s = hang_s
        self._owes = False
        self._process = context.Process(target=target, args=(theirs, self._stop), daemon=True)
        with _keys_put_away():
            self._process.start()
        theirs.close()  # so that the end of the process is the end of the connection

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self._conn.closed and bool(self._process.is_alive())

    def ask(
        self,
        name: str,
        *request: Any,
        should_stop: Callable[[], bool] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Return the answer to a request; `name` is what messages call the file.

        Raises:
            PipelineError: as the decoding itself does.
            DecoderLost: the process crashed or hung, after which it is gone.
            ReadingStopped: the caller said so; the process is gone where it did not stop soon.
            MemoryError: there is no memory for it.
        """
        held: list[Hold] = []
        try:
            self._owes, self._stop.value = True, False
            self._conn.send(request)
            return self._answer(name, held, should_stop, on_progress)
        except (EOFError, OSError) as error:
            raise DecoderLost(
                f"{name} makes the decoder crash: it is damaged, or needs more memory than there "
                "is. Save it again with another program, or choose another file."
            ) from error
        finally:
            if self._owes:  # nobody else may get this answer
                self.kill()
            for hold in held:
                hold.release()

    def _answer(
        self,
        name: str,
        held: list[Hold],
        should_stop: Callable[[], bool] | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> Any:
        heard, stopped = time.monotonic(), inf
        while True:
            if stopped == inf and should_stop is not None and should_stop():
                self._stop.value, stopped = True, time.monotonic()
            if time.monotonic() - stopped > STOP_S:
                raise ReadingStopped
            if not self._conn.poll(_POLL_S):
                if time.monotonic() - heard > self._hang_s:
                    raise DecoderLost(
                        f"{name} keeps the decoder busy for {self._hang_s:.0f} s without a result. "
                        "Save it again with another program, or choose another file."
                    )
                continue
            kind, *told = self._conn.recv()
            heard = time.monotonic()
            if kind == "image":
                return self._image(*told, held=held)
            if kind in {"value", "error"}:
                self._owes = False
            if kind == "value":
                return told[0]
            if kind == "error":
                raise told[0]
            if kind == "progress" and on_progress is not None:
                on_progress(*told)
            elif kind == "take":
                self._lend(told[0], held)
                heard = time.monotonic()

    def _lend(self, needed: int, held: list[Hold]) -> None:
        """Answer a decoder that asks for a part of the budget."""
        try:
            held.append(BUDGET.take(needed))
        except PipelineError as error:
            self._conn.send(error)
        else:
            self._conn.send(None)

    def _image(self, size: tuple[int, int], info: dict[str, Any], *, held: list[Hold]) -> Any:
        data = self._conn.recv_bytes()
        self._owes = False
        image = Image.frombytes("RGB", size, data)
        image.info.update(info)
        left = size[0] * size[1] * _BYTES_A_PIXEL
        if left > SMALL_BYTES and held:  # counts until nobody holds it any more
            hold = held.pop()
            hold.keep(left)
            weakref.finalize(image, hold.release)
        return image

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join(timeout=5)
        self._conn.close()


class Crew:
    """The processes that decode: some wait, some are lent."""

    def __init__(self, target: Callable[..., None] | None = None) -> None:
        """Start none yet; `target` is what each will run."""
        start = "spawn" if sys.platform == "win32" else "forkserver"
        self._context = multiprocessing.get_context(start)
        if start == "forkserver":
            self._context.set_forkserver_preload(_PRELOAD)
        self.target = target or serve
        self._places = threading.BoundedSemaphore(MOST)
        self._lock = threading.Lock()
        self._idle: list[tuple[Decoder, float]] = []  # and since when

    @contextmanager
    def one(self) -> Iterator[Decoder]:
        """Lend a process, started where none waits."""
        with self._places:
            decoder = self._waiting() or Decoder(self._context, self.target, HANG_S)
            try:
                yield decoder
            finally:
                self._take_back(decoder)

    def _waiting(self) -> Decoder | None:
        with self._lock:
            while self._idle:
                decoder, _ = self._idle.pop()
                if decoder.is_alive:
                    return decoder
        return None

    def _take_back(self, decoder: Decoder) -> None:
        if not decoder.is_alive:
            return
        with self._lock:
            if len(self._idle) < MOST_IDLE:
                self._idle.append((decoder, time.monotonic()))
                return
        decoder.kill()

    def dismiss(self, waited_s: float = 0.0) -> None:
        """End the processes that have waited for so many seconds."""
        latest = time.monotonic() - waited_s
        with self._lock:
            ended = [decoder for decoder, since_s in self._idle if since_s <= latest]
            self._idle = [one for one in self._idle if one[1] > latest]
        for decoder in ended:
            decoder.kill()


def image(name: str, function: Callable[..., Image.Image], *args: Any, **options: Any) -> Any:
    """Return the picture that `function(*args, **options)` opens, opened apart."""
    with crew().one() as decoder:
        return decoder.ask(name, "call", function, args, options)


def serve(conn: Connection, stop: Any) -> None:
    """Answer requests until the other side is gone; what a process of the crew runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from pipelines.media import images

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
        from pipelines.media.video.open import VideoReader

        path, max_seconds = request
        reader = kept["video"] = VideoReader(path, max_seconds=max_seconds, should_stop=sign)
        return reader.info, reader.times_s
    heard = {"should_stop": sign.is_stopped, "on_progress": sign.progress}
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
    if isinstance(error, PipelineError | MemoryError | ReadingStopped):
        return error
    return RuntimeError(f"{type(error).__name__} in a decoder: {error}")


def _plain(info: dict[Any, Any]) -> dict[str, Any]:
    """Return what of a picture's `info` is numbers; the rest is data of the file."""
    kinds = (int, float, tuple)
    return {str(key): value for key, value in info.items() if isinstance(value, kinds)}


class _Sign:
    """What a decoder asks whether to stop, by which it shows that it is alive.

    That holds where the one that asks is the one that decodes. Where threads decode, `is_stopped`
    is asked beside them, and what they are done with is the sign.
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
