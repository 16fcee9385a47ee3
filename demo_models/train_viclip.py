"""Trains the bundled demo ViCLIP: `python -m demo_models.train_viclip --out FOLDER`.

It starts from the demo CLIP. Most steps read a part of the patches of many videos, as ViCLIP's
own training does; the last ones read all patches. The run is fixed by its seed and its numbers
of steps, never by the clock.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from demo_models.clip_loss import MatchLoss, soft_cross_entropy
from demo_models.motion import EVENT_KINDS
from demo_models.viclip_data import VideoBatch, VideoSizes, make_batch
from demo_models.viclip_loss import MotionHeads, choose_tokens, stack_labels, take
from demo_models.viclip_model import WIDTH, make_model, make_tokenizer, plain_attention
from demo_models.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT_PAIRS, SHAPES
from pipelines.viclip.conversion_viclip import save_viclip
from pipelines.viclip.modeling_viclip import ViClipAttention, ViClipModel, unit
from pipelines.viclip.processing_viclip import normalise_frames
from pipelines.viclip.tokens import ViClipTokeniser

CLIP_FOLDER = Path("assets/checkpoints/demo-clip")
MAX_LOGIT_SCALE = math.log(60.0)
NUM_PATCHES = 512


@dataclass(frozen=True)
class TrainOptions:
    """The whole recipe in numbers."""

    steps: int = 900  # with `keep` patches of each video
    full_steps: int = 120  # afterwards, with all of them
    seed: int = 7
    keep: int = 192
    sizes: VideoSizes = VideoSizes()
    full_sizes: VideoSizes = VideoSizes(
        motions=14, twins=6, non_scenes=2, hard_texts=20, off_world_texts=8
    )
    muon_rate: float = 0.012
    adam_rate: float = 1.5e-3
    warmup: int = 40
    decay_share: float = 0.6  # of all steps, at the end, linear to 0
    match_weight: float = 0.5
    dense_weight: float = 1.0
    num_corpus_texts: int = 8000

    @property
    def all_steps(self) -> int:
        """Steps of both parts."""
        return self.steps + self.full_steps


SMOKE = TrainOptions(
    steps=2,
    full_steps=1,
    sizes=VideoSizes(motions=3, twins=1, non_scenes=1, hard_texts=2, off_world_texts=1),
    full_sizes=VideoSizes(motions=2, twins=1, non_scenes=1, hard_texts=1, off_world_texts=1),
    num_corpus_texts=200,
)


def rate_at(step: int, options: TrainOptions) -> float:
    """Return the factor on the learning rates: warm-up, constant, then linear to 0."""
    decay = max(1, round(options.decay_share * options.all_steps))
    return min(1.0, (step + 1) / options.warmup, (options.all_steps - step) / decay)


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
    options: TrainOptions,
    chooser: torch.Generator | None,
) -> dict[str, Tensor]:
    """Return the losses of one batch by name; `chooser` picks patches, None reads all."""
    flat = batch.pixels.reshape(-1, *batch.pixels.shape[2:])
    pixels = normalise_frames(flat).unflatten(0, batch.pixels.shape[:2])
    labels = stack_labels(batch.labels)
    chosen = None
    if chooser is not None:
        chosen = choose_tokens(labels["owners"], options.keep, chooser)
        labels = take(labels, chosen)
    with torch.autocast("cpu", torch.bfloat16):
        videos, patches, pooled = encode_videos(model, pixels, chosen)
        texts = encode_texts(model, tokeniser, batch.texts)
    truth = torch.from_numpy(batch.truth)
    cosines = texts @ videos.T
    logits = cosines * heads["scale"].exp()
    contrast = soft_cross_entropy(logits, truth) + soft_cross_entropy(logits.T, truth.T)
    dense = heads["dense"](patches, pooled, labels)
    return {
        "contrast": contrast / 2,
        "match": options.match_weight * heads["match"](cosines, truth),
        **{name: options.dense_weight * loss for name, loss in dense.items()},
    }


class LogScale(nn.Module):
    """The logarithm of the factor on the cosines, trained."""

    def __init__(self) -> None:
        """Start at 14, as CLIP does."""
        super().__init__()
        self.value = nn.Parameter(torch.tensor(math.log(14.0)))

    def exp(self) -> Tensor:
        """Return the factor."""
        return self.value.clamp(max=MAX_LOGIT_SCALE).exp()


def train(model: ViClipModel, tokenizer: CLIPTokenizer, options: TrainOptions, out: Path) -> None:
    """Train in place; saves to `out` every 100 steps, so that a long run can be looked at."""
    rng = np.random.default_rng(options.seed + 1)
    chooser = torch.Generator().manual_seed(options.seed)
    tokeniser = ViClipTokeniser(tokenizer, model.config.context_length)
    heads = nn.ModuleDict({"dense": MotionHeads(WIDTH), "match": MatchLoss(), "scale": LogScale()})
    optimizers = build_optimizers(model, heads, options)
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    parameters = [*model.parameters(), *heads.parameters()]
    started = time.process_time()
    for step in range(options.all_steps):
        whole = step >= options.steps
        batch = make_batch(rng, options.full_sizes if whole else options.sizes)
        with quick_attention():
            losses = batch_loss(model, tokeniser, heads, batch, options, None if whole else chooser)
            torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * rate_at(step, options)
            optimizer.step()
            optimizer.zero_grad()
        if step % 25 == 0 or step == options.all_steps - 1:
            told = " ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items())
            spent = time.process_time() - started
            print(f"step {step} {told} cpu {spent:.0f}s", flush=True)
        if (step + 1) % 100 == 0 or step + 1 == options.all_steps:
            with torch.no_grad():
                model.temp.copy_(1 / heads["scale"].exp())
            save(model, tokenizer, options, step + 1, out)


def save(
    model: ViClipModel, tokenizer: CLIPTokenizer, options: TrainOptions, step: int, out: Path
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
        "steps": step,
        "held_out_pairs": [" ".join(pair) for pair in HELD_OUT_PAIRS],
        "scene_bank": old.get("scene_bank", ()),
        "scene_score": "cosine",
        "scene_threshold": old.get("scene_threshold", -1.0),
    }
    about.write_text(json.dumps(facts, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--clip", type=Path, default=CLIP_FOLDER, help="the trained demo CLIP")
    parser.add_argument("--steps", type=int, default=TrainOptions.steps)
    parser.add_argument("--full-steps", type=int, default=TrainOptions.full_steps)
    parser.add_argument("--seed", type=int, default=TrainOptions.seed)
    parser.add_argument("--smoke", action="store_true", help="three tiny steps, to test the code")
    chosen = parser.parse_args(arguments)
    options = TrainOptions(steps=chosen.steps, full_steps=chosen.full_steps)
    options = replace(SMOKE if chosen.smoke else options, seed=chosen.seed)
    torch.manual_seed(options.seed)
    tokenizer = make_tokenizer(options.seed, options.num_corpus_texts)
    train(make_model(tokenizer, chosen.clip), tokenizer, options, chosen.out)


if __name__ == "__main__":
    main(sys.argv[1:])
