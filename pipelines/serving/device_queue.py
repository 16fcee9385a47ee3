"""Queue for the compute device: requests of visitors come before batches of long runs."""

import ctypes
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.visitor import current_visitor, queue_position

#: Longest time that requests keep one batch of a long run waiting.
MAX_WAIT_S = 20.0

#: Most active long runs, as each holds images in memory, and most of one visitor: half of them, so
#: that another visitor's first run can begin.
NUM_PLACES, PLACES_OF_ONE = 4, 2

#: Seconds between two checks of the token of whatever waits.
POLL_S = 0.1


class DeviceQueue:
    """Order of those who use the device.

    Requests that take seconds have the device one after the other, in order of arrival, but the
    first request of each visitor before the second of any other; requests that take milliseconds
    are only counted. Long runs have it batch by batch: one batch at a time, the run that has waited
    longest first, and none while a request runs or waits, except after `MAX_WAIT_S`. The visitor is
    the `current_visitor` of the waiting thread; a thread without one counts as another visitor.

    Any thread may enter or leave the contexts. `cancel` ends their wait with `Cancelled`.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._visitors = 0
        self._line: deque[object] = deque()
        self._alone: list[tuple[object, Hashable]] = []
        self._places: Counter[Hashable] = Counter()

    @contextmanager
    def visitor(self) -> Iterator[None]:
        """Count a request for the duration of the block."""
        with self._changed:
            self._visitors += 1
        try:
            yield
        finally:
            with self._changed:
                self._visitors -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(
        self, cancel: CancelToken, report: Callable[[int], None] = lambda ahead: None
    ) -> Iterator[None]:
        """Wait for all earlier requests, and count as a request for the duration of the block.

        `report` is called with the number of requests before this one, at the start of the wait and
        whenever it changes.
        """
        ticket = (object(), _current_visitor())
        with self.visitor():
            with self._changed:
                line = [visitor for _, visitor in self._alone]
                place = queue_position(line, ticket[1]) if line else 0
                self._alone.insert(place, ticket)
            try:
                self._await_requests(ticket, cancel, report)
                yield
            finally:
                with self._changed:
                    self._alone.remove(ticket)
                    self._changed.notify_all()

    def _await_requests(
        self,
        ticket: tuple[object, Hashable],
        cancel: CancelToken,
        report: Callable[[int], None],
    ) -> None:
        reported = 0
        with self._changed:
            while ahead := self._alone.index(ticket):
                cancel.check()
                if ahead != reported:
                    report(ahead)
                    reported = ahead
                self._changed.wait(POLL_S)

    @contextmanager
    def run_slot(self, cancel: CancelToken) -> Iterator[None]:
        """Wait until few enough long runs are active, and count as one during the block."""
        visitor = _current_visitor()
        with self._changed:
            while self._places.total() >= NUM_PLACES or self._places[visitor] >= PLACES_OF_ONE:
                cancel.check()
                self._changed.wait(POLL_S)
            self._places[visitor] += 1
        try:
            yield
        finally:
            with self._changed:
                self._places[visitor] -= 1
                self._places += Counter()  # drops zero counts
                self._changed.notify_all()

    @contextmanager
    def batch(self, cancel: CancelToken = NEVER) -> Iterator[None]:
        """Wait for the turn of a batch and keep it for the duration of the block."""
        ticket = object()
        with self._changed:
            self._line.append(ticket)
        try:
            self._await_batch(ticket, cancel)
            yield
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _await_batch(self, ticket: object, cancel: CancelToken) -> None:
        first_since: float | None = None
        with self._changed:
            while True:
                cancel.check()
                if self._line[0] is ticket:
                    now = time.monotonic()
                    first_since = now if first_since is None else first_since
                    if not self._visitors or now - first_since >= MAX_WAIT_S:
                        return
                self._changed.wait(POLL_S)


def _current_visitor() -> Hashable:
    visitor = current_visitor.get()
    return object() if visitor is None else visitor


#: `omp_pause_soft` of OpenMP 5.0.
_SOFT = 1


def release_threads() -> None:
    """End the OpenMP threads of the calling thread.

    OpenMP keeps threads for every thread that has computed. If they outnumber the cores, GNU's
    OpenMP puts them to sleep at each barrier, which costs a decoding step a tenth of its time.
    Ending and restarting them takes microseconds. Not allowed in a process that was forked by a
    thread that had computed.
    """
    if "torch" in sys.modules and (pause := _pause()) is not None:
        pause(_SOFT)


@cache
def _pause() -> Callable[[int], int] | None:
    """Return `omp_pause_resource_all` of GNU's OpenMP if torch has loaded it."""
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:
        return None
    return getattr(library, "omp_pause_resource_all", None)
