"""Tiny random checkpoints of the families whose stock processors need torchvision, for tests.

Their models and PIL image processors do not need it; each is saved with what we load.
"""

from pathlib import Path
from typing import Any

from tests.fakes.tiny_captioning import IMAGE_PX, TEXT, byte_tokenizer, settle

CHATML = ["<|im_start|>", "<|im_end|>", "<pad>"]


def _chatml(*image: str) -> Any:
    special = {"eos_token": "<|im_end|>", "pad_token": "<pad>", "unk_token": "<pad>"}
    tokenizer = byte_tokenizer(special)
    names = ["<|im_start|>", *image]
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    return tokenizer


def _decoder(tokenizer: Any, model_type: str, **more: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "vocab_size": len(tokenizer),
        **TEXT,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 1024,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **more,
    }


def _save(folder: Path, model: Any, *others: Any) -> Path:
    settle(model).save_pretrained(folder)
    for other in others:
        other.save_pretrained(folder)
    return folder


def make_florence2(folder: Path) -> Path:
    """Save a Florence-2: a DaViT tower and a BART."""
    from transformers import Florence2Config, Florence2ForConditionalGeneration
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    tokenizer = byte_tokenizer(special, "<s> $A </s>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    vision = {
        "embed_dim": [8, 16, 16, 32],
        "num_heads": [2, 2, 2, 4],
        "num_groups": [2, 2, 2, 4],
        "depths": [1, 1, 1, 1],
        "window_size": 4,
        "projection_dim": 32,
    }
    text = {
        "model_type": "bart",
        "vocab_size": len(tokenizer),
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": 1024,
        "dropout": 0.0,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
    }
    config = Florence2Config(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False)
    return _save(folder, Florence2ForConditionalGeneration(config), tokenizer, images)


def make_internvl(folder: Path) -> Path:
    """Save an InternVL that looks at an image in tiles, with a Qwen2."""
    from transformers import (
        GotOcr2ImageProcessorPil,
        InternVLConfig,
        InternVLForConditionalGeneration,
    )

    tokenizer = _chatml("<img>", "<IMG_CONTEXT>", "</img>")
    vision = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "image_size": [IMAGE_PX, IMAGE_PX],
        "patch_size": [8, 8],
    }
    config = InternVLConfig(
        vision_config=vision,
        text_config=_decoder(tokenizer, "qwen2"),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    images = GotOcr2ImageProcessorPil(size={"height": IMAGE_PX, "width": IMAGE_PX})
    return _save(folder, InternVLForConditionalGeneration(config), tokenizer, images)


def _make_qwen(folder: Path, config: str, model: str, vision: dict[str, Any], rope: Any) -> Path:
    import transformers

    tokenizer = _chatml("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
    ids = tokenizer.convert_tokens_to_ids
    text_type = config.removesuffix("Config")
    kind = {"Qwen2VL": "qwen2_vl", "Qwen2_5_VL": "qwen2_5_vl", "Qwen3VL": "qwen3_vl"}[text_type]
    text = _decoder(tokenizer, f"{kind}_text", rope_parameters=rope, head_dim=8)
    made = getattr(transformers, config)(
        vision_config=vision,
        text_config=text,
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    images = transformers.Qwen2VLImageProcessorPil(
        patch_size=8, size={"shortest_edge": 256, "longest_edge": 4096}
    )
    return _save(folder, getattr(transformers, model)(made), tokenizer, images)


_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}


def make_qwen2_vl(folder: Path) -> Path:
    """Save a Qwen2-VL."""
    vision = {
        "depth": 2,
        "embed_dim": 32,
        "hidden_size": 32,
        "num_heads": 4,
        "patch_size": 8,
        "mlp_ratio": 2,
    }
    return _make_qwen(
        folder,
        "Qwen2VLConfig",
        "Qwen2VLForConditionalGeneration",
        vision,
        _ROPE,
    )


def make_qwen2_5_vl(folder: Path) -> Path:
    """Save a Qwen2.5-VL, whose tower attends within windows."""
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 32,
        "num_heads": 4,
        "patch_size": 8,
        "intermediate_size": 64,
        "window_size": 32,
        "fullatt_block_indexes": [1],
    }
    return _make_qwen(
        folder, "Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration", vision, _ROPE
    )


def make_qwen3_vl(folder: Path) -> Path:
    """Save a Qwen3-VL, whose language model also sees patches of earlier layers."""
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 32,
        "num_heads": 4,
        "patch_size": 8,
        "intermediate_size": 64,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    return _make_qwen(
        folder,
        "Qwen3VLConfig",
        "Qwen3VLForConditionalGeneration",
        vision,
        {**_ROPE, "mrope_interleaved": True},
    )


def make_minicpm_v(folder: Path) -> Path:
    """Save a MiniCPM-V 4.6 with a Qwen3.5, whose layers are partly linear attention."""
    from transformers import (
        MiniCPMV4_6Config,
        MiniCPMV4_6ForConditionalGeneration,
        MiniCPMV4_6ImageProcessorPil,
    )

    tokenizer = _chatml("<image_id>", "</image_id>", "<image>", "<|image_pad|>", "</image>")
    text = _decoder(
        tokenizer,
        "qwen3_5_text",
        head_dim=8,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        layer_types=["linear_attention", "full_attention"],
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 128,
        "patch_size": 8,
        "insert_layer_id": 0,
    }
    config = MiniCPMV4_6Config(
        vision_config=vision,
        text_config=text,
        insert_layer_id=0,
        image_size=128,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
    )
    images = MiniCPMV4_6ImageProcessorPil(scale_resolution=128, patch_size=8)
    return _save(folder, MiniCPMV4_6ForConditionalGeneration(config), tokenizer, images)
