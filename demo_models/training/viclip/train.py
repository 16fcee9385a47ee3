"""Training of the bundled demo ViCLIP, which starts from the demo CLIP.

The first stages read a part of the patches of many videos, as ViCLIP's own training does; the last
one reads all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from demo_models.training import loop
from demo_models.training.checkpoints import CLIP_FOLDER, Run
from demo_models.training.clip.losses import MatchLoss, contrastive_loss
from demo_models.training.tokenizers import encode_by_length
from demo_models.training.viclip.data import SamplePool, VideoBatch, VideoSizes, make_batch
from demo_models.training.viclip.heads import MotionHeads, choose_tokens, stack_labels, take
from demo_models.training.viclip.initialisation import as_pixels, repeat_motion, start_motion
from demo_models.training.viclip.model import (
    WIDTH,
    make_model,
    make_tokenizer,
    plain_attention,
    save_checkpoint,
)
from pipelines.models.viclip.conversion_viclip import load_viclip
from pipelines.models.viclip.modeling_viclip import ViClipAttention, ViClipModel, unit
from pipelines.models.viclip.tokens import ViClipTokeniser

MAX_LOGIT_SCALE = math.log(60.0)


@dataclass(frozen=True)
class Stage:
    """One stage; each starts with new optimizers and heads, from weights rounded to float16."""

    steps: int
    keep: int  # patches of each video that are read, 0 for all
    sizes: VideoSizes = VideoSizes()
    uses: int = 1  # batches that a rendered motion is used in
    mix: str = "all"  # one of `data.MIXES`
    peak: float = 1.0  # the highest factor on the rates
    last: float = 1.0  # the factor at the end; they fall linearly over the last 60 %
    find_motion: bool = False  # begin with `initialisation.start_motion`
    repeat_motion: bool = False  # begin with `initialisation.repeat_motion`
    by_place: bool = False  # see `heads.choose_tokens`
    stop: int = 0  # after so many steps of the plan, 0 for all

    @property
    def steps_done(self) -> int:
        """Return how many steps it takes."""
        return self.stop or self.steps

    def rate(self, step: int, warmup: int) -> float:
        """Return the factor on the learning rates: warm-up, constant, then linear to the last."""
        fallen = max(0.0, (step + 1) / self.steps - 0.4) / 0.6
        return min((step + 1) / warmup * self.peak, self.peak + fallen * (self.last - self.peak))


TWINS = VideoSizes(motions=30, twins=26)
HARD = VideoSizes(motions=36, twins=20, hard_texts=56, unrelated_texts=14)
FEW = VideoSizes(motions=14, twins=6, non_scenes=2, hard_texts=20, unrelated_texts=8)


@dataclass(frozen=True)
class Recipe:
    """All numbers of the training."""

    stages: tuple[Stage, ...] = (
        Stage(300, 192),
        Stage(350, 112, uses=3, mix="simple"),
        Stage(150, 112, TWINS, uses=2, mix="simple", find_motion=True),
        Stage(100, 144, uses=2),
        Stage(120, 112, TWINS, uses=2, mix="simple", repeat_motion=True),
        Stage(100, 144, uses=2),
        Stage(600, 144, uses=2, last=0.15),
        Stage(400, 144, uses=2, peak=0.4, last=0.1),
        Stage(200, 144, uses=2, peak=0.4, last=0.4, mix="even"),
        Stage(240, 144, uses=2, peak=0.35, last=0.05, mix="even"),
        Stage(30, 0, FEW, peak=0.12, last=0.0),
        Stage(100, 160, HARD, uses=3, mix="weak", by_place=True, peak=0.6, last=0.6),
        Stage(1750, 160, HARD, uses=3, mix="weak", by_place=True, peak=0.6, last=0.02, stop=1500),
        Stage(200, 160, HARD, uses=3, mix="weak", by_place=True, peak=0.16, last=0.02),
        Stage(40, 0, FEW, peak=0.1, last=0.0, mix="even"),
        Stage(600, 160, HARD, uses=3, mix="weak", by_place=True, peak=0.35, last=0.01),
        Stage(40, 0, FEW, peak=0.1, last=0.0, mix="even"),
    )
    seed: int = 7
    muon_rate: float = 0.012
    adam_rate: float = 1.5e-3
    warmup: int = 30
    head_steps: int = 25  # of a later stage, in which its new heads do not change the rest
    match_weight: float = 0.5
    num_corpus_texts: int = 8000
    start_batches: int = 12  # of the regressions of `start_motion`; `repeat_motion` takes twice
    start_motions: int = 24  # of each of these batches


SMALL = VideoSizes(motions=3, twins=1, non_scenes=1, hard_texts=2, unrelated_texts=1)
SMOKE = Recipe(
    stages=(
        Stage(2, 40, SMALL, uses=2, mix="simple", find_motion=True),
        Stage(1, 0, SMALL, last=0.0),
    ),
    num_corpus_texts=200,
    start_batches=1,
    start_motions=6,
)


@contextmanager
def quick_attention() -> Iterator[None]:
    """Compute the network's attention in the way that trains faster on a CPU."""
    own = ViClipAttention.forward
    ViClipAttention.forward = plain_attention  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        ViClipAttention.forward = own  # type: ignore[method-assign]


