"""Requests at the same time share a batch; each gets its own results or its own error."""

import threading
from typing import Any

import pytest

from pipelines.batching import Batcher


def ask_all(batcher: Batcher[Any, Any], requests: list[list[Any]]) -> list[Any]:
    answers: list[Any] = [None] * len(requests)

    def ask(index: int) -> None:
        try:
            answers[index] = batcher(requests[index])
        except ValueError as error:
            answers[index] = error

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return answers


def test_everybody_gets_their_own() -> None:
    batcher = Batcher[int, int](lambda items: [item * item for item in items], max_items=8)
    requests = [[i, i + 1, i + 2] for i in range(40)]
    assert ask_all(batcher, requests) == [[i * i for i in request] for request in requests]


def test_those_who_wait_are_run_together() -> None:
    sizes: list[int] = []
    first_runs, go_on = threading.Event(), threading.Event()

    def run(items: list[int]) -> list[int]:
        sizes.append(len(items))
        first_runs.set()
        assert go_on.wait(10)
        return items

    batcher = Batcher[int, int](run, max_items=4)
    opener = threading.Thread(target=batcher, args=([0],))
    opener.start()
    assert first_runs.wait(10)
    others = [threading.Thread(target=batcher, args=([i],)) for i in range(6)]
    for thread in others:
        thread.start()
    while len(batcher._waiting) < 6:
        threading.Event().wait(0.01)
    go_on.set()
    for thread in [opener, *others]:
        thread.join(10)
    assert sizes == [1, 4, 2]


def test_a_bad_request_spoils_no_other() -> None:
    def run(items: list[int]) -> list[int]:
        if 13 in items:
            raise ValueError("13")
        return items

    for _ in range(5):
        batcher = Batcher[int, int](run, max_items=8)
        answers = ask_all(batcher, [[i] for i in range(20)])
        assert isinstance(answers[13], ValueError)
        assert [a for i, a in enumerate(answers) if i != 13] == [[i] for i in range(20) if i != 13]


def test_a_large_request_is_cut_into_batches() -> None:
    sizes: list[int] = []

    def run(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return items

    assert Batcher[int, int](run, max_items=8)(list(range(20))) == list(range(20))
    assert sizes == [8, 8, 4]


def test_an_error_of_a_lone_request_is_its_own() -> None:
    def run(items: list[int]) -> list[int]:
        raise ValueError("no")

    batcher = Batcher[int, int](run)
    with pytest.raises(ValueError, match="no"):
        batcher([1])
    assert batcher._waiting == []
