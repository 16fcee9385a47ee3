"""Streaming text from `generate`, stopped within one token when the reader goes away."""

from collections.abc import Iterator
from threading import Event, Thread
from typing import Any


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
