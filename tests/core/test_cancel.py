"""Cancel tokens: from any thread, by a condition, while a thread sleeps."""

import pickle
import threading
import time

import pytest

from pipelines.core.cancel import NEVER, Cancelled, CancelToken


def test_a_cancelled_token_raises_at_its_next_check() -> None:
    token = CancelToken()
    token.check()
    assert not token.is_cancelled
    token.cancel()
    assert token.is_cancelled and not NEVER.is_cancelled
    with pytest.raises(Cancelled):
        token.check()
    with pytest.raises(Cancelled):
        token.wait(0.0)


def test_a_condition_cancels_and_is_asked_at_every_check() -> None:
    answers = iter([False, False, True])
    token = CancelToken(lambda: next(answers))
    token.check()
    assert not token.is_cancelled
    with pytest.raises(Cancelled):
        token.check()


@pytest.mark.parametrize("by_condition", [False, True])
def test_a_sleeping_thread_is_woken(by_condition: bool) -> None:
    left = threading.Event()
    token = CancelToken(left.is_set) if by_condition else CancelToken()
    threading.Timer(0.1, left.set if by_condition else token.cancel).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        token.wait(30.0)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("token", [CancelToken(), CancelToken(lambda: False)])
def test_a_wait_takes_its_time(token: CancelToken) -> None:
    start = time.monotonic()
    token.wait(0.12)
    assert time.monotonic() - start >= 0.12


def test_no_handler_of_failures_catches_it_and_it_leaves_a_process() -> None:
    assert not issubclass(Cancelled, Exception)
    assert type(pickle.loads(pickle.dumps(Cancelled()))) is Cancelled
