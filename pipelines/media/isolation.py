"""Decoding in processes of their own, so that a decoder that crashes or hangs costs one request.

`enable()` switches it on; until then, and inside such a process, pictures and videos are decoded
where they are asked for. A process answers one request at a time and is kept for the next one.
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
from contextlib import contextmanager
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

#: Bytes of all large pictures together, and the share of the machine's memory that it may be.
MOST_BYTES = 1_000_000_000
SHARE = 0.125

#: Up to this a picture is small: it never waits and is not counted. The queue lets 32 requests
#: decode at once, so that such pictures take no more than half a gigabyte together.
SMALL_BYTES = 16_000_000

#: Seconds that a picture waits for its turn.
WAIT_S = 60.0


class Hold:
    """A part of the budget; given back once, however often it is released."""

    def __init__(self, budget: "DecodeBudget", held: int) -> None:
        """Remember how much is held."""
        self._budget = budget
        self._held = held

    def keep(self, needed: int) -> None:
        """Give back what is held beyond `needed` bytes."""
        surplus = self._held - needed
        if surplus > 0:
            self._held = needed
            self._budget.give_back(surplus)

    def release(self) -> None:
        """Give everything back."""
        self.keep(0)


class DecodeBudget:
    """A fair semaphore over bytes: first come, first served, so that a large one gets its turn.

    What needs more than there is in all runs alone.
    """

    def __init__(self, total: int) -> None:
        """Have `total` bytes to lend."""
        self.total = total
        self._free = total
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def take(self, needed: int) -> Hold:
        """Wait for a turn and `needed` bytes.

        Raises:
            MemoryLimitError: they did not come within `WAIT_S`.
        """
        if needed <= SMALL_BYTES:
            return Hold(self, 0)
        share, me = min(needed, self.total), object()
        disable = time.monotonic() + WAIT_S
        with self._changed:
            self._waiting.append(me)
            try:
                while self._waiting[0] is not me or self._free < share:
                    if (
                        not self._changed.wait(disable - time.monotonic())
                        and time.monotonic() >= disable
                    ):
                        raise MemoryLimitError(
                            "This picture needs {size:.2f} GB to be decoded, but other "
                            "pictures fill the budget of {limit:.2f} GB. Try again in a "
                            "moment, or send a smaller picture.",
                            size=needed / 1e9,
                            limit=self.total / 1e9,
                        )
                self._free -= share
            finally:
                self._waiting.remove(me)
                self._changed.notify_all()
        return Hold(self, share)

    def give_back(self, count: int) -> None:
        """Lend `count` bytes to others."""
        with self._changed:
            self._free += count
            self._changed.notify_all()


#: The one of this process.
BUDGET = DecodeBudget(min(MOST_BYTES, int(SHARE * machine_memory_bytes())))


#: Seconds without a sign of life after which a decoder counts as hung.
HANG_S = 60.0

#: Seconds that a decoder has to end work that is cancelled.
STOP_S = 5.0

#: Processes at once, and those that are kept while nobody asks.
MOST = 32
MOST_IDLE = 4

#: Seconds after which one that is kept is ended: a new one starts in a tenth of a second.
KEPT_S = 60.0

#: Seconds between two checks of the caller's token.
_POLL_S = 0.05

#: Module that a process runs, and imports before it is asked: by name, since it imports this one.
_WORKER = "pipelines.media.worker"

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


def enable() -> None:
    """From now on decode apart."""
    decoder_pool()  # there is one before several ask for it at once
    _Switch.on = True


def disable() -> None:
    """Decode where it is asked for again, and end the processes that nobody uses."""
    _Switch.on = False
    decoder_pool().dismiss()


def end_idle() -> None:
    """End the processes that nobody has used for a while."""
    decoder_pool().dismiss(KEPT_S)


def is_enabled() -> bool:
    """Whether decoding is done apart."""
    return _Switch.on


@cache
def decoder_pool() -> "DecoderPool":
    """Return the processes of this one."""
    return DecoderPool()


def _serve(conn: Connection, stop: Any) -> None:
    importlib.import_module(_WORKER).serve(conn, stop)


class DecoderProcess:
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
        cancel: CancelToken = NEVER,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Return the answer to a request; `name` is what messages call the file.

        Raises:
            PipelineError: as the decoding itself does.
            DecoderLost: the process crashed or hung, after which it is gone.
            Cancelled: `cancel` is cancelled; a process that did not end its work soon is killed.
            MemoryError: there is no memory for it.
        """
        held: list[Hold] = []
        try:
            self._owes, self._stop.value = True, False
            self._conn.send(request)
            return self._answer(name, held, cancel, on_progress)
        except (EOFError, OSError) as error:
            raise DecoderLost(
                "{name} makes the decoder crash: it is damaged, or needs more memory than "
                "there is. Save it again with another program, or choose another file.",
                name=name,
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
        cancel: CancelToken,
        on_progress: Callable[[int, int], None] | None,
    ) -> Any:
        heard, cancelled = time.monotonic(), inf
        while True:
            if cancelled == inf and cancel.is_cancelled:
                self._stop.value, cancelled = True, time.monotonic()
            if time.monotonic() - cancelled > STOP_S:
                raise Cancelled
            if not self._conn.poll(_POLL_S):
                if time.monotonic() - heard > self._hang_s:
                    raise DecoderLost(
                        "{name} keeps the decoder busy for {seconds:.0f} s without a result. "
                        "Save it again with another program, or choose another file.",
                        name=name,
                        seconds=self._hang_s,
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
        open_isolated = Image.frombytes("RGB", size, data)
        open_isolated.info.update(info)
        left = size[0] * size[1] * _BYTES_A_PIXEL
        if left > SMALL_BYTES and held:  # counts until nobody holds it any more
            hold = held.pop()
            hold.keep(left)
            weakref.finalize(open_isolated, hold.release)
        return open_isolated

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join(timeout=5)
        self._conn.close()


class DecoderPool:
    """The processes that decode: some wait, some are lent."""

    def __init__(self, target: Callable[..., None] | None = None) -> None:
        """Start none yet; `target` is what each will run."""
        start = "spawn" if sys.platform == "win32" else "forkserver"
        self._context = multiprocessing.get_context(start)
        if start == "forkserver":
            self._context.set_forkserver_preload([_WORKER])
        self.target = target or _serve
        self._places = threading.BoundedSemaphore(MOST)
        self._lock = threading.Lock()
        self._idle: list[tuple[DecoderProcess, float]] = []  # and since when

    @contextmanager
    def one(self) -> Iterator[DecoderProcess]:
        """Lend a process, started where none waits."""
        with self._places:
            decoder = self._waiting() or DecoderProcess(self._context, self.target, HANG_S)
            try:
                yield decoder
            finally:
                self._take_back(decoder)

    def _waiting(self) -> DecoderProcess | None:
        with self._lock:
            while self._idle:
                decoder, _ = self._idle.pop()
                if decoder.is_alive:
                    return decoder
        return None

    def _take_back(self, decoder: DecoderProcess) -> None:
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


def open_isolated(
    name: str, function: Callable[..., Image.Image], *args: Any, **options: Any
) -> Any:
    """Return the picture that `function(*args, **options)` opens, opened apart."""
    with decoder_pool().one() as decoder:
        return decoder.ask(name, "call", function, args, options)
