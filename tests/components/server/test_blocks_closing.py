"""A request that is stopped keeps nobody else waiting while its work ends."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from gradio import utils

from components.server.gradio_internals import close_in_thread, close_off_the_loop


def test_the_loop_goes_on_while_work_ends() -> None:
    closed_in: list[str] = []

    def work() -> Iterator[int]:
        try:
            yield 1
        finally:
            time.sleep(1.0)
            closed_in.append(threading.current_thread().name)

    async def stop() -> int:
        iterator = utils.SyncToAsyncIterator(work(), None)
        assert next(iterator.iterator) == 1
        closing = asyncio.ensure_future(close_in_thread(iterator))
        turns = 0
        while not closing.done():
            await asyncio.sleep(0.01)
            turns += 1
        await closing
        return turns

    assert asyncio.run(stop()) >= 5
    assert closed_in != [threading.main_thread().name]


def test_a_generator_that_a_thread_is_in_is_closed_once_it_is_left() -> None:
    inside, done = threading.Event(), threading.Event()

    def work() -> Iterator[int]:
        inside.set()
        done.wait(30)
        yield 1

    generator = work()
    iterator = utils.SyncToAsyncIterator(generator, None)
    reader = threading.Thread(target=lambda: next(generator))
    reader.start()
    inside.wait(30)
    with pytest.raises(ValueError, match="already executing"):
        asyncio.run(close_in_thread(iterator, timeout=0.1))
    threading.Timer(0.2, done.set).start()
    asyncio.run(close_in_thread(iterator))
    reader.join()
    with pytest.raises(StopIteration):
        next(generator)


def test_gradio_closes_that_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils.SyncToAsyncIterator, "aclose", None)
    close_off_the_loop()
    assert utils.SyncToAsyncIterator.aclose is close_in_thread
