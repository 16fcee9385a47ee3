"""Work in a background thread, cancelled when the reader of its items leaves."""

from collections.abc import Callable, Generator
from contextlib import closing
from contextvars import copy_context
from queue import Empty, Queue
from threading import Thread
from typing import Any, TypeVar

from pipelines.core.cancel import CancelToken

#: Seconds between two signs of life of work that has nothing to say.
HEARTBEAT_S = 0.25

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Comes after the last item.
_END = object()


def stream_work(
    work: Callable[[Callable[[Item], None], CancelToken], None],
    *,
    linger: bool = True,
) -> Generator[Item | None, None, None]:
    """Run `work` in a background thread; closing the iterator cancels it and waits for its end.

    For work that takes long before its first item, so that the reader can close the iterator a
    few times a second. No lock, `inference_mode` or autocast is held across a `yield`: Gradio
    advances a generator from any free worker thread and may close it from another one. The
    thread works for the visitor of this one (`visitor.asking`).

    Args:
        work: called with `emit`, which yields an item, and a token that closing the iterator
            cancels.
        linger: whether closing waits for the end of `work`.

    Yields:
        The items, in order; None every `HEARTBEAT_S` without one.

    Raises:
        Exception: the error of `work`, in the caller's thread, after its items.
    """
    cancel = CancelToken()
    items: Queue[Any] = Queue()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work(items.put, cancel)
        except BaseException as error:
            if not cancel.is_cancelled:  # else nobody reads it, and its traceback keeps memory
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
    finally:  # also runs on GeneratorExit: the visitor pressed Stop or left
        cancel.cancel()
        if linger:
            worker.join()
    if failures:
        raise failures[0]


def await_work(work: Callable[[CancelToken], Result], sign: Item) -> Generator[Item, None, Result]:
    """Run `work` as `stream_work` does, and return its result.

    Args:
        work: called with a token that closing the iterator cancels.
        sign: yielded a few times a second.

    Raises:
        Exception: the error of `work`, in the caller's thread.
    """
    made: list[Result] = []

    def run(emit: Callable[[None], None], cancel: CancelToken) -> None:
        made.append(work(cancel))

    with closing(stream_work(run)) as signs:
        for _ in signs:
            yield sign
    return made[0]
