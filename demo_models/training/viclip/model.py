"""The demo ViCLIP before training, with the weights of the demo CLIP, and saving it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from demo_models.training.checkpoints import write_card
from demo_models.training.tokenizers import MAX_TOKENS, clip_tokenizer
from demo_models.training.viclip.data import NUM_FRAMES, motion_corpus
from demo_models.world.scenes import IMAGE_PX
from pipelines.models.viclip.configuration_viclip import ViClipConfig
from pipelines.models.viclip.modeling_viclip import ViClipAttention, ViClipModel
from pipelines.models.viclip.processing_viclip import IMAGE_MEAN, IMAGE_STD

WIDTH, HEADS = 128, 4
VISION_LAYERS, TEXT_LAYERS = 6, 3
CLIP_PLACES = (0, 2, 3, 5)
"""Places of the demo CLIP's layers; those between begin as the identity."""

TIME_PLACE, MOTION_PLACE = 1, 4
"""The two new ones; `viclip_start` gives them their start."""

PATCH_PX = 8
NUM_PATCHES = NUM_FRAMES * (IMAGE_PX // PATCH_PX) ** 2
NUM_MERGES = 640
CLIP_MEAN = CLIP_STD = 0.5

#: Our name of a projection, which published files join with "_".
_OUR_PROJECTION = re.compile(r"\.attn\.in_proj\.(weight|bias)$")


def make_tokenizer(seed: int, num_texts: int) -> CLIPTokenizer:
    """Train the demo ViCLIP's tokenizer, of the stock class."""
    return clip_tokenizer(motion_corpus(seed, num_texts), NUM_MERGES)


def make_config(tokenizer: CLIPTokenizer) -> ViClipConfig:
    """Return the dimensions: those of the real class, small."""
    return ViClipConfig(
        image_size=IMAGE_PX,
        patch_size=PATCH_PX,
        num_frames=NUM_FRAMES,
        vision_width=WIDTH,
        vision_layers=VISION_LAYERS,
        vision_heads=HEADS,
        text_width=WIDTH,
        text_layers=TEXT_LAYERS,
        text_heads=HEADS,
        context_length=MAX_TOKENS,
        vocab_size=len(tokenizer),
        embed_dim=WIDTH,
    )


def _time_codes() -> Tensor:
    """Return codes (8, 128) of the frames, smooth in time, of the size of a token's."""
    times = (torch.arange(NUM_FRAMES) + 0.5) / NUM_FRAMES
    angles = times[:, None] * math.pi * torch.arange(1, WIDTH // 2 + 1)[None] / 4
    return 0.15 * torch.cat([angles.sin(), angles.cos()], dim=1)


def _copy_block(ours: Any, theirs: Any) -> None:
    attention = theirs.self_attn
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    ours.attn.in_proj.weight.copy_(torch.cat([part.weight for part in parts]))
    ours.attn.in_proj.bias.copy_(torch.cat([part.bias for part in parts]))
    pairs = (
        (ours.attn.out_proj, attention.out_proj),
        (ours.ln_1, theirs.layer_norm1),
        (ours.ln_2, theirs.layer_norm2),
        (ours.mlp.c_fc, theirs.mlp.fc1),
        (ours.mlp.c_proj, theirs.mlp.fc2),
    )
    for mine, given in pairs:
        mine.load_state_dict(given.state_dict())


def _copy_vision(ours: Any, clip: CLIPModel) -> None:
    """Copy the image tower; the stem is rescaled to ImageNet's statistics."""
    theirs = clip.vision_model
    stem = theirs.embeddings.patch_embedding.weight  # (W, 3, P, P)
    mean, std = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_STD)
    ours.conv1.weight.copy_((stem * (std / CLIP_STD)[:, None, None])[:, :, None])
    shift = (stem * ((mean - CLIP_MEAN) / CLIP_STD)[:, None, None]).sum(dim=(1, 2, 3))
    ours.class_embedding.copy_(theirs.embeddings.class_embedding)
    ours.positional_embedding.copy_(theirs.embeddings.position_embedding.weight)
    ours.positional_embedding[1:] += shift
    ours.temporal_positional_embedding.copy_(_time_codes()[None])
    ours.ln_pre.load_state_dict(theirs.pre_layrnorm.state_dict())
    ours.ln_post.load_state_dict(theirs.post_layernorm.state_dict())
    ours.proj.copy_(clip.visual_projection.weight.T)
    for place, layer in zip(CLIP_PLACES, theirs.encoder.layers, strict=True):
        _copy_block(ours.transformer.resblocks[place], layer)
    for place in set(range(VISION_LAYERS)) - set(CLIP_PLACES):
        block = ours.transformer.resblocks[place]
        for last in (block.attn.out_proj, block.mlp.c_proj):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


def _copy_text(ours: Any, clip: CLIPModel, known: dict[str, int], vocab: dict[str, int]) -> None:
    """Copy the text tower; tokens that the demo CLIP does not have stay random."""
    theirs = clip.text_model
    table = theirs.embeddings.token_embedding.weight
    ours.token_embedding.weight.normal_(std=float(table.std()))
    for token, index in vocab.items():
        if token in known:
            ours.token_embedding.weight[index] = table[known[token]]
    ours.positional_embedding.copy_(theirs.embeddings.position_embedding.weight)
    ours.ln_final.load_state_dict(theirs.final_layer_norm.state_dict())
    ours.text_projection.copy_(clip.text_projection.weight.T)
    for block, layer in zip(ours.transformer.resblocks, theirs.encoder.layers, strict=True):
        _copy_block(block, layer)


def make_model(tokenizer: CLIPTokenizer, clip_folder: Path) -> ViClipModel:
    """Return an untrained ViCLIP of about two million parameters that starts as the demo CLIP.

    Its layers attend over all frames from the first on, as the class does, which the CLIP's
    have not learned; "gelu" there is QuickGELU here. Training corrects both soon.
    """
    model = ViClipModel(make_config(tokenizer))
    clip = CLIPModel.from_pretrained(clip_folder, dtype=torch.float32, local_files_only=True)
    known = CLIPTokenizer.from_pretrained(clip_folder, local_files_only=True).get_vocab()
    with torch.no_grad():
        _copy_vision(model.vision_encoder, clip)
        _copy_text(model.text_encoder, clip, known, tokenizer.get_vocab())
    return model


def plain_attention(module: ViClipAttention, tokens: Tensor, causal: bool) -> Tensor:
    """Return what the class returns, step by step: in bfloat16 its backward is the faster one."""
    batch, length, width = tokens.shape
    parts = module.in_proj(tokens).view(batch, length, 3, module.heads, width // module.heads)
    queries, keys, values = parts.permute(2, 0, 3, 1, 4)
    scores = queries @ keys.transpose(-1, -2) * (width // module.heads) ** -0.5
    if causal:
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -1e4)
    mixed = scores.softmax(dim=-1).to(values.dtype) @ values
    result: Tensor = module.out_proj(mixed.transpose(1, 2).reshape(batch, length, width))
    return result


def save_checkpoint(model: ViClipModel, tokenizer: CLIPTokenizer, out: Path, **facts: Any) -> None:
    """Write the checkpoint in float16 under the published names, its vocabulary and `demo.json`."""
    half = ViClipModel(model.config).half()
    half.load_state_dict(model.state_dict())
    save_viclip(half, out)
    tokenizer.save_pretrained(out)
    scene = {"scene_bank": (), "scene_score": "cosine", "scene_threshold": -1.0}
    write_card(out, model, {**facts, **scene}, events=True)


def save_viclip(model: ViClipModel, folder: Path) -> None:
    """Write `config.json` and `model.safetensors` with the published names."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    state = {
        _OUR_PROJECTION.sub(r".attn.in_proj_\1", name): tensor.contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
