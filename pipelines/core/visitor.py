"""Whose request is next, where one visitor may have sent many."""

from collections import Counter
from collections.abc import Hashable, Sequence
from contextvars import ContextVar

#: Who is being answered: a name for one visit of a page or one client; None if nobody knows.
asking: ContextVar[str | None] = ContextVar("asking", default=None)


def place_in_line(line: Sequence[Hashable], visitor: Hashable) -> int:
    """Return where in a line a newcomer stands, so that all visitors take turns.

    The first request of each visitor comes before anybody's second one, the second before
    anybody's third, and so on; nobody is overtaken by requests that rank behind theirs, and who
    has come to be the first of a visitor is overtaken by nobody any more.

    Args:
        line: whose the requests are that wait, the next one first.
        visitor: whose the new one is.
    """
    own = [place for place, other in enumerate(line) if other == visitor]
    before: Counter[Hashable] = Counter()
    for place, other in enumerate(line):
        if before[other] > len(own) and (not own or place > own[-1]):
            return place
        before[other] += 1
    return len(line)
