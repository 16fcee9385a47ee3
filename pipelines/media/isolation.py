"""Decoding in separate processes, so that a crash or hang of a decoder costs one request only.

`enable()` switches it on; before that, and in a decoder process, images and videos are decoded in
the calling process. A decoder process serves one request at a time and is reused.
"""

import importlib
import multiprocessing
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import c_bool
from functools import cache
from math import inf
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from pipelines.compute.device import machine_memory_bytes
from pipelines.core.cancel import NEVER, Cancelled, CancelToken
from pipelines.core.errors import DecoderLost, MemoryLimitError, PipelineError
from pipelines.core.remote import KEY_VARIABLE

#: Limits of the decode budget: bytes, and fraction of the machine's memory.
MAX_BYTES = 1_000_000_000
MAX_FRACTION = 0.125

#: Images up to this size are not counted. The queue admits 32 requests, whose small images take
#: half a gigabyte at most.
SMALL_BYTES = 16_000_000

#: Maximum seconds of waiting for a reservation.
WAIT_S = 60.0


class Reservation:
    """Reserved bytes of a decode budget."""

    def __init__(self, budget: "DecodeBudget", size: int) -> None:
        self._budget = budget
        self._size = size

    def shrink(self, needed: int) -> None:
        """Return all bytes beyond `needed` to the budget."""
        surplus = self._size - needed
        if surplus > 0:
            self._size = needed
            self._budget.give_back(surplus)

    def release(self) -> None:
        """Return all bytes; further calls do nothing."""
        self.shrink(0)


class DecodeBudget:
    """Fair (first in, first out) semaphore of `total` bytes; larger reservations run alone."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def reserve(self, needed: int) -> Reservation:
        """Wait for `needed` bytes; raise `MemoryLimitError` after `WAIT_S`."""
        if needed <= SMALL_BYTES:
            return Reservation(self, 0)
        size, ticket = min(needed, self.total), object()
        deadline = time.monotonic() + WAIT_S
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or self._free < size:
                    if (
                        not self._changed.wait(deadline - time.monotonic())
                        and time.monotonic() >= deadline
                    ):
                        raise MemoryLimitError(
                            "This picture needs {size:.2f} GB to be decoded, but other "
                            "pictures fill the budget of {limit:.2f} GB. Try again in a "
                            "moment, or send a smaller picture.",
                            size=needed / 1e9,
                            limit=self.total / 1e9,
                        )
                self._free -= size
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        return Reservation(self, size)

    def give_back(self, size: int) -> None:
        """Return bytes of a reservation."""
        with self._changed:
            self._free += size
            self._changed.notify_all()


#: Budget of this process.
BUDGET = DecodeBudget(min(MAX_BYTES, int(MAX_FRACTION * machine_memory_bytes())))

#: Seconds without a heartbeat after which a decoder counts as hung.
HANG_S = 60.0

#: Seconds from a cancellation to the end of a decoder's work; after that it is killed.
STOP_S = 5.0

#: Maximum number of processes, and of idle ones.
MAX_PROCESSES = 32
MAX_IDLE = 4

#: Seconds after which an idle process is ended; a start takes a tenth of a second.
IDLE_S = 60.0

#: Seconds between two checks of the caller's token.
_POLL_S = 0.05

#: Main module of the processes; by name, since it imports this module.
_WORKER = "pipelines.media.worker"

_BYTES_PER_PIXEL = 4

_START_LOCK = threading.Lock()


@contextmanager
def _keys_removed() -> Iterator[None]:
    """Remove the keys of servers from the environment that a started decoder inherits."""
    with _START_LOCK:
        names = [name for name in os.environ if name.startswith(KEY_VARIABLE)]
        keys = {name: os.environ.pop(name) for name in names}
        try:
            yield
        finally:
            os.environ.update(keys)


class _Switch:
    on = False


def enable() -> None:
    """Decode in separate processes from now on."""
    decoder_pool()  # created before threads race for it
    _Switch.on = True


def disable() -> None:
    """Decode in the calling process again, and end the idle decoders."""
    _Switch.on = False
    decoder_pool().end_idle()


def end_idle() -> None:
    """End the decoders that were idle for `IDLE_S`."""
    decoder_pool().end_idle(IDLE_S)


def is_enabled() -> bool:
    """Return whether decoding is isolated."""
    return _Switch.on


@cache
def decoder_pool() -> "DecoderPool":
    """Return the pool of this process."""
    return DecoderPool()


def _serve(conn: Connection, stop: Any) -> None:
    importlib.import_module(_WORKER).serve(conn, stop)


def _run(target: Callable[..., None], conn: Connection, stop: Any) -> None:
    conn.send(("started",))
    target(conn, stop)


class DecoderProcess:
    """Decoder process that runs `target`; used by one thread at a time."""

    def __init__(self, context: Any, target: Callable[..., None], hang_s: float) -> None:
        self._conn, child = context.Pipe()
        self._stop = context.RawValue(c_bool, False)  # no lock that a crash could leave behind
        self._hang_s = hang_s
        self._pending = self._started = False
        self._process = context.Process(target=_run, args=(target, child, self._stop), daemon=True)
        with _keys_removed():
            self._process.start()
        child.close()  # so that the connection ends with the process

    @property
    def is_alive(self) -> bool:
        """Return whether the process can take requests."""
        return not self._conn.closed and bool(self._process.is_alive())

    def request(
        self,
        name: str,
        *request: Any,
        cancel: CancelToken = NEVER,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Return the response to a request; `name` names the file in messages.

        Raises:
            PipelineError: raised by the decoder.
            DecoderLost: the process crashed, hung or did not start; it is ended.
            Cancelled: `cancel` is cancelled.
            MemoryError: the process is out of memory.
        """
        reservations: list[Reservation] = []
        try:
            self._pending, self._stop.value = True, False
            self._conn.send(request)
            return self._response(name, reservations, cancel, on_progress)
        except (EOFError, OSError) as error:
            if not self._has_started():
                raise DecoderLost(
                    "The program that reads {name} could not be started: this server may be short "
                    "of memory or of processes. Try again in a moment.",
                    name=name,
                ) from error
            raise DecoderLost(
                "{name} makes the decoder crash: it is damaged, or needs more memory than "
                "there is. Save it again with another program, or choose another file.",
                name=name,
            ) from error
        finally:
            if self._pending:  # the response must not reach another request
                self.kill()
            for reservation in reservations:
                reservation.release()

    def _has_started(self) -> bool:
        with suppress(EOFError, OSError):
            self._started = self._started or self._conn.recv() == ("started",)
        return self._started

    def _response(
        self,
        name: str,
        reservations: list[Reservation],
        cancel: CancelToken,
        on_progress: Callable[[int, int], None] | None,
    ) -> Any:
        last_sign, cancelled = time.monotonic(), inf
        while True:
            if cancelled == inf and cancel.is_cancelled:
                self._stop.value, cancelled = True, time.monotonic()
            if time.monotonic() - cancelled > STOP_S:
                raise Cancelled
            if not self._conn.poll(_POLL_S):
                if time.monotonic() - last_sign > self._hang_s:
                    raise DecoderLost(
                        "{name} keeps the decoder busy for {seconds:.0f} s without a result. "
                        "Save it again with another program, or choose another file.",
                        name=name,
                        seconds=self._hang_s,
                    )
                continue
            kind, *values = self._conn.recv()
            last_sign = time.monotonic()
            self._started = True
            if kind == "image":
                return self._image(*values, reservations=reservations)
            if kind in {"value", "error"}:
                self._pending = False
            if kind == "value":
                return values[0]
            if kind == "error":
                raise values[0]
            if kind == "progress" and on_progress is not None:
                on_progress(*values)
            elif kind == "reserve":
                self._reserve(values[0], reservations)
                last_sign = time.monotonic()

    def _reserve(self, needed: int, reservations: list[Reservation]) -> None:
        try:
            reservations.append(BUDGET.reserve(needed))
        except PipelineError as error:
            self._conn.send(error)
        else:
            self._conn.send(None)

    def _image(
        self, size: tuple[int, int], info: dict[str, Any], *, reservations: list[Reservation]
    ) -> Any:
        data = self._conn.recv_bytes()
        self._pending = False
        image = Image.frombytes("RGB", size, data)
        image.info.update(info)
        num_bytes = size[0] * size[1] * _BYTES_PER_PIXEL
        if num_bytes > SMALL_BYTES and reservations:  # counts as long as the image exists
            reservation = reservations.pop()
            reservation.shrink(num_bytes)
            weakref.finalize(image, reservation.release)
        return image

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join(timeout=5)
        self._conn.close()


