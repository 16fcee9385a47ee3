"""Streaming text from `generate`, stopped within one token when the reader goes away."""

from collections.abc import Callable, Iterator
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, TypeVar

#: Seconds between two signs of life of work that has nothing to say.
HEARTBEAT_S = 0.25

Item = TypeVar("Item")

#: Comes after the last item.
_END = object()


def stream_generate(model: Any, streamer: Any, **inputs: Any) -> Iterator[str]:
    """Yield text while `model.generate` runs; closing the iterator stops it within one token.

    No lock, `inference_mode` or autocast is held across a `yield`: Gradio advances a generator
    from whichever worker thread is free and may close it from another.

    Args:
        model: anything with transformers' `generate`.
        streamer: an iterable streamer with `end()`, such as `TextIteratorStreamer`.
        inputs: arguments of `generate`.

    Yields:
        The non-empty pieces of text, in order.

    Raises:
        Exception: whatever `generate` raised, but in the caller's thread.
    """
    from transformers import StoppingCriteriaList

    stop = Event()
    failures: list[BaseException] = []
    criteria = StoppingCriteriaList([_stop_when_set(stop)])

    def work() -> None:
        try:
            model.generate(**inputs, streamer=streamer, stopping_criteria=criteria)
        except BaseException as error:
            failures.append(error)
            streamer.end()  # otherwise the reader below waits for ever

    worker = Thread(target=work, name="generate", daemon=True)
    worker.start()
    try:
        for piece in streamer:
            if piece:
                yield piece
    finally:  # also runs on GeneratorExit: the visitor pressed Stop or left
        stop.set()
        worker.join()
    if failures:
        raise failures[0]


def _stop_when_set(stop: Event) -> Any:
    """Return a stopping criterion that ends every row of the batch once `stop` is set."""
    import torch
    from transformers import StoppingCriteria

    class StopWhenSet(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            return torch.full((input_ids.shape[0],), stop.is_set(), device=input_ids.device)

    return StopWhenSet()


def stream_work(
    work: Callable[[Callable[[Item], None], Callable[[], bool]], None],
) -> Iterator[Item | None]:
    """Run `work` in a thread of its own; closing the iterator tells it to stop, and waits for it.

    For work that takes long before it has anything to say, so that whoever reads this can close
    it a few times a second.

    Args:
        work: called with `emit`, which hands on an item, and `should_stop`, which is true once
            the iterator is closed.

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

    worker = Thread(target=run, name="work", daemon=True)
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
        worker.join()
    if failures:
        raise failures[0]
