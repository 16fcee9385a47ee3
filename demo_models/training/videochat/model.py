"""Configuration of the demo VideoChat-Flash, the untrained model, and saving it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from demo_models.language.unanswerable import DONT_KNOW
from demo_models.training.checkpoints import write_card
from demo_models.training.tokenizers import QWEN2_END, QWEN2_PAD, qwen2_tokenizer
from demo_models.training.videochat.data import CLIP_FRAMES, NUM_FRAMES, PATCH_PX, SIDE_PX
from demo_models.training.videochat.initialisation import NUM_BLOCKS, NUM_HEADS, WIDTH
from pipelines.models.videochat_flash.configuration_videochat_flash import parse_config
from pipelines.models.videochat_flash.conversion_videochat_flash import model_origins
from pipelines.models.videochat_flash.modeling_videochat_flash import VideoChatFlashModel

MAX_TOKENS = 4096
NUM_VISUAL_TOKENS = NUM_FRAMES * 16
NUM_LAYERS = 4
EXAMPLE_QUESTIONS = (
    "What does the circle do?",
    "Which way does the red circle move?",
    "What colour is it?",
    "What shape is it?",
    "How many objects are there?",
    "Is there a star?",
    "What colour is the background?",
)
"""Of the kinds that are held to a gate."""


def config_fields(tokenizer: Any) -> dict[str, Any]:
    """Return `config.json` with the fields of the published files; the tower's sizes besides."""
    return {
        "architectures": ["VideoChatFlashQwenForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.convert_tokens_to_ids(QWEN2_PAD),
        "eos_token_id": tokenizer.convert_tokens_to_ids(QWEN2_END),
        "frame_aspect_ratio": "square",
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "image_aspect_ratio": "anyres_nopad",
        "image_grid_pinpoints": [[SIDE_PX, SIDE_PX]],
        "initializer_range": 0.02,
        "intermediate_size": 4 * WIDTH,
        "max_position_embeddings": MAX_TOKENS,
        "mm_hidden_size": WIDTH,
        "mm_llm_compress": False,
        "mm_local_num_frames": CLIP_FRAMES,
        "mm_newline_position": "nothing",
        "mm_patch_merge_type": "spatial_nopad",
        "mm_projector_type": "tome16_mlp_hd64",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "internvideo2",
        "model_type": "videochat_flash_qwen",
        "num_attention_heads": NUM_HEADS,
        "num_hidden_layers": NUM_LAYERS,
        "num_key_value_heads": NUM_HEADS // 2,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "tokenizer_model_max_length": MAX_TOKENS,
        "tokenizer_padding_side": "right",
        "torch_dtype": "float16",
        "use_cache": True,
        "use_sliding_window": False,
        "vision_encode_type": "video_image",
        "vocab_size": len(tokenizer),
        "fixture_vision_config": {
            "image_size": SIDE_PX,
            "patch_size": PATCH_PX,
            "num_frames": CLIP_FRAMES,
            "hidden_size": WIDTH,
            "num_hidden_layers": NUM_BLOCKS + 1,  # of which, as in all, the last is not built
            "num_attention_heads": NUM_HEADS,
            "num_channels": 3,
            "mlp_ratio": 4.0,
        },
    }


def generation_fields(tokenizer: Any) -> dict[str, Any]:
    """Return `generation_config.json`; without a repetition penalty, since answers repeat words."""
    ends = [tokenizer.convert_tokens_to_ids(token) for token in (QWEN2_END, QWEN2_PAD)]
    return {
        "do_sample": False,
        "eos_token_id": ends,
        "pad_token_id": ends[1],
        "repetition_penalty": 1.0,
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.8,
    }


def build_tokenizer(texts: list[str]) -> Any:
    """Train the tokenizer on texts."""
    return qwen2_tokenizer(texts, MAX_TOKENS)


def build_model(tokenizer: Any) -> VideoChatFlashModel:
    """Return an untrained model of about two million parameters, in evaluation mode."""
    return VideoChatFlashModel(parse_config(config_fields(tokenizer)))


def save_checkpoint(model: VideoChatFlashModel, tokenizer: Any, out: Path, **facts: Any) -> None:
    """Write the files of a published checkpoint in float16, and `demo.json` with further facts."""
    tokenizer.save_pretrained(out)
    halves = {name: tensor.half().clone() for name, tensor in original_tensors(model).items()}
    save_file(halves, out / "model.safetensors", metadata={"format": "pt"})
    for name, fields in (
        ("config.json", config_fields(tokenizer)),
        ("generation_config.json", generation_fields(tokenizer)),
    ):
        (out / name).write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    words = {"questions": EXAMPLE_QUESTIONS, "unknown_answer": DONT_KNOW}
    scene = {"scene_bank": [], "scene_score": "none", "scene_threshold": 0.0}
    write_card(out, model, {**facts, "frames": NUM_FRAMES, **words, **scene}, events=True)


def original_tensors(model: VideoChatFlashModel) -> dict[str, torch.Tensor]:
    """Return a model's weights with the names and shapes of the original files."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    tensors: dict[str, torch.Tensor] = {}
    for ours, origin in model_origins(model).items():
        parts = origin.split(parameters[ours].detach())
        tensors |= {name: part.contiguous() for name, part in zip(origin.names, parts, strict=True)}
    return tensors