class DecoderPool:
    """Pool of decoder processes that run `target`."""

    def __init__(self, target: Callable[..., None] | None = None) -> None:
        method = "spawn" if sys.platform == "win32" else "forkserver"
        self._context = multiprocessing.get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload([_WORKER])
        self.target = target or _serve
        self._slots = threading.BoundedSemaphore(MAX_PROCESSES)
        self._lock = threading.Lock()
        self._idle: list[tuple[DecoderProcess, float]] = []  # and the time it became idle

    @contextmanager
    def lease(self) -> Iterator[DecoderProcess]:
        """Lease an idle process, or a new one."""
        with self._slots:
            decoder = self._pop_idle() or DecoderProcess(self._context, self.target, HANG_S)
            try:
                yield decoder
            finally:
                self._put_back(decoder)

    def _pop_idle(self) -> DecoderProcess | None:
        with self._lock:
            while self._idle:
                decoder, _ = self._idle.pop()
                if decoder.is_alive:
                    return decoder
        return None

    def _put_back(self, decoder: DecoderProcess) -> None:
        if not decoder.is_alive:
            return
        with self._lock:
            if len(self._idle) < MAX_IDLE:
                self._idle.append((decoder, time.monotonic()))
                return
        decoder.kill()

    def end_idle(self, idle_s: float = 0.0) -> None:
        """End the processes that were idle for `idle_s`."""
        latest = time.monotonic() - idle_s
        with self._lock:
            ended = [decoder for decoder, since_s in self._idle if since_s <= latest]
            self._idle = [one for one in self._idle if one[1] > latest]
        for decoder in ended:
            decoder.kill()


def open_isolated(
    name: str, function: Callable[..., Image.Image], *args: Any, **options: Any
) -> Any:
    """Return the image `function(*args, **options)`, opened in a decoder process."""
    with decoder_pool().lease() as decoder:
        return decoder.request(name, "call", function, args, options)