def encode_videos(
    model: ViClipModel, pixels: Tensor, chosen: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return vectors (B, D), patches of the second-last layer (B, N, W), class tokens (B, W).

    Args:
        model: The network.
        pixels: (B, 8, 3, 64, 64) float32, normalised.
        chosen: (B, N) numbers of the patches to read; None for all.
    """
    tower = model.vision_encoder
    tokens = tower.embeddings(pixels)
    if chosen is not None:
        rows = torch.arange(len(chosen))[:, None]
        tokens = torch.cat([tokens[:, :1], tokens[rows, 1 + chosen]], dim=1)
    *blocks, last = tower.transformer.resblocks
    tokens = tower.ln_pre(tokens)
    for block in blocks:
        tokens = block(tokens, False)
    pooled = tower.ln_post(last(tokens, False)[:, 0])
    return unit(pooled @ tower.proj), tokens[:, 1:].float(), pooled.float()


def encode_texts(model: ViClipModel, tokeniser: ViClipTokeniser, texts: list[str]) -> Tensor:
    """Return unit vectors (T, D)."""

    def encode(part: list[str]) -> Tensor:
        features: Tensor = model.text_encoder(tokeniser.tokenise(part).input_ids)
        return features

    return unit(encode_by_length(texts, encode))


def batch_loss(
    model: ViClipModel,
    tokeniser: ViClipTokeniser,
    heads: nn.ModuleDict,
    batch: VideoBatch,
    chosen: Tensor | None,
    weight: float,
    heads_only: bool = False,
) -> dict[str, Tensor]:
    """Return the losses of one batch by name; `chosen` patches are read, None means all.

    `weight` is that of the matching loss. With `heads_only` the dense labels train their heads,
    but not the network.
    """
    pixels = as_pixels(batch)
    labels = stack_labels(batch.labels)
    if chosen is not None:
        labels = take(labels, chosen)
    with torch.autocast("cpu", torch.bfloat16):
        videos, patches, pooled = encode_videos(model, pixels, chosen)
        texts = encode_texts(model, tokeniser, batch.texts)
    if heads_only:
        patches, pooled = patches.detach(), pooled.detach()
    truth = torch.from_numpy(batch.truth)
    cosines = texts @ videos.T
    return {
        "contrast": contrastive_loss(cosines * scale_of(heads), truth),
        "match": weight * heads["match"](cosines, truth),
        **heads["dense"](patches, pooled, labels),
    }


def scale_of(heads: nn.ModuleDict) -> Tensor:
    """Return the factor on the cosines."""
    scale = heads["scale"]
    assert isinstance(scale, LogScale)
    return scale.exp()


class LogScale(nn.Module):
    """The logarithm of the factor on the cosines, trained."""

    def __init__(self, temperature: float) -> None:
        """Start at the model's, at least 14 as CLIP does."""
        super().__init__()
        start = min(max(-math.log(temperature), math.log(14.0)), MAX_LOGIT_SCALE)
        self.value = nn.Parameter(torch.tensor(start))

    def exp(self) -> Tensor:
        """Return the factor."""
        return self.value.clamp(max=MAX_LOGIT_SCALE).exp()


def _start(model: ViClipModel, recipe: Recipe, stage: Stage) -> None:
    """Set the new layers, where the stage begins with that, and print how well it fits."""
    if stage.repeat_motion:
        share = repeat_motion(model, recipe.seed, 2 * recipe.start_batches, recipe.start_motions)
        print(f"directions right {share:.2f}", flush=True)
    if stage.find_motion:
        fits = start_motion(model, recipe.seed, recipe.start_batches, recipe.start_motions)
        print(" ".join(f"{name} {fit:.2f}" for name, fit in fits.items()), flush=True)


def train_stage(
    model: ViClipModel, tokenizer: CLIPTokenizer, recipe: Recipe, index: int, save: loop.Save
) -> None:
    """Train one stage in place; saves every 100 steps and at the end."""
    stage = recipe.stages[index]
    rng = np.random.default_rng([recipe.seed, index])
    chooser = torch.Generator().manual_seed(recipe.seed + index)
    torch.manual_seed(recipe.seed + index)
    _start(model, recipe, stage)
    tokeniser = ViClipTokeniser(tokenizer, model.config.context_length)
    scale = LogScale(float(model.temp.detach()) if index else 1.0)
    heads = nn.ModuleDict({"dense": MotionHeads(WIDTH), "match": MatchLoss(), "scale": scale})
    pool = SamplePool(stage.sizes, stage.uses, stage.mix)

    def compute(step: int) -> dict[str, Tensor]:
        batch = make_batch(rng, stage.sizes, pool)
        chosen = None
        if stage.keep:
            owners = stack_labels(batch.labels)["owners"]
            chosen = choose_tokens(owners, stage.keep, chooser, stage.by_place)
        heads_only = index > 0 and step < recipe.head_steps
        weight = recipe.match_weight
        return batch_loss(model, tokeniser, heads, batch, chosen, weight, heads_only)

    @torch.no_grad()
    def save_with_scale(steps: int) -> None:
        model.temp.copy_(1 / scale.exp())
        save(sum(earlier.steps_done for earlier in recipe.stages[:index]) + steps)

    settings = loop.Loop(
        name=f"viclip stage {index}",
        steps=stage.steps_done,
        rate=lambda step: stage.rate(step, recipe.warmup),
        save_every=100,
        save=save_with_scale,
    )
    model.temp.requires_grad_(False)  # `scale` is trained in its place
    hidden, rest = loop.split_parameters(model, (".resblocks.",))
    rates = recipe.muon_rate, recipe.adam_rate
    optimizers = loop.make_optimizers(hidden, [*heads.parameters(), *rest], *rates)
    with quick_attention():
        loop.run(settings, optimizers, compute, [*model.parameters(), *heads.parameters()])


def train(recipe: Recipe, run: Run) -> None:
    """Train all stages from the first one on; between two the weights go through float16."""
    torch.manual_seed(recipe.seed)
    if run.start is None:
        tokenizer = make_tokenizer(recipe.seed, recipe.num_corpus_texts)
        model = make_model(tokenizer, CLIP_FOLDER)
    else:
        tokenizer = CLIPTokenizer.from_pretrained(run.start, local_files_only=True)
        model = load_viclip(run.start).requires_grad_(True)

    for index in range(run.first, len(recipe.stages)):

        def save(steps: int, model: ViClipModel = model) -> None:
            save_checkpoint(model, tokenizer, run.out, seed=recipe.seed, steps=steps)

        train_stage(model, tokenizer, recipe, index, save)
        model = load_viclip(run.out).requires_grad_(True)
