"""Training of the bundled demo CLIP from random weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer

from demo_models.training import loop
from demo_models.training.checkpoints import Run
from demo_models.training.clip.data import (
    Batch,
    BatchSizes,
    load_or_make_cache,
    make_batch,
    statement_corpus,
)
from demo_models.training.clip.losses import DenseHeads, MatchLoss, contrastive_loss
from demo_models.training.clip.model import WIDTH, build_model, save_checkpoint
from demo_models.training.tokenizers import MAX_TOKENS, clip_tokenizer, encode_by_length

MAX_LOGIT_SCALE = math.log(60.0)


@dataclass(frozen=True)
class Recipe:
    """All numbers of the training."""

    steps: int = 5000
    seed: int = 7
    num_scenes: int = 120_000
    num_non_scenes: int = 14_000
    sizes: BatchSizes = BatchSizes()
    muon_rate: float = 0.02
    adam_rate: float = 2e-3
    warmup: int = 60
    decay_share: float = 0.6  # of the steps, at the end, linear to 0
    match_weight: float = 0.5
    num_corpus_texts: int = 12_000

    def rate(self, step: int) -> float:
        """Return the factor on the learning rates."""
        decay_steps = max(1, round(self.decay_share * self.steps))
        start = self.steps - decay_steps
        return loop.constant_then_linear(step, self.warmup, start, self.steps)


SMOKE = Recipe(
    steps=3,
    num_scenes=40,
    num_non_scenes=7,
    sizes=BatchSizes(scenes=6, non_scenes=2, hard_texts=2, unrelated_texts=2),
    num_corpus_texts=300,
)


def encode_texts(model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return unit text embeddings (T, D)."""

    def encode(part: list[str]) -> Tensor:
        inputs = tokenizer(
            part, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        features: Tensor = model.get_text_features(**inputs).pooler_output
        return features

    return functional.normalize(encode_by_length(texts, encode).float(), dim=-1)


def batch_loss(
    model: CLIPModel, tokenizer: CLIPTokenizer, heads: nn.ModuleDict, batch: Batch, weight: float
) -> dict[str, Tensor]:
    """Return the losses of one batch by name: contrast, match, dense."""
    pixels = torch.from_numpy(batch.pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    truth = torch.from_numpy(batch.truth)  # (T, B)
    with torch.autocast("cpu", torch.bfloat16):
        vision = model.vision_model(pixel_values=pixels, output_hidden_states=True)
        images = model.visual_projection(vision.pooler_output)
        texts = encode_texts(model, tokenizer, batch.texts)
    images = functional.normalize(images.float(), dim=-1)
    cosines = texts @ images.T
    labels = {name: torch.from_numpy(values) for name, values in batch.labels.items()}
    dense = heads["dense"](vision.hidden_states[-2].float(), vision.pooler_output.float(), labels)
    return {
        "contrast": contrastive_loss(cosines * model.logit_scale.exp(), truth),
        "match": weight * heads["match"](cosines, truth),
        "dense": dense,
    }


def train(recipe: Recipe, run: Run) -> None:
    """Train from random weights; saves every 500 steps."""
    torch.manual_seed(recipe.seed)
    tokenizer = clip_tokenizer(statement_corpus(recipe.seed, recipe.num_corpus_texts))
    model = build_model(tokenizer)
    cache = load_or_make_cache(run.data, recipe.seed, recipe.num_scenes, recipe.num_non_scenes)
    rng = np.random.default_rng(recipe.seed + 1)
    heads = nn.ModuleDict({"dense": DenseHeads(WIDTH), "match": MatchLoss()})
    hidden, rest = loop.split_parameters(model)

    def compute(step: int) -> dict[str, Tensor]:
        batch = make_batch(cache, rng, recipe.sizes)
        return batch_loss(model, tokenizer, heads, batch, recipe.match_weight)

    @torch.no_grad()
    def limit_scale() -> None:
        model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    settings = loop.Loop(
        name="clip",
        steps=recipe.steps,
        rate=recipe.rate,
        log_every=50,
        save_every=500,
        save=lambda steps: save_checkpoint(
            model, tokenizer, run.out, seed=recipe.seed, steps=steps
        ),
        after_step=limit_scale,
    )
    rates = recipe.muon_rate, recipe.adam_rate
    optimizers = loop.make_optimizers(hidden, [*heads.parameters(), *rest], *rates)
    loop.run(settings, optimizers, compute, [*model.parameters(), *heads.parameters()])
