"""Decoding: one token after the other, greedy or sampled, ended by closing the iterator."""

from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import InputError
from pipelines.models.videochat_flash.configuration_videochat_flash import (
    Dropping,
    GenerationDefaults,
)
from pipelines.models.videochat_flash.kv_cache import KeyValues
from pipelines.models.videochat_flash.modeling_language import VideoPrompt, prefill, step


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Options of decoding.

    Attributes:
        sample: whether tokens are sampled; else the most likely one is taken.
        top_k: most candidates of sampling; 0 for all.
        top_p: probability of the candidates of sampling together.
        repetition_penalty: factor that weakens tokens of the answer so far, not of the prompt; 1
            for none.
        seed: of sampling; None for another answer every time.
        stop_ids: tokens that end an answer; they are not part of it.

    Raises:
        InputError: a value is out of its range.
    """

    max_new_tokens: int = 1024
    sample: bool = False
    temperature: float = 0.7
    top_k: int = 20
    top_p: float = 0.8
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_new_tokens", 1, 32768),
            ("temperature", 0.0001, 10),
            ("top_k", 0, 1_000_000),
            ("top_p", 1e-12, 1),
            ("repetition_penalty", 0.1, 10),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(
                    "{name} must lie in {low} to {high}, but got {given}.",
                    name=name,
                    low=low,
                    high=high,
                    given=value,
                )

    @classmethod
    def of(cls, defaults: GenerationDefaults, **changes: Any) -> "Decoding":
        """Return greedy decoding with a checkpoint's defaults, and `changes` to them.

        The repetition penalty is the checkpoint's in greedy decoding too, as in the reference.
        """
        return cls(**(asdict(defaults) | changes))


class TokenChooser:
    """Choice of the tokens of one answer."""

    def __init__(self, decoding: Decoding) -> None:
        from transformers import (
            LogitsProcessorList,
            RepetitionPenaltyLogitsProcessor,
            TemperatureLogitsWarper,
            TopKLogitsWarper,
            TopPLogitsWarper,
        )

        self._sample = decoding.sample
        self._chosen: list[int] = []
        self._processors: Any = LogitsProcessorList()
        if decoding.repetition_penalty != 1:
            penalty = RepetitionPenaltyLogitsProcessor(float(decoding.repetition_penalty))
            self._processors.append(penalty)
        if decoding.sample:
            self._processors.append(TemperatureLogitsWarper(float(decoding.temperature)))
            if decoding.top_k:
                self._processors.append(TopKLogitsWarper(decoding.top_k))
            if decoding.top_p < 1:
                self._processors.append(TopPLogitsWarper(float(decoding.top_p)))
            # on the CPU, so that a seed means the same on every device
            self._random = torch.Generator()
            if decoding.seed is None:
                self._random.seed()
            else:
                self._random.manual_seed(decoding.seed)

    @torch.inference_mode()
    def choose(self, logits: torch.Tensor) -> int:
        """Return the next token id for (V,) float32 logits."""
        before = torch.tensor([self._chosen], dtype=torch.int64, device=logits.device)
        scores = self._processors(before, logits[None].clone())[0]
        if self._sample:
            shares = scores.cpu().softmax(dim=-1)
            token = int(torch.multinomial(shares, 1, generator=self._random))
        else:
            token = int(scores.argmax())
        self._chosen.append(token)
        return token


def generate(
    model: Any,
    prompt: VideoPrompt,
    decoding: Decoding,
    *,
    cache: KeyValues | None = None,
    dropping: Dropping | None = None,
    cancel: CancelToken = NEVER,
) -> Generator[int, None, None]:
    """Yield the token ids of an answer to a prompt, at most `decoding.max_new_tokens`.

    The prompt is read at the first token. Closing the iterator ends the work; no lock,
    `inference_mode` or autocast is held across a `yield`. `model` is as for `prefill`; `cache` has
    keys and values of the conversation so far and is extended by this turn; `cancel` is checked
    between the layers while the prompt is read.

    Raises:
        InputError: as `prefill` does.
        Cancelled: `cancel` is cancelled.
    """
    cache = KeyValues() if cache is None else cache
    chooser = TokenChooser(decoding)
    read = prefill(model, prompt, cache, dropping=dropping, cancel=cancel)
    logits = read.logits
    for number in range(1, decoding.max_new_tokens + 1):
        token = chooser.choose(logits)
        if token in decoding.stop_ids:
            return
        yield token
        if number < decoding.max_new_tokens:
            logits = step(model, token, cache)
