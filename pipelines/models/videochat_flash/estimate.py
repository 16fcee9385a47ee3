"""Estimate of the time and memory of a question, from measured rates."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.models.videochat_flash.configuration_videochat_flash import (
    Dropping,
    VideoChatFlashConfig,
    VisionConfig,
)

Work = Literal["clip", "prompt token", "answer token"]

#: Weight of the newest measurement.
_NEWEST = 0.4

#: Size of growing key-value buffers, relative to their content.
_SPARE = 1.125


class ChatRates:
    """Measured seconds of the pieces of work on this machine.

    `token_share` is the cost of a prompt token as a share of that of a clip, by which one rate is
    guessed from the other until it is measured.
    """

    def __init__(self, token_share: float | None = None) -> None:
        self._token_share = token_share
        self._seconds: dict[Work, float] = {}
        self._lock = threading.Lock()

    def note(self, work: Work, number: int, seconds: float) -> None:
        """Record that `number` pieces took `seconds` together."""
        if number < 1:
            return
        each = seconds / number
        with self._lock:
            before = self._seconds.get(work, each)
            self._seconds[work] = before + _NEWEST * (each - before)

    def of(self, work: Work) -> float | None:
        """Return the seconds of one piece; None before the first measurement."""
        return self._seconds.get(work)

    def until_first_word(self, num_clips: int, num_tokens: int) -> float | None:
        """Return the seconds for these clips and prompt tokens; None if a rate is unknown."""
        clip, token = self._seconds.get("clip"), self._seconds.get("prompt token")
        if token is None and clip is not None and self._token_share is not None:
            token = clip * self._token_share
        if (num_clips and clip is None) or token is None:
            return None
        return num_clips * (clip or 0.0) + num_tokens * token


@dataclass(frozen=True)
class Need:
    """Memory of a question beside the weights, in bytes.

    Attributes:
        kept: keys, values and embeddings of the video, which stay for the next question.
        passing: the largest intermediate results.
    """

    kept: int
    passing: int

    @property
    def total(self) -> int:
        """Bytes of both."""
        return self.kept + self.passing


def tower_operations(config: VisionConfig) -> float:
    """Return the multiplications and additions of one clip through the tower."""
    tokens, width = config.clip_frames * config.grid**2, config.hidden_size
    patches = 2 * tokens * 3 * config.patch_px**2 * width
    linear = 2 * tokens * (4 * width**2 + 2 * width * config.mlp_size)
    attention = 4 * tokens**2 * width
    return float(patches + config.num_layers * (linear + attention))


def prompt_operations(text: Mapping[str, Any], num_tokens: int) -> float:
    """Return those of a prompt through the language model, with the logits of its last token.

    `text` holds arguments of `transformers.Qwen2Config`; `num_tokens` counts text and visual
    tokens.
    """
    width = int(text["hidden_size"])
    keys = width // int(text["num_attention_heads"]) * int(text["num_key_value_heads"])
    weights = 2 * width * (width + keys) + 3 * width * int(text["intermediate_size"])
    attention = 2 * num_tokens**2 * width  # each token over those before it
    layers = int(text["num_hidden_layers"]) * (2 * num_tokens * weights + attention)
    return float(layers + 2 * width * int(text["vocab_size"]))


def token_share(config: VideoChatFlashConfig) -> float:
    """Return the cost of a prompt token (among a thousand) as a share of that of a clip."""
    return prompt_operations(config.text, 1000) / 1000 / tower_operations(config.vision)


def need_of(
    config: VideoChatFlashConfig,
    num_frames: int,
    num_text: int,
    value_bytes: int,
    dropping: Dropping | None = None,
) -> Need:
    """Return the memory of a question.

    Args:
        config: of the checkpoint.
        num_frames: frames of the video.
        num_text: tokens of conversation, question and answer.
        value_bytes: 4 for float32, 2 for bfloat16.
        dropping: of visual tokens.
    """
    text, vision = config.text, config.vision
    width, inner = int(text["hidden_size"]), int(text["intermediate_size"])
    layers, heads = int(text["num_hidden_layers"]), int(text["num_attention_heads"])
    visual = num_frames // vision.clip_frames * config.merged_tokens
    held = sum(num_text + int(visual * share) for share in _shares(layers, dropping))
    keys = 2 * int(text["num_key_value_heads"]) * (width // heads) * held
    rows = 2 * visual * width  # kept by clip, and once more together
    prompt = (visual + num_text) * (6 * width + 3 * inner)
    patches = vision.clip_frames * vision.grid**2
    tower = patches * (8 * vision.hidden_size + 2 * vision.mlp_size)
    return Need(
        kept=int(_SPARE * keys + rows) * value_bytes,
        passing=max(prompt, tower) * value_bytes,
    )


def _shares(num_layers: int, dropping: Dropping | None) -> list[float]:
    """Return for every layer the share of the visual tokens that reach it."""
    if dropping is None:
        return [1.0] * num_layers
    stages = [sum(layer >= at for at in dropping.layers) for layer in range(num_layers)]
    return [dropping.ratios[stage] for stage in stages]
