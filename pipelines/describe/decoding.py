"""How tokens are chosen, when to stop, and how they become pieces of text."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from queue import Queue
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria, TopPLogitsWarper
from transformers.generation.streamers import BaseStreamer

from pipelines.generation import GenerationOptions
from pipelines.loops import LoopGuard
from pipelines.streaming import stream_work

Decode = Callable[[list[int]], str]


class SeededSampling(LogitsProcessor):
    """Makes greedy decoding draw at random, each row from its own seed.

    Adding Gumbel noise to the logits and taking the largest draws from their softmax. A row's
    noise depends on its seed and on how many tokens came before alone, so a text is the same
    whoever else is in the batch, and no other request's draws move it.
    """

    def __init__(self, options: GenerationOptions, seeds: Sequence[int]) -> None:
        """Draw with `options`' temperature and top_p; `seeds` has one for each row."""
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


class StopLoops(StoppingCriteria):
    """Ends each row that has begun to repeat itself, or has reached a stop."""

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


class StopWhenTold(StoppingCriteria):
    """Ends every row once a function says so."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        """Ask `should_stop` before each token."""
        self._should_stop = should_stop

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Return (rows,) bool for ids of shape (rows, length)."""
        return torch.full((input_ids.shape[0],), self._should_stop(), device=input_ids.device)


def watch_generate(model: Any, **inputs: Any) -> Generator[None, None, torch.Tensor]:
    """Run `model.generate`, yielding a few times a second; returns its tokens.

    For what cannot be streamed: whoever reads this may close it at each yield, and the
    computation stops within one token.

    Raises:
        Exception: whatever `generate` raised, in the caller's thread.
    """
    made: list[torch.Tensor] = []
    criteria = inputs.pop("stopping_criteria", ())

    def work(emit: Callable[[None], None], should_stop: Callable[[], bool]) -> None:
        stopping = [*criteria, StopWhenTold(should_stop)]
        made.append(model.generate(**inputs, stopping_criteria=stopping))

    with closing(stream_work(work)) as beats:  # type: ignore[type-var]
        yield from beats
    return made[0]


class PieceStreamer(BaseStreamer):
    """Takes tokens from `generate` and gives pieces of text that stay as they are."""

    def __init__(self, decode: Decode, guard: LoopGuard) -> None:
        """Decode with `decode`, hold back with `guard`; `ids` collects the tokens."""
        self._decode = decode
        self._guard = guard
        self._pieces: Queue[str | None] = Queue()
        self._prompt_came = False
        self.ids: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        """Take one token; the first call is the prompt, or the decoder's start."""
        if not self._prompt_came:
            self._prompt_came = True
            return
        self.ids += value.reshape(-1).tolist()
        self._pieces.put(self._guard.feed(self._decode(self.ids).lstrip()))
        if self._guard.finish is not None:
            self._pieces.put(None)

    def end(self) -> None:
        """Give what was held back, and end."""
        self._pieces.put(self._guard.end(self._decode(self.ids).strip()))
        self._pieces.put(None)

    def __iter__(self) -> Iterator[str]:
        """Yield the pieces, some of them empty, until the text has ended."""
        while (piece := self._pieces.get()) is not None:
            yield piece
