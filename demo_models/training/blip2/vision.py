"""Vision tower of demo-blip2: that of demo-clip, folded, then trained with dense labels.

The language side depends on what the tokens of the frozen tower hold, so everything that is
asked later is a label here: shape, colour, background, position, size and the number of objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Blip2VisionModel, CLIPModel

from demo_models.training import loop
from demo_models.training.clip.data import ImageCache, stacked_labels
from demo_models.training.clip.losses import DenseHeads

WIDTH = 128
NUM_LAYERS = 3
"""The CLIP has one more; its last layer serves the class token alone."""


@dataclass(frozen=True)
class VisionRecipe:
    """The recipe of this stage in numbers."""

    steps: int = 1200
    batch: int = 128
    non_scene_share: float = 0.08
    muon_rate: float = 0.01
    adam_rate: float = 1e-3
    warmup: int = 40


def to_pixels(images: NDArray[np.uint8]) -> Tensor:
    """Return what the stock processor makes of 64 px images (B, 64, 64, 3): (B, 3, 64, 64)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def _fold_embeddings(clip: Any, vision: Any, pixels: Tensor) -> None:
    """Fold CLIP's first layer norm, which this tower lacks, into the embeddings.

    The norm divides each token by its own deviation; a constant takes its place, the mean
    deviation of the patches of some images, so that the result is near, not equal.
    """
    source, target, norm = clip.embeddings, vision.embeddings, clip.pre_layrnorm
    weight = source.patch_embedding.weight  # (D, 3, 8, 8)
    position = source.position_embedding.weight  # (1 + 64, D)
    deviation = source(pixels)[:, 1:].std(dim=-1).mean()
    gain = norm.weight / deviation
    target.patch_embedding.weight.copy_(gain[:, None, None, None] * (weight - weight.mean(0)))
    target.patch_embedding.bias.copy_(norm.bias)
    centred = position - position.mean(dim=1, keepdim=True)
    target.position_embedding[0].copy_(gain * centred)
    target.position_embedding[0, 0].zero_()
    target.class_embedding[0, 0].copy_(norm(source.class_embedding + position[0]))


@torch.no_grad()
def fold_clip(clip_folder: Any, vision: Any, images: NDArray[np.uint8]) -> None:
    """Copy a CLIP's vision layers, all but the last, into a `Blip2VisionModel`.

    Args:
        clip_folder: A stock CLIP checkpoint of the same width, patch size and activation.
        vision: The tower to fill.
        images: (B, 64, 64, 3) uint8, to measure the deviation of the tokens.
    """
    whole: Any = CLIPModel.from_pretrained(clip_folder, dtype=torch.float32, local_files_only=True)
    clip = whole.vision_model
    _fold_embeddings(clip, vision, to_pixels(images))
    for mine, other in zip(vision.encoder.layers, clip.encoder.layers, strict=False):
        attention = other.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        mine.self_attn.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
        mine.self_attn.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
        mine.self_attn.projection.load_state_dict(attention.out_proj.state_dict())
        for name in ("layer_norm1", "layer_norm2", "mlp"):
            getattr(mine, name).load_state_dict(getattr(other, name).state_dict())


def _batch(
    cache: ImageCache, rng: np.random.Generator, recipe: VisionRecipe
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return pixels and the labels that `DenseHeads` wants."""
    num_strange = round(recipe.non_scene_share * recipe.batch)
    rows = np.concatenate(
        [
            rng.integers(0, cache.num_scenes, recipe.batch - num_strange),
            rng.integers(cache.num_scenes, len(cache.scenes), num_strange),
        ]
    )
    scenes = [cache.scenes[row] for row in rows]
    labels = stacked_labels(scenes, cache.owners[rows], [cache.backgrounds[row] for row in rows])
    return to_pixels(cache.pixels[rows]), {k: torch.from_numpy(v) for k, v in labels.items()}


@torch.no_grad()
def patch_figures(heads: DenseHeads, tokens: Tensor, labels: dict[str, Tensor]) -> dict[str, float]:
    """Return the accuracy of the heads on patches of objects; places as RMS in image widths."""
    shape = labels["patch_shape"]
    mine = (shape >= 0) & (shape < heads.shape.out_features - 1)
    flat = heads.norm(tokens[:, 1:])[mine]
    wrong_by = heads.box(flat) - labels["boxes"][mine]
    right = {
        "shape": heads.shape(flat).argmax(-1) == shape[mine],
        "colour": heads.colour(flat).argmax(-1) == labels["patch_colour"][mine],
        "count": heads.count(tokens[:, 0]).argmax(-1) == labels["num_objects"],
    }
    return {
        **{name: values.float().mean().item() for name, values in right.items()},
        "place_rms": wrong_by[:, :2].square().mean().sqrt().item(),
        "radius_rms": wrong_by[:, 2].square().mean().sqrt().item(),
    }


def train_vision(vision: Any, cache: ImageCache, seed: int, recipe: VisionRecipe) -> None:
    """Train the tower in place with dense labels."""
    rng = np.random.default_rng([seed, 1])
    heads = DenseHeads(WIDTH)
    last: dict[str, Any] = {}

    def compute(step: int) -> dict[str, Tensor]:
        pixels, labels = _batch(cache, rng, recipe)
        with torch.autocast("cpu", torch.bfloat16):
            tokens = vision(pixel_values=pixels).last_hidden_state
        tokens = tokens.float()
        last.update(tokens=tokens.detach(), labels=labels)
        return {"dense": heads(tokens, tokens[:, 0], labels)}

    settings = loop.Loop(
        name="blip2 vision",
        steps=recipe.steps,
        rate=lambda step: loop.linear(step, recipe.warmup, recipe.steps),
        log_every=50,
        figures=lambda: patch_figures(heads, last["tokens"], last["labels"]),
    )
    hidden, rest = loop.split_parameters(vision)
    parameters = [*rest, *heads.parameters()]
    rates = recipe.muon_rate, recipe.adam_rate
    optimizers = loop.make_optimizers(hidden, parameters, *rates, betas=(0.9, 0.999))
    loop.run(settings, optimizers, compute, [*vision.parameters(), *heads.parameters()])


def make_vision(
    config: Any, clip_folder: Any, cache: ImageCache, seed: int, recipe: VisionRecipe
) -> Any:
    """Return the trained tower; it depends on the arguments alone."""
    torch.manual_seed(seed)
    vision = Blip2VisionModel(config)
    fold_clip(clip_folder, vision, np.array(cache.pixels[:64]))
    train_vision(vision, cache, seed, recipe)
    return vision


@torch.no_grad()
def encode(vision: Any, pixels: Tensor) -> Tensor:
    """Return the frozen tower's tokens (B, 1 + 64, D) of pixels (B, 3, 64, 64)."""
    with torch.autocast("cpu", torch.bfloat16):
        tokens: Tensor = vision(pixel_values=pixels).last_hidden_state
    return tokens.float()
