"""Sampling, stop criteria and streaming of generated texts."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import torch
from transformers import LogitsProcessor, StoppingCriteria, TopPLogitsWarper
from transformers.generation.streamers import BaseStreamer

from pipelines.compute.background import stream_work
from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.options import GenerationOptions
from pipelines.models.repetition import LoopGuard

#: The token of each thread's run; several threads may compute with one model.
_run = threading.local()


@contextmanager
def cancellable(cancel: CancelToken) -> Iterator[None]:
    """Check `cancel` before each layer that this thread computes within the block.

    Only layers of models passed to `watch_layers` are checked.
    """
    _run.cancel = cancel
    try:
        yield
    finally:
        del _run.cancel


def current_token() -> CancelToken:
    """Return the cancel token of this thread's run."""
    token: CancelToken = getattr(_run, "cancel", NEVER)
    return token


def watch_layers(model: torch.nn.Module) -> None:
    """Register the check before every layer of a model."""
    for module in list(model.modules()):
        if isinstance(module, torch.nn.ModuleList):
            for layer in module:
                layer.register_forward_pre_hook(_check)


def _check(*_: Any) -> None:
    current_token().check()


Decode = Callable[[list[int]], str]
Piece = TypeVar("Piece")
Result = TypeVar("Result")


class SeededSampling(LogitsProcessor):
    """Random sampling for greedy decoding, with a seed for each row.

    The largest of the logits plus Gumbel noise is a draw from their softmax. A row's noise depends
    only on its seed and its number of previous tokens, so that neither the batch nor other requests
    change a text.
    """

    def __init__(self, options: GenerationOptions, seeds: Sequence[int]) -> None:
        """Use `options`' temperature and top_p; `seeds` has one for each row."""
        self._temperature = options.temperature
        self._top_p = TopPLogitsWarper(options.top_p) if options.top_p < 1.0 else None
        self._seeds = list(seeds)
        self._generators = {seed: torch.Generator().manual_seed(seed) for seed in set(seeds)}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return noisy logits, (rows, vocabulary) float32, for logits of that shape."""
        scores = scores.float() / self._temperature
        if self._top_p is not None:
            scores = self._top_p(input_ids, scores)
        size = scores.shape[-1]
        noise = {seed: _gumbel(size, source) for seed, source in self._generators.items()}
        return scores + torch.stack([noise[seed] for seed in self._seeds]).to(scores.device)


def _gumbel(size: int, source: torch.Generator) -> torch.Tensor:
    uniform = torch.rand(size, generator=source, dtype=torch.float64)
    return -torch.log(-torch.log(uniform.clamp(1e-300, 1.0 - 1e-16))).float()


class StopOnRepetition(StoppingCriteria):
    """Ends each row that repeats itself or has reached a stop."""

    def __init__(self, decode: Decode, stops: Sequence[str], rows: int, skip: int) -> None:
        """Watch `rows` rows; the first `skip` tokens of each are not part of the text."""
        self._decode = decode
        self._guards = [LoopGuard(stops) for _ in range(rows)]
        self._skip = skip

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Return (rows,) bool for ids of shape (rows, length)."""
        ended = []
        for guard, ids in zip(self._guards, input_ids[:, self._skip :].tolist(), strict=True):
            guard.feed(self._decode(ids).lstrip())
            ended.append(guard.finish is not None)
        return torch.tensor(ended, device=input_ids.device)


class StopOnCancel(StoppingCriteria):
    """Ends every row once a token is cancelled."""

    def __init__(self, cancel: CancelToken) -> None:
        self._cancel = cancel

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Return (rows,) bool for ids of shape (rows, length)."""
        return torch.full((input_ids.shape[0],), self._cancel.is_cancelled, device=input_ids.device)


def generate(model: Any, **inputs: Any) -> torch.Tensor:
    """Return the tokens of `model.generate`, fewer once this thread's run is cancelled."""
    criteria = [*inputs.pop("stopping_criteria", ()), StopOnCancel(current_token())]
    tokens: torch.Tensor = model.generate(**inputs, stopping_criteria=criteria)
    return tokens


def stream_generation(
    work: Callable[[Callable[[Piece], None]], Result],
) -> Generator[Piece | None, None, Result]:
    """Run `work` in a background thread; yield the pieces it emits, and None as a heartbeat.

    Closing the generator stops the computation within a layer and waits for its end.

    Raises:
        Exception: the error of `work`.
    """
    results: list[Result] = []

    def run(emit: Callable[[Piece], None], cancel: CancelToken) -> None:
        with cancellable(cancel):
            results.append(work(emit))

    with closing(stream_work(run)) as pieces:
        yield from pieces
    return results[0]


class PieceStreamer(BaseStreamer):
    """Streamer for `generate` that emits final pieces of text."""

    def __init__(self, decode: Decode, guard: LoopGuard, emit: Callable[[str], None]) -> None:
        self._decode = decode
        self._guard = guard
        self._emit = emit
        self._started = False
        self.ids: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        """Take one token; the first call is the prompt or the decoder's start."""
        if not self._started:
            self._started = True
            return
        self.ids += value.reshape(-1).tolist()
        self._emit(self._guard.feed(self._decode(self.ids).lstrip()))

    def end(self) -> None:
        """Emit the rest of the text."""
        self._emit(self._guard.end(self._decode(self.ids).strip()))


class StopGuarded(StoppingCriteria):
    """Ends the only row once its guard, which is fed elsewhere, has found an end."""

    def __init__(self, guard: LoopGuard) -> None:
        self._guard = guard

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Return (1,) bool for ids of shape (1, length)."""
        return torch.full((1,), self._guard.finish is not None, device=input_ids.device)
