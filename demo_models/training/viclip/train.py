"""Trains the bundled demo ViCLIP: `python -m demo_models.train_viclip --out FOLDER`.

It starts from the demo CLIP. The first stages read a part of the patches of many videos, as
ViCLIP's own training does; the last one reads all. The run is fixed by its seed and its numbers of
steps, never by the clock.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from demo_models.training.clip.losses import MatchLoss, soft_cross_entropy
from demo_models.training.viclip.data import ShotPool, VideoBatch, VideoSizes, make_batch
from demo_models.training.viclip.heads import MotionHeads, choose_tokens, stack_labels, take
from demo_models.training.viclip.initialisation import as_pixels, repeat_motion, start_motion
from demo_models.training.viclip.model import WIDTH, make_model, make_tokenizer, plain_attention
from demo_models.world.motion import EVENT_KINDS
from demo_models.world.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT_PAIRS, SHAPES
from pipelines.viclip.conversion_viclip import load_viclip, save_viclip
from pipelines.viclip.modeling_viclip import ViClipAttention, ViClipModel, unit
from pipelines.viclip.tokens import ViClipTokeniser

CLIP_FOLDER = Path("assets/checkpoints/demo-clip")
MAX_LOGIT_SCALE = math.log(60.0)


@dataclass(frozen=True)
class Stage:
    """One stage; each starts with new optimizers and heads, from weights rounded to float16."""

    steps: int
    keep: int  # patches of each video that are read, 0 for all
    sizes: VideoSizes = VideoSizes()
    uses: int = 1  # batches that a filmed motion is used in
    mix: str = "all"  # one of `viclip_data.MIXES`
    peak: float = 1.0  # the highest factor on the rates
    last: float = 1.0  # the factor at the end; they fall linearly over the last 60 %
    find_motion: bool = False  # begin with `viclip_start.start_motion`
    repeat_motion: bool = False  # begin with `viclip_start.repeat_motion`
    by_place: bool = False  # see `viclip_loss.choose_tokens`
    stop: int = 0  # after so many steps of the plan, 0 for all

    @property
    def steps_done(self) -> int:
        """Return how many steps it takes."""
        return self.stop or self.steps


TWINS = VideoSizes(motions=30, twins=26)
HARD = VideoSizes(motions=36, twins=20, hard_texts=56, off_world_texts=14)
FEW = VideoSizes(motions=14, twins=6, non_scenes=2, hard_texts=20, off_world_texts=8)


@dataclass(frozen=True)
class TrainOptions:
    """The whole recipe in numbers."""

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


SMALL = VideoSizes(motions=3, twins=1, non_scenes=1, hard_texts=2, off_world_texts=1)
SMOKE = TrainOptions(
    stages=(
        Stage(2, 40, SMALL, uses=2, mix="simple", find_motion=True),
        Stage(1, 0, SMALL, last=0.0),
    ),
    num_corpus_texts=200,
)


def rate_at(step: int, stage: Stage, warmup: int) -> float:
    """Return the factor on the learning rates: warm-up, constant, then linear to the last."""
    fallen = max(0.0, (step + 1) / stage.steps - 0.4) / 0.6
    return min((step + 1) / warmup * stage.peak, stage.peak + fallen * (stage.last - stage.peak))


def build_optimizers(
    model: ViClipModel, heads: nn.Module, options: TrainOptions
) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the blocks and AdamW for everything else."""
    hidden: list[nn.Parameter] = []
    rest = list(heads.parameters())
    for name, parameter in model.named_parameters():
        if name != "temp":
            (hidden if ".resblocks." in name and parameter.ndim == 2 else rest).append(parameter)
    return [
        torch.optim.Muon(hidden, lr=options.muon_rate, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(rest, lr=options.adam_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


@contextmanager
def quick_attention() -> Iterator[None]:
    """Within it the network's attention is computed in the way that trains faster on a CPU."""
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
    tokens, kept = tower.transformer(tower.ln_pre(tokens), causal=False, keep=True)
    pooled = tower.ln_post(tokens[:, 0])
    return unit(pooled @ tower.proj), kept[-2][:, 1:].float(), pooled.float()


def encode_texts(model: ViClipModel, tokeniser: ViClipTokeniser, texts: list[str]) -> Tensor:
    """Return unit vectors (T, D); short and long texts run apart to save padding."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    third = math.ceil(len(order) / 3)
    parts = []
    for start in range(0, len(order), third):
        ids = tokeniser.tokenise([texts[i] for i in order[start : start + third]]).input_ids
        parts.append(model.get_text_features(ids).pooler_output)
    return unit(torch.cat(parts)[torch.tensor(order).argsort()])


def batch_loss(
    model: ViClipModel,
    tokeniser: ViClipTokeniser,
    heads: nn.ModuleDict,
    batch: VideoBatch,
    chosen: Tensor | None,
    apart: bool = False,
) -> dict[str, Tensor]:
    """Return the losses of one batch by name; `chosen` patches are read, None means all.

    With `apart` the dense labels do not change the network, only their heads.
    """
    pixels = as_pixels(batch)
    labels = stack_labels(batch.labels)
    if chosen is not None:
        labels = take(labels, chosen)
    with torch.autocast("cpu", torch.bfloat16):
        videos, patches, pooled = encode_videos(model, pixels, chosen)
        texts = encode_texts(model, tokeniser, batch.texts)
    if apart:
        patches, pooled = patches.detach(), pooled.detach()
    truth = torch.from_numpy(batch.truth)
    cosines = texts @ videos.T
    logits = cosines * scale_of(heads)
    contrast = soft_cross_entropy(logits, truth) + soft_cross_entropy(logits.T, truth.T)
    return {
        "contrast": contrast / 2,
        "match": heads["match"](cosines, truth),
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


def train_stage(
    model: ViClipModel,
    tokenizer: CLIPTokenizer,
    options: TrainOptions,
    number: int,
    save: Callable[[int], None],
) -> None:
    """Train one stage in place; calls `save` every 100 steps and at the end."""
    stage = options.stages[number]
    rng = np.random.default_rng([options.seed, number])
    chooser = torch.Generator().manual_seed(options.seed + number)
    torch.manual_seed(options.seed + number)
    if stage.repeat_motion:
        print(f"directions told right {repeat_motion(model, options.seed):.2f}", flush=True)
    tokeniser = ViClipTokeniser(tokenizer, model.config.context_length)
    if stage.find_motion:
        fits = start_motion(model, options.seed)
        print(" ".join(f"{name} {fit:.2f}" for name, fit in fits.items()), flush=True)
    scale = LogScale(float(model.temp.detach()) if number else 1.0)
    heads = nn.ModuleDict({"dense": MotionHeads(WIDTH), "match": MatchLoss(), "scale": scale})
    optimizers = build_optimizers(model, heads, options)
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    parameters = [*model.parameters(), *heads.parameters()]
    pool = ShotPool(stage.sizes, stage.uses, stage.mix)
    started = time.process_time()
    for step in range(stage.steps_done):
        batch = make_batch(rng, stage.sizes, pool)
        chosen = None
        if stage.keep:
            owners = stack_labels(batch.labels)["owners"]
            chosen = choose_tokens(owners, stage.keep, chooser, stage.by_place)
        with quick_attention():
            apart = number > 0 and step < options.head_steps
            losses = batch_loss(model, tokeniser, heads, batch, chosen, apart)
            losses["match"] = options.match_weight * losses["match"]
            torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * rate_at(step, stage, options.warmup)
            optimizer.step()
            optimizer.zero_grad()
        done = step + 1
        if step % 25 == 0 or done == stage.steps_done:
            told = " ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items())
            spent = time.process_time() - started
            print(f"stage {number} step {step} {told} cpu {spent:.0f}s", flush=True)
        if done % 100 == 0 or done == stage.steps_done:
            with torch.no_grad():
                model.temp.copy_(1 / scale_of(heads))
            save(done)


def save(
    model: ViClipModel, tokenizer: CLIPTokenizer, options: TrainOptions, steps: int, out: Path
) -> None:
    """Write the checkpoint in float16 under the published names, its vocabulary and `demo.json`.

    Texts and threshold of the "is this a demo scene" hint are measured and added by
    `demo_models.evaluate_viclip`; values that are there already are kept.
    """
    half = ViClipModel(model.config).half()
    half.load_state_dict(model.state_dict())
    save_viclip(half, out)
    tokenizer.save_pretrained(out)
    about = out / "demo.json"
    old = json.loads(about.read_text()) if about.exists() else {}
    facts = {
        "demo": True,
        "knows": {
            "shapes": SHAPES,
            "colours": COLOURS,
            "backgrounds": BACKGROUNDS,
            "events": EVENT_KINDS,
        },
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": options.seed,
        "steps": steps,
        "held_out_pairs": [" ".join(pair) for pair in HELD_OUT_PAIRS],
        "scene_bank": old.get("scene_bank", ()),
        "scene_score": "cosine",
        "scene_threshold": old.get("scene_threshold", -1.0),
    }
    about.write_text(json.dumps(facts, indent=1) + "\n")


def train(options: TrainOptions, clip: Path, out: Path, start: Path | None, first: int) -> None:
    """Train all stages from `first` on; between two the weights go through float16."""
    torch.manual_seed(options.seed)
    if start is None:
        tokenizer = make_tokenizer(options.seed, options.num_corpus_texts)
        model = make_model(tokenizer, clip)
    else:
        tokenizer = CLIPTokenizer.from_pretrained(start, local_files_only=True)
        model = load_viclip(start).requires_grad_(True)
    for number in range(first, len(options.stages)):
        before = sum(stage.steps_done for stage in options.stages[:number])

        def keep(done: int, model: ViClipModel = model, before: int = before) -> None:
            save(model, tokenizer, options, before + done, out)

        train_stage(model, tokenizer, options, number, keep)
        model = load_viclip(out).requires_grad_(True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--clip", type=Path, default=CLIP_FOLDER, help="the trained demo CLIP")
    parser.add_argument("--start", type=Path, help="begin with this checkpoint of an earlier stage")
    parser.add_argument("--first", type=int, default=0, help="number of the stage to begin with")
    parser.add_argument("--seed", type=int, default=TrainOptions.seed)
    parser.add_argument("--smoke", action="store_true", help="three tiny steps, to test the code")
    chosen = parser.parse_args(arguments)
    options = replace(SMOKE if chosen.smoke else TrainOptions(), seed=chosen.seed)
    train(options, chosen.clip, chosen.out, chosen.start, chosen.first)


if __name__ == "__main__":
    main(sys.argv[1:])
