"""Requests at the same time share a batch; each gets its own results or its own error."""

import threading
import time
from typing import Any

import pytest
import torch

from pipelines.compute.micro_batches import MicroBatcher


def ask_all(batcher: MicroBatcher[Any, Any], requests: list[list[Any]]) -> list[Any]:
    answers: list[Any] = [None] * len(requests)

    def ask(index: int) -> None:
        try:
            answers[index] = batcher(requests[index])
        except Exception as error:
            answers[index] = error

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return answers


class Gate:
    """A `run` that notes its batches and holds the first until it is told to go on."""

    def __init__(self, bad: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.started, self.go_on = threading.Event(), threading.Event()
        self._bad = bad

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        if not self.started.is_set():
            self.started.set()
            assert self.go_on.wait(10)
        if self._bad in items:
            raise ValueError(f"no {self._bad}")
        return [item * 10 for item in items]


def ask_behind(gate: Gate, batcher: MicroBatcher[int, int], requests: list[list[int]]) -> list[Any]:
    """Ask all while one request, of the item 0, is held at the gate; then open it."""
    opener = threading.Thread(target=batcher, args=([0],))
    opener.start()
    assert gate.started.wait(10)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.extend(ask_all(batcher, requests)))
    asking.start()
    while len(batcher._waiting) < len(requests):
        time.sleep(0.001)
    gate.go_on.set()
    for thread in (opener, asking):
        thread.join(30)
        assert not thread.is_alive()
    return answers


def test_everybody_gets_their_own() -> None:
    batcher = MicroBatcher[int, int](lambda items: [item * item for item in items], max_items=8)
    requests = [[i, i + 1, i + 2] for i in range(40)]
    assert ask_all(batcher, requests) == [[i * i for i in request] for request in requests]


def test_requests_with_equal_tensors_are_told_apart() -> None:
    """Tickets were found by equality: tensors have no truth value, so most requests failed."""

    def double(items: list[torch.Tensor]) -> list[torch.Tensor]:
        time.sleep(0.002)
        return [item * 2 for item in items]

    batcher = MicroBatcher[torch.Tensor, torch.Tensor](double, max_items=8)
    for values in ([1.0] * 24, [float(i) for i in range(24)]):
        answers = ask_all(batcher, [[torch.full((4,), value)] for value in values])
        found = [float(answer[0][0]) for answer in answers]
        assert found == [value * 2 for value in values]
    assert batcher._waiting == []


def test_those_who_wait_are_run_together() -> None:
    gate = Gate()
    answers = ask_behind(
        gate, MicroBatcher[int, int](gate, max_items=4), [[i] for i in range(1, 7)]
    )
    assert answers == [[i * 10] for i in range(1, 7)]
    assert [len(batch) for batch in gate.batches] == [1, 4, 2]


def test_a_request_is_not_torn_apart_to_fill_a_batch() -> None:
    gate = Gate()
    requests = [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    ask_behind(gate, MicroBatcher[int, int](gate, max_items=7), requests)
    assert sorted(len(batch) for batch in gate.batches) == [1, 3, 6]
    assert all(batch.count(i) in {0, 3} for batch in gate.batches for i in (1, 2, 3))


def test_a_lone_request_does_not_wait() -> None:
    gate = Gate()
    gate.go_on.set()
    batcher = MicroBatcher[int, int](gate)
    start = time.perf_counter()
    for i in range(200):
        assert batcher([i]) == [i * 10]
    assert time.perf_counter() - start < 1.0, "there is no pause to gather company"
    assert [len(batch) for batch in gate.batches] == [1] * 200


def test_a_bad_request_spoils_no_other_and_costs_one_batch() -> None:
    """Whoever was in a failed batch ran in one batch after another with the culprit."""
    for bad in (1, 7, 13):
        gate = Gate(bad)
        batcher = MicroBatcher[int, int](gate, max_items=32)
        answers = ask_behind(gate, batcher, [[i] for i in range(1, 14)])
        assert isinstance(answers[bad - 1], ValueError)
        assert [a for a in answers if isinstance(a, list)] == [
            [i * 10] for i in range(1, 14) if i != bad
        ]
        assert sorted(len(batch) for batch in gate.batches) == [1] * 14 + [13]
        assert batcher([5]) == [50]


def test_a_large_request_is_cut_into_batches() -> None:
    gate = Gate()
    gate.go_on.set()
    assert MicroBatcher[int, int](gate, max_items=8)(range(20)) == [i * 10 for i in range(20)]
    assert [len(batch) for batch in gate.batches] == [8, 8, 4]


def test_an_error_of_a_lone_request_is_its_own() -> None:
    gate = Gate(bad=1)
    gate.go_on.set()
    batcher = MicroBatcher[int, int](gate)
    with pytest.raises(ValueError, match="no 1"):
        batcher([1])
    assert batcher._waiting == []
    assert batcher([2]) == [20]
