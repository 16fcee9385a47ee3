"""Work in a thread of its own, stopped when the reader of what it gives goes away."""

from collections.abc import Callable, Generator
from contextlib import closing
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, TypeVar

from pipelines.core.visitor import on_behalf

#: Seconds between two signs of life of work that has nothing to say.
HEARTBEAT_S = 0.25

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Comes after the last item.
_END = object()


def stream_work(
    work: Callable[[Callable[[Item], None], Callable[[], bool]], None],
    *,
    linger: bool = True,
) -> Generator[Item | None, None, None]:
    """Run `work` in a thread of its own; closing the iterator tells it to stop, and waits for it.

    For work that takes long before it has anything to say, so that whoever reads this can close
    it a few times a second. No lock, `inference_mode` or autocast is held across a `yield`: Gradio
    advances a generator from whichever worker thread is free and may close it from another. The
    thread works for who is asking here (`fairness.asking`).

    Args:
        work: called with `emit`, which hands on an item, and `should_stop`, which is true once
            the iterator is closed.
        linger: whether closing waits until `work` has stopped; else it may go on for a while.

    Yields:
        The items, in order; None, as a sign of life, where there was none for a while.

    Raises:
        Exception: whatever `work` raised, but in the caller's thread, after its items.
    """
    stop = Event()
    items: Queue[Any] = Queue()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work(items.put, stop.is_set)
        except BaseException as error:
            failures.append(error)
        finally:
            items.put(_END)

    worker = Thread(target=on_behalf(run), name="work", daemon=True)
    worker.start()
    try:
        while True:
            try:
                item = items.get(timeout=HEARTBEAT_S)
            except Empty:
                yield None
                continue
            if item is _END:
                break
            yield item
    finally:  # also runs on GeneratorExit: the visitor pressed Stop or left
        stop.set()
        if linger:
            worker.join()
    if failures:
        raise failures[0]


def stoppable(
    work: Callable[[Callable[[], bool]], Result], sign: Item
) -> Generator[Item, None, Result]:
    """Run `work` as `stream_work` does, and return what it returns.

    Args:
        work: called with `should_stop`, which is true once the iterator is closed.
        sign: yielded a few times a second.

    Raises:
        Exception: whatever `work` raised, but in the caller's thread.
    """
    made: list[Result] = []

    def run(emit: Callable[[None], None], should_stop: Callable[[], bool]) -> None:
        made.append(work(should_stop))

    with closing(stream_work(run)) as signs:
        for _ in signs:
            yield sign
    return made[0]
