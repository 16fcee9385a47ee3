"""Visitors first, batches in fair turns, nobody for ever."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import pipelines.serving.device_queue
from pipelines.core.cancel import NEVER, Cancelled, CancelToken
from pipelines.core.visitor import current_visitor
from pipelines.serving.device_queue import NUM_PLACES, PLACES_OF_ONE, DeviceQueue

#: Seconds after which something that should come counts as not coming.
HANG_S = 10.0


@pytest.fixture
def turns() -> DeviceQueue:
    return DeviceQueue()


def wait_until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + HANG_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.005)


def start(*works: object) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, daemon=True) for work in works]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    return threads


def test_a_batch_waits_for_the_visitor(turns: DeviceQueue) -> None:
    log: list[str] = []

    def batch() -> None:
        with turns.batch():
            log.append("batch")

    with turns.visitor():
        (thread,) = start(batch)
        thread.join(0.4)
        assert thread.is_alive()
        log.append("visitor")
    thread.join(HANG_S)
    assert log == ["visitor", "batch"]


def test_a_visitor_never_waits(turns: DeviceQueue) -> None:
    with turns.batch(), turns.visitor(), turns.visitor():
        assert turns._visitors == 2
    assert turns._visitors == 0


def test_a_visitor_may_leave_in_another_thread(turns: DeviceQueue) -> None:
    """Gradio advances a generator in one thread and closes it in another."""

    def handler() -> Iterator[int]:
        with turns.visitor():
            yield 1
            yield 2

    steps = handler()
    (thread,) = start(lambda: next(steps))
    thread.join(HANG_S)
    assert turns._visitors == 1
    steps.close()
    assert turns._visitors == 0
    with turns.batch():
        assert turns._visitors == 0


def test_visitors_cannot_hold_a_batch_back_for_ever(
    turns: DeviceQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.serving.device_queue, "MAX_WAIT_S", 0.2)
    start = time.monotonic()
    with turns.visitor(), turns.batch():
        assert turns._visitors == 1, "the visitor is still there"
    assert time.monotonic() - start >= 0.2, "it did wait for the visitor"


def test_two_runs_take_turns(turns: DeviceQueue) -> None:
    log: list[str] = []

    def run(name: str) -> None:
        for _ in range(5):
            with turns.batch():
                log.append(name)
                time.sleep(0.05)

    for thread in start(lambda: run("a"), lambda: run("b")):
        thread.join(HANG_S)
    assert len(log) == 10
    assert all(log[i] != log[i + 1] for i in range(1, 8)), log


def test_one_batch_at_a_time(turns: DeviceQueue) -> None:
    inside, most = 0, 0

    def run() -> None:
        nonlocal inside, most
        for _ in range(20):
            with turns.batch():
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    for thread in start(*[run] * 4):
        thread.join(HANG_S)
    assert most == 1


def test_a_wait_that_is_given_up_holds_nobody(turns: DeviceQueue) -> None:
    gone = threading.Event()
    broken: list[bool] = []

    def run() -> None:
        try:
            with turns.batch(CancelToken(gone.is_set)):
                broken.append(False)
        except Cancelled:
            broken.append(True)

    with turns.batch():
        (thread,) = start(run)
        thread.join(0.2)
        gone.set()
        thread.join(HANG_S)
        assert broken == [True]
    with turns.batch():
        pass


def test_one_visitors_second_request_waits_for_anothers_first(turns: DeviceQueue) -> None:
    log: list[str] = []
    lines: list[threading.Thread] = []

    def ask(visitor: str, name: str) -> None:
        def work() -> None:
            current_visitor.set(visitor)
            with turns.alone(NEVER):
                log.append(name)

        num = len(turns._alone)
        lines.extend(start(work))
        wait_until(lambda: len(turns._alone) > num)

    with turns.alone(NEVER):
        for name in ("a1", "a2", "a3"):
            ask("a", name)
        ask("b", "b1")
        ask("b", "b2")
    for thread in lines:
        thread.join(HANG_S)
    assert log == ["a1", "b1", "a2", "b2", "a3"]


class LongRequest:
    """A request of visitor "long" that gives way between its steps, each of them logged."""

    def __init__(self, turns: DeviceQueue, log: list[str]) -> None:
        self.turns, self.log = turns, log

    def steps(self, num: int) -> None:
        current_visitor.set("long")
        with self.turns.alone(NEVER) as turn:
            for _ in range(num):
                self.log.append("step")
                if self.turns.give_way(turn):
                    while self.turns.num_ahead(turn):
                        pass


def log_after_steps(
    turns: DeviceQueue, visitors: list[str], num_steps: int, fits: bool = True
) -> list[str]:
    """Return the order of a long request's steps and the requests that wait from the start."""
    log: list[str] = []
    threads: list[threading.Thread] = []

    def ask(visitor: str) -> None:
        current_visitor.set(visitor)
        with turns.alone(NEVER, fits=lambda: fits):
            log.append(visitor)

    with turns.alone(NEVER):  # until all have come
        threads += start(partial(LongRequest(turns, log).steps, num_steps))
        wait_until(lambda: len(turns._alone) == 2)
        for number, visitor in enumerate(visitors):
            threads += start(partial(ask, visitor))
            wait_until(lambda number=number: len(turns._alone) == 3 + number)
    for thread in threads:
        thread.join(HANG_S)
    return log


def test_a_long_request_gives_way_and_goes_on_between_two_others(
    turns: DeviceQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.serving.device_queue, "GIVE_WAY_S", 0.0)
    assert log_after_steps(turns, ["a", "b"], 4) == ["step", "a", "step", "b", "step", "step"]


def test_a_short_request_does_not_give_way(turns: DeviceQueue) -> None:
    assert log_after_steps(turns, ["a"], 2) == ["step", "step", "a"]


def test_a_long_request_does_not_give_way_to_its_own_visitor(
    turns: DeviceQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.serving.device_queue, "GIVE_WAY_S", 0.0)
    assert log_after_steps(turns, ["long"], 2) == ["step", "step", "long"]


def test_a_long_request_does_not_give_way_to_a_model_without_room(
    turns: DeviceQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.serving.device_queue, "GIVE_WAY_S", 0.0)
    assert log_after_steps(turns, ["a"], 2, fits=False) == ["step", "step", "a"]


def test_one_visitor_leaves_places_for_others(turns: DeviceQueue) -> None:
    inside: list[str] = []
    leave = threading.Event()

    def run(visitor: str) -> None:
        current_visitor.set(visitor)
        with turns.run_slot(NEVER):
            inside.append(visitor)
            leave.wait(HANG_S)

    threads = start(*(partial(run, "a") for _ in range(NUM_PLACES)))
    wait_until(lambda: len(inside) == PLACES_OF_ONE)
    threads += start(partial(run, "b"))
    wait_until(lambda: "b" in inside)
    assert inside.count("a") == PLACES_OF_ONE
    leave.set()
    for thread in threads:
        thread.join(HANG_S)
    assert inside.count("a") == NUM_PLACES
    assert not turns._places, "nobody is remembered"
