"""Whose turn it is at the device: visitors who wait come before long batches."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.visitor import current_visitor, queue_position

#: Longest that visitors, one after the other, keep one batch of a long run waiting.
MAX_WAIT_S = 20.0

#: Long runs that are under way at once, each with pictures in memory; the others wait for a place.
#: One visitor has at most half of them, so that another's first run can begin.
NUM_PLACES, PLACES_OF_ONE = 4, 2

#: Seconds between two checks of the token of a waiting run.
LOOK_S = 0.1


class DeviceQueue:
    """Orders those who use the device.

    Requests whose work takes seconds have the device one after the other: as they came, but each
    visitor's first before anybody's second; those with milliseconds of work are only counted. Long
    runs come batch by batch: one batch at a time, the run that has waited longest first, and none
    while a visitor is being answered or waits, except after `MAX_WAIT_S`. Whose a request or a run
    is, `fairness.asking` tells in the thread that waits; without it each is another visitor's.
    """

    def __init__(self) -> None:
        """Nobody is there yet."""
        self._changed = threading.Condition()
        self._visitors = 0
        self._line: deque[object] = deque()
        self._alone: list[tuple[object, Hashable]] = []
        self._places: Counter[Hashable] = Counter()

    @contextmanager
    def visitor(self) -> Iterator[None]:
        """Count a visitor for the length of the block; any thread may enter or leave it."""
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
        tell: Callable[[int], None] = lambda ahead: None,
    ) -> Iterator[None]:
        """Wait for all whose turn is earlier, and be a visitor for the length of the block.

        Any thread may enter or leave it.

        Args:
            cancel: ends the wait.
            tell: called with the number of requests before this one, whenever it is another.

        Raises:
            Cancelled: `cancel` is cancelled.
        """
        ticket = (object(), _who_asks())
        with self.visitor():
            with self._changed:
                line = [whose for _, whose in self._alone]
                place = queue_position(line, ticket[1]) if line else 0
                self._alone.insert(place, ticket)
            try:
                self._await_visitors(ticket, cancel, tell)
                yield
            finally:
                with self._changed:
                    self._alone.remove(ticket)
                    self._changed.notify_all()

    def _await_visitors(
        self,
        ticket: tuple[object, Hashable],
        cancel: CancelToken,
        tell: Callable[[int], None],
    ) -> None:
        told = 0
        with self._changed:
            while ahead := self._alone.index(ticket):
                cancel.check()
                if ahead != told:
                    tell(ahead)
                    told = ahead
                self._changed.wait(LOOK_S)

    @contextmanager
    def place(self, cancel: CancelToken) -> Iterator[None]:
        """Wait until few enough long runs are under way, and be one for the length of the block.

        Args:
            cancel: ends the wait.

        Raises:
            Cancelled: `cancel` is cancelled.
        """
        whose = _who_asks()
        with self._changed:
            while self._places.total() >= NUM_PLACES or self._places[whose] >= PLACES_OF_ONE:
                cancel.check()
                self._changed.wait(LOOK_S)
            self._places[whose] += 1
        try:
            yield
        finally:
            with self._changed:
                self._places[whose] -= 1
                self._places += Counter()  # forgets who has none
                self._changed.notify_all()

    @contextmanager
    def batch(self, cancel: CancelToken = NEVER) -> Iterator[None]:
        """Wait for the turn of a batch and keep it for the length of the block.

        Args:
            cancel: ends the wait.

        Raises:
            Cancelled: `cancel` is cancelled.
        """
        ticket = object()
        with self._changed:
            self._line.append(ticket)
        try:
            self._await(ticket, cancel)
            yield
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _await(self, ticket: object, cancel: CancelToken) -> None:
        first_since: float | None = None
        with self._changed:
            while True:
                cancel.check()
                if self._line[0] is ticket:
                    now = time.monotonic()
                    first_since = now if first_since is None else first_since
                    if not self._visitors or now - first_since >= MAX_WAIT_S:
                        return
                self._changed.wait(LOOK_S)


def _who_asks() -> Hashable:
    """Return whom this thread works for, somebody new where nobody knows."""
    visitor = current_visitor.get()
    return object() if visitor is None else visitor
