"""Arithmetic and memory of a question."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.models.videochat_flash.configuration_videochat_flash import (
    Dropping,
    VideoChatFlashConfig,
    VisionConfig,
)

#: Size of growing key-value buffers, relative to their content.
_SPARE = 1.125


@dataclass(frozen=True)
class Need:
    """Memory of a question beside the weights, in bytes.

    `kept` are keys, values and embeddings of the video, which stay for the next question; `passing`
    are the largest intermediate results.
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
    """Return the memory of a question about `num_frames` frames.

    `num_text` counts the tokens of conversation, question and answer; `value_bytes` is 4 for
    float32, 2 for bfloat16; `dropping` is of visual tokens.
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
