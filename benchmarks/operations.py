"""Operations that a first answer about a video takes, and the rate at which a machine does them."""

from typing import Any

import torch

from benchmarks.measuring import cpu_seconds
from pipelines.packing import PackedLinear, can_pack
from pipelines.videochat_flash.configuration_videochat_flash import VisionConfig


def tower_operations(config: VisionConfig) -> float:
    """Return the multiplications and additions of one clip through the tower."""
    tokens, width = config.clip_frames * config.grid**2, config.hidden_size
    patches = 2 * tokens * 3 * config.patch_px**2 * width
    linear = 2 * tokens * (4 * width**2 + 2 * width * config.mlp_size)
    attention = 4 * tokens**2 * width
    return float(patches + config.num_layers * (linear + attention))


def prompt_operations(config: Any, num_tokens: int) -> float:
    """Return those of a prompt through the language model, with the logits of its last token.

    Args:
        config: of the language model (Qwen2), as transformers has it.
        num_tokens: of the prompt, text and visual.
    """
    width = config.hidden_size
    keys = width // config.num_attention_heads * config.num_key_value_heads
    weights = 2 * width * (width + keys) + 3 * width * config.intermediate_size
    attention = 2 * num_tokens**2 * width  # each token over those before it
    layers = config.num_hidden_layers * (2 * num_tokens * weights + attention)
    return float(layers + 2 * width * config.vocab_size)


def matrix_rate(config: VisionConfig, dtype: str) -> float:
    """Return operations a CPU second in a Linear layer of the tower's MLP, the best of three."""
    linear = torch.nn.Linear(config.hidden_size, config.mlp_size)
    rows = torch.randn(config.clip_frames * config.grid**2, config.hidden_size)
    layer: Any = PackedLinear(linear) if dtype == "bfloat16" and can_pack() else linear
    rows = rows.bfloat16() if dtype == "bfloat16" else rows
    with torch.inference_mode():
        layer(rows)
        took_s = min(cpu_seconds(lambda: layer(rows)) for _ in range(3))
    return 2 * rows.numel() * config.mlp_size / took_s
