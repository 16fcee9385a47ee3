"""All visitors take turns, however many requests one of them has sent."""

import random
from collections import defaultdict
from collections.abc import Callable

from pipelines.compute.background import stream_work
from pipelines.core.cancel import CancelToken
from pipelines.core.visitor import current_visitor, queue_position


def line_of(arrivals: str) -> str:
    line: list[str] = []
    for visitor in arrivals:
        line.insert(queue_position(line, visitor), visitor)
    return "".join(line)


def test_each_first_request_comes_before_anybodys_second() -> None:
    assert line_of("abc") == "abc"
    assert line_of("aaab") == "abaa"
    assert line_of("aaabbb") == "ababab"
    assert line_of("aaabbc") == "abcaba"
    assert line_of("") == ""


def test_everybody_is_served_in_their_own_order_and_nobody_waits_for_ever() -> None:
    rng = random.Random(7)
    line: list[tuple[str, int]] = []
    sent: dict[str, int] = defaultdict(int)
    served: dict[str, int] = defaultdict(int)
    waits: list[int] = []
    flood = [("flood", number) for number in range(40)]
    for request in flood:
        line.insert(queue_position([visitor for visitor, _ in line], "flood"), request)
    for step in range(2000):  # each second turn somebody new comes, or one of ten others
        visitor = f"new {step}" if step % 2 else f"known {rng.randrange(10)}"
        request = (visitor, sent[visitor])
        sent[visitor] += 1
        line.insert(queue_position([each for each, _ in line], visitor), request)
        visitor, number = line.pop(0)
        assert number == served[visitor], "one visitor's requests stay in their order"
        served[visitor] += 1
        if visitor == "flood":
            waits.append(step)
    gaps = [later - earlier for earlier, later in zip(waits, waits[1:], strict=False)]
    assert served["flood"] == 40
    assert max(gaps) < 60, "as many come as go, yet its turn comes again and again"


def test_the_visitor_is_known_in_a_thread_of_work() -> None:
    def work(emit: Callable[[str | None], None], cancel: CancelToken) -> None:
        emit(current_visitor.get())

    token = current_visitor.set("somebody")
    try:
        found = [item for item in stream_work(work) if item is not None]
    finally:
        current_visitor.reset(token)
    assert found == ["somebody"]
