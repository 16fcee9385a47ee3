"""Work in a background thread, cancelled when the consumer closes the iterator."""

from collections.abc import Callable, Generator
from contextlib import closing
from contextvars import copy_context
from queue import Empty, Queue
from threading import Semaphore, Thread
from typing import Any, TypeVar

from pipelines.core.cancel import CancelToken

#: Maximum seconds between two yielded values.
HEARTBEAT_S = 0.25

Item = TypeVar("Item")
Result = TypeVar("Result")

_END = object()


def stream_work(
    work: Callable[[Callable[[Item], None], CancelToken], None],
    *,
    linger: bool = True,
    max_ahead: int = 0,
) -> Generator[Item | None, None, None]:
    """Run `work` in a background thread with the caller's context; closing the iterator cancels.

    `work` is called with `emit`, which yields an item, and a token that `close` cancels; `close`
    waits for the end of `work` if `linger`. With `max_ahead`, `emit` waits while more items have
    not been taken, so that `work` pauses when the consumer does. The iterator can be closed while
    `work` computes. No lock, `inference_mode` or autocast is held across a `yield`: Gradio advances
    and closes a generator from different threads.

    Yields:
        The items in order; None after each `HEARTBEAT_S` without an item.

    Raises:
        Exception: the error of `work`, after its items.
    """
    cancel = CancelToken()
    items: Queue[Any] = Queue()
    failures: list[BaseException] = []
    room = Semaphore(max_ahead)

    def emit(item: Item) -> None:
        items.put(item)
        while max_ahead and not room.acquire(timeout=HEARTBEAT_S):
            cancel.check()

    def run() -> None:
        try:
            work(emit, cancel)
        except BaseException as error:
            if not cancel.is_cancelled:  # else the traceback would only keep memory
                failures.append(error)
        finally:
            items.put(_END)

    worker = Thread(target=copy_context().run, args=(run,), name="work", daemon=True)
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
            room.release()
    finally:  # also runs on GeneratorExit: the visitor pressed Stop or left
        cancel.cancel()
        if linger:
            worker.join()
    if failures:
        raise failures[0]


def await_work(work: Callable[[CancelToken], Result], sign: Item) -> Generator[Item, None, Result]:
    """Run `work` as `stream_work` does; yield `sign` every `HEARTBEAT_S` and return the result.

    Raises:
        Exception: the error of `work`.
    """
    results: list[Result] = []

    def run(emit: Callable[[None], None], cancel: CancelToken) -> None:
        results.append(work(cancel))

    with closing(stream_work(run)) as signs:
        for _ in signs:
            yield sign
    return results[0]
