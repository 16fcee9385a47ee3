"""Queue for the compute device: requests of visitors come before batches of long runs."""

import ctypes
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import inf

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.visitor import current_visitor, queue_position

#: Longest time that requests keep one batch of a long run waiting.
MAX_WAIT_S = 20.0

#: Most active long runs, as each holds images in memory, and most of one visitor: half of them, so
#: that another visitor's first run can begin.
NUM_PLACES, PLACES_OF_ONE = 4, 2

#: Seconds of a request after which it lets those of other visitors go first.
GIVE_WAY_S = 2.0

#: Seconds between two checks of the token of whatever waits.
POLL_S = 0.1


@dataclass(eq=False)
class DeviceTurn:
    """Place of a request in the line for the device.

    Attributes:
        visitor: who asks.
        fits: whether the model of the request can be loaded beside those in use.
        since_s: when the request had the device first, on the monotonic clock.
    """

    visitor: Hashable
    fits: Callable[[], bool]
    since_s: float = inf


class DeviceQueue:
    """Order of those who use the device.

    Requests that take seconds have the device one after the other, in order of arrival, but the
    first request of each visitor before the second of any other; a long one gives way between its
    steps. Requests that take milliseconds are only counted. Long runs have it batch by batch: one
    batch at a time, the run that has waited longest first, and none while a request runs or waits,
    except after `MAX_WAIT_S`. The visitor is the `current_visitor` of the waiting thread; a thread
    without one counts as another visitor.

    Any thread may enter or leave the contexts. `cancel` ends their wait with `Cancelled`.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._visitors = 0
        self._line: deque[object] = deque()
        self._alone: list[DeviceTurn] = []
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
        self,
        cancel: CancelToken,
        report: Callable[[int], None] = lambda ahead: None,
        fits: Callable[[], bool] = lambda: True,
    ) -> Iterator[DeviceTurn]:
        """Wait for all earlier requests, and count as a request for the duration of the block.

        `report` is called with the number of requests before this one, at the start of the wait and
        whenever it changes. A longer request gives way only if the model of this one `fits`.
        """
        turn = DeviceTurn(_current_visitor(), fits)
        with self.visitor():
            with self._changed:
                line = [each.visitor for each in self._alone]
                place = queue_position(line, turn.visitor) if line else 0
                self._alone.insert(place, turn)
            try:
                self._await_requests(turn, cancel, report)
                yield turn
            finally:
                with self._changed:
                    self._alone.remove(turn)
                    self._changed.notify_all()

    def _await_requests(
        self, turn: DeviceTurn, cancel: CancelToken, report: Callable[[int], None]
    ) -> None:
        reported = 0
        with self._changed:
            while ahead := self._alone.index(turn):
                cancel.check()
                if ahead != reported:
                    report(ahead)
                    reported = ahead
                self._changed.wait(POLL_S)
            turn.since_s = time.monotonic()

    def give_way(self, turn: DeviceTurn) -> bool:
        """Let a waiting request of another visitor go before a long one, between two of its steps.

        Returns whether one goes first; the long one goes on when `num_ahead` is 0, for a step at
        least.
        """
        if time.monotonic() - turn.since_s < GIVE_WAY_S:
            return False
        with self._changed:
            waiting = [each for each in self._alone[1:] if each.visitor != turn.visitor]
        other = next((each for each in waiting if each.fits()), None)
        with self._changed:
            if other is None or other not in self._alone:
                return False
            self._alone.remove(other)
            self._alone.insert(0, other)
            self._changed.notify_all()
            return True

    def num_ahead(self, turn: DeviceTurn) -> int:
        """Return the number of requests before one, after a short wait if there are any."""
        with self._changed:
            if self._alone[0] is not turn:
                self._changed.wait(POLL_S)
            return self._alone.index(turn)

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
