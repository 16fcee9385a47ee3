"""Current visitor, and fair order of the requests of several visitors."""

from collections import Counter
from collections.abc import Hashable, Sequence
from contextvars import ContextVar

#: Id of the session or client of the current request; None if unknown.
current_visitor: ContextVar[str | None] = ContextVar("current_visitor", default=None)


def queue_position(queue: Sequence[Hashable], visitor: Hashable) -> int:
    """Return the position of a new request in a queue that serves visitors in rounds.

    `queue` has the visitors of the waiting requests, the next one first. First requests of all
    visitors precede second requests, which precede third ones, and so on. A visitor's first waiting
    request keeps its place ahead of all later arrivals.
    """
    own = [position for position, other in enumerate(queue) if other == visitor]
    before: Counter[Hashable] = Counter()
    for position, other in enumerate(queue):
        if before[other] > len(own) and (not own or position > own[-1]):
            return position
        before[other] += 1
    return len(queue)
