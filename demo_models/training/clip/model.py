"""The untrained demo CLIP, its processor, and saving it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

from demo_models.training.checkpoints import write_card
from demo_models.training.tokenizers import MAX_TOKENS
from demo_models.world.scenes import IMAGE_PX
from demo_models.world.vocabulary import SCENE_BANK

WIDTH = 128
PATCH_PX = 8


def sin_cos_positions(grid: int, width: int) -> Tensor:
    """Return fixed 2-D position codes (1 + grid², width), the class token's row zero."""
    frequencies = torch.exp(-math.log(100.0) * torch.arange(width // 4) / (width // 4))
    axis = (torch.arange(grid) + 0.5) / grid * 2 * math.pi
    angles = axis[:, None] * frequencies[None] * 2
    code = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, width/2)
    rows = code[:, None].expand(grid, grid, -1)
    columns = code[None].expand(grid, grid, -1)
    table = torch.cat([rows, columns], dim=-1).reshape(grid * grid, width)
    return torch.cat([torch.zeros(1, width), table])


def build_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return an untrained CLIP of about 1.6 million parameters."""
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4,
             "hidden_act": "gelu", "projection_dim": WIDTH}  # fmt: skip
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
               "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    config = CLIPConfig(
        text_config={**tower, **special, "num_hidden_layers": 3, "vocab_size": len(tokenizer),
                     "max_position_embeddings": MAX_TOKENS},
        vision_config={**tower, "num_hidden_layers": 4, "image_size": IMAGE_PX,
                       "patch_size": PATCH_PX},
        projection_dim=WIDTH,
    )  # fmt: skip
    config._attn_implementation = "eager"  # its bfloat16 backward is the faster one on a CPU
    model = CLIPModel(config)
    codes = sin_cos_positions(IMAGE_PX // PATCH_PX, WIDTH)
    with torch.no_grad():
        embeddings = model.vision_model.embeddings
        embeddings.position_embedding.weight.copy_(0.3 * codes)
        embeddings.patch_embedding.weight.mul_(2.5)  # pixels weigh more than positions
    return model


def build_processor(tokenizer: CLIPTokenizer) -> CLIPProcessor:
    """Return the stock processor: the whole image is squashed to 64 x 64."""
    images = CLIPImageProcessorPil(
        size={"height": IMAGE_PX, "width": IMAGE_PX},
        do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return CLIPProcessor(image_processor=images, tokenizer=tokenizer)


def save_checkpoint(model: CLIPModel, tokenizer: CLIPTokenizer, out: Path, **facts: Any) -> None:
    """Write a stock checkpoint in float16 and `demo.json` with further facts."""
    build_processor(tokenizer).save_pretrained(out)
    half = CLIPModel(model.config).half()
    half.load_state_dict(model.state_dict())
    half.save_pretrained(out)
    scene = {"scene_bank": SCENE_BANK, "scene_score": "softmax", "scene_threshold": 0.35}
    write_card(out, model, {**facts, **scene})
