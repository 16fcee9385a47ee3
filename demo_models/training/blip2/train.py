"""Trains the bundled demo BLIP-2: `python -m demo_models.train_blip2 --out FOLDER`.

First the vision tower, warm-started from the demo CLIP, learns dense labels; then it is frozen
and the Q-Former and the OPT language model learn to caption and to answer. The run is fixed by
its seed and its numbers of steps, never by the clock.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Blip2ForConditionalGeneration

from demo_models.language.question_wording import FRAME
from demo_models.language.unanswerable import DONT_KNOW
from demo_models.training.blip2.data import (
    PackedTexts,
    TextCoder,
    attention_mask,
    pack,
    sample_text,
)
from demo_models.training.blip2.heads import NameHeads, SlotHeads, pointing_loss, slot_labels
from demo_models.training.blip2.model import (
    NUM_QUERIES,
    build_model,
    build_processor,
    build_tokenizer,
    question_corpus,
)
from demo_models.training.blip2.vision import (
    WIDTH,
    VisionOptions,
    encode,
    hidden_and_rest,
    make_vision,
    to_pixels,
)
from demo_models.training.clip.data import PictureCache, load_or_make_cache
from demo_models.world.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT_PAIRS, SHAPES

Save = Callable[[int], None]
CLIP_FOLDER = Path("assets/checkpoints/demo-clip")
EXAMPLE_QUESTIONS = (
    "What shape is this?",
    "What colour is it?",
    "What colour is the background?",
    "How many shapes are there?",
    "Is there a red circle?",
    "Is it large or small?",
    "Where is it?",
    "What is in the picture?",
)


@dataclass(frozen=True)
class Stage:
    """One stage of the language side; each starts with new optimizers."""

    steps: int
    scenes: int  # of a batch
    non_scenes: int
    horizon: int = 10**9  # the step at which the rates, falling linearly from 1, would be 0
    peak: float = 1.0  # the highest factor on the rates
    mix: str = "even"  # one of `questions.MIXES`
    crowded: float = 0.0  # how often a scene of one object is drawn again
    pointing: float = 0.0  # weight of `pointing_loss`; 0 leaves out `NameHeads` as well


@dataclass(frozen=True)
class TrainOptions:
    """The whole recipe in numbers."""

    vision: VisionOptions = VisionOptions()
    stages: tuple[Stage, ...] = (
        Stage(1000, 38, 2),
        Stage(1700, 38, 2, horizon=1700, mix="late"),
        Stage(250, 38, 2, mix="places"),
        Stage(600, 38, 2, horizon=600, mix="late"),
        Stage(800, 38, 2, horizon=800, peak=0.5, mix="late"),
        Stage(1500, 37, 3, horizon=3800, mix="several", crowded=0.6, pointing=0.3),
        Stage(1600, 37, 3, horizon=1600, peak=0.6, mix="several", crowded=0.6, pointing=0.3),
    )
    seed: int = 7
    num_scenes: int = 120_000
    num_non_scenes: int = 14_000
    texts: int = 6  # of one picture
    muon_rate: float = 0.012
    adam_rate: float = 1e-3
    slot_weight: float = 0.5  # of the loss of `SlotHeads`
    head_steps: int = 100  # of a later stage, in which its new heads do not change the rest
    warmup: int = 50
    num_corpus_texts: int = 6000
    save_every: int = 250


SMOKE = TrainOptions(
    vision=VisionOptions(steps=2, batch=6),
    stages=(Stage(2, 3, 1), Stage(1, 2, 1, horizon=1, mix="several", crowded=0.5, pointing=0.2)),
    num_scenes=30,
    num_non_scenes=7,
    texts=3,
    num_corpus_texts=300,
)


def rate_at(step: int, stage: Stage, warmup: int) -> float:
    """Return the factor on the learning rates: warm-up, then linear towards 0."""
    return stage.peak * min((step + 1) / warmup, 1 - step / stage.horizon)


def make_batch(
    cache: PictureCache, rng: np.random.Generator, coder: TextCoder, stage: Stage, texts: int
) -> tuple[Tensor, PackedTexts, dict[str, Tensor]]:
    """Return pixels (B, 3, 64, 64), new texts of each picture, and labels for `SlotHeads`."""
    chosen = rng.integers(0, cache.num_scenes, stage.scenes)
    if stage.crowded:
        alone = np.array([len(getattr(cache.scenes[row], "objects", ())) == 1 for row in chosen])
        again = alone & (rng.random(len(chosen)) < stage.crowded)
        chosen[again] = rng.integers(0, cache.num_scenes, int(again.sum()))
    strange = rng.integers(cache.num_scenes, len(cache.scenes), stage.non_scenes)
    rows = np.concatenate([chosen, strange])
    told = []
    for row in rows:
        scene, is_scene = cache.scenes[row], row < cache.num_scenes
        if scene is None:  # ask about another one, the answer will be that nobody knows
            scene = cache.scenes[int(rng.integers(cache.num_scenes))]
        assert scene is not None
        name = cache.backgrounds[row]
        told.append([sample_text(rng, scene, name, is_scene, stage.mix) for _ in range(texts)])
    labels = slot_labels([cache.scenes[i] for i in rows], [cache.backgrounds[i] for i in rows])
    return to_pixels(cache.pixels[rows]), pack(told, coder, NUM_QUERIES), labels


def read_picture(model: Any, features: Tensor) -> Tensor:
    """Return the Q-Former's queries (B, 16, D) after they read the tower's tokens (B, 65, D)."""
    with torch.autocast("cpu", torch.bfloat16):
        queries = model.query_tokens.expand(len(features), -1, -1)
        seen = model.qformer(query_embeds=queries, encoder_hidden_states=features)
    read: Tensor = seen.last_hidden_state
    return read.float()


def text_loss(
    model: Any, queries: Tensor, packed: PackedTexts, cells: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the loss of the answers' tokens, weighted as `PackedTexts.weights` says.

    Args:
        model: A `Blip2ForConditionalGeneration`.
        queries: (B, 16, D), what the Q-Former read.
        packed: The texts of each picture.
        cells: (B, 4), the cell of each object, to compute `pointing_loss` too; it is the
            second value, otherwise 0.
    """
    with torch.autocast("cpu", torch.bfloat16):
        images = model.language_projection(queries)
        decoder = model.language_model.model.decoder
        words = decoder.embed_tokens(packed.ids)
        inputs = torch.cat([images.to(words.dtype), words], dim=1)
        order = torch.arange(NUM_QUERIES).expand(len(queries), -1)
        mask = attention_mask(packed.segments, NUM_QUERIES)
        blocked = torch.zeros(mask.shape).masked_fill(~mask, -1e9)
        read = decoder(
            inputs_embeds=inputs,
            attention_mask=blocked,
            position_ids=torch.cat([order, packed.positions], dim=1),
            use_cache=False,
            output_attentions=cells is not None,
        )
        asked = packed.targets >= 0
        logits = model.language_model.lm_head(read.last_hidden_state[:, NUM_QUERIES:][asked])
    losses = functional.cross_entropy(logits.float(), packed.targets[asked], reduction="none")
    weights = packed.weights[asked]
    loss = (losses * weights).sum() / weights.sum()
    if cells is None:
        return loss, loss.new_zeros(())
    return loss, pointing_loss(read.attentions[-1], packed.about, cells)


def build_optimizers(
    model: Any, heads: nn.Module, options: TrainOptions
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return Muon for the hidden matrices and AdamW for the rest, with their rates."""
    hidden, rest = (
        [parameter for parameter in group if parameter.requires_grad]
        for group in hidden_and_rest(model)
    )
    muon = torch.optim.Muon(hidden, lr=options.muon_rate, weight_decay=0.01, momentum=0.95)
    rest += heads.parameters()
    adam = torch.optim.AdamW(rest, lr=options.adam_rate, betas=(0.9, 0.98), weight_decay=0.01)
    return [(muon, options.muon_rate), (adam, options.adam_rate)]


@torch.no_grad()
def round_to_half(model: nn.Module) -> None:
    """Round what is trained to float16, as a saved and loaded checkpoint is."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.copy_(parameter.half().float())


def train_language(
    model: Any, coder: TextCoder, cache: PictureCache, options: TrainOptions, index: int, save: Save
) -> None:
    """Train Q-Former, projection and OPT in place for one stage, by its index."""
    stage = options.stages[index]
    before = sum(earlier.steps for earlier in options.stages[:index])
    rng = np.random.default_rng([options.seed, 3 + index])
    torch.manual_seed(options.seed + index)
    heads = nn.ModuleList([SlotHeads(WIDTH)] + [NameHeads(WIDTH)] * (stage.pointing > 0))
    optimizers = build_optimizers(model, heads, options)
    groups = [optimizer.param_groups[0] for optimizer, _ in optimizers]
    trained = [parameter for group in groups for parameter in group["params"]]
    started, recent = time.process_time(), []
    for step in range(stage.steps):
        pixels, packed, labels = make_batch(cache, rng, coder, stage, options.texts)
        queries = read_picture(model, encode(model.vision_model, pixels))
        alone = index > 0 and step < options.head_steps
        slots = sum(head(queries.detach() if alone else queries, labels) for head in heads)
        cells = labels["cells"] if stage.pointing else None
        loss, pointing = text_loss(model, queries, packed, cells)
        (loss + options.slot_weight * slots + stage.pointing * pointing).backward()
        nn.utils.clip_grad_norm_(trained, 2.0)
        factor = rate_at(step, stage, options.warmup)
        for optimizer, rate in optimizers:
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad()
        recent.append((loss.item(), slots.item(), pointing.item()))
        if step % 25 == 0 or step + 1 == stage.steps:
            spent = time.process_time() - started
            means = zip(("loss", "slots", "pointing"), np.mean(recent, axis=0), strict=True)
            told = " ".join(f"{name} {mean:.4f}" for name, mean in means)
            print(f"stage {index} step {step} {told} cpu {spent:.0f}s", flush=True)
            recent = []
        if (step + 1) % options.save_every == 0 or step + 1 == stage.steps:
            save(before + step + 1)
    round_to_half(model)


def save_checkpoint(
    model: Any, processor: Any, options: TrainOptions, steps: int, out: Path
) -> None:
    """Write a stock checkpoint in float16 and what the demo knows, `demo.json`."""
    out.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(out)
    half = Blip2ForConditionalGeneration(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(out)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    write_card(num_parameters, options, steps, out)


def write_card(num_parameters: int, options: TrainOptions, steps: int, out: Path) -> None:
    """Write `demo.json`; there is no bank of texts, the answer "I don't know" is the hint."""
    facts = {
        "demo": True,
        "knows": {"shapes": SHAPES, "colours": COLOURS, "backgrounds": BACKGROUNDS},
        "parameters": num_parameters,
        "seed": options.seed,
        "steps": steps,
        "vision_steps": options.vision.steps,
        "held_out_pairs": [" ".join(pair) for pair in HELD_OUT_PAIRS],
        "prompt": FRAME,
        "questions": EXAMPLE_QUESTIONS,
        "unknown_answer": DONT_KNOW,
        "scene_bank": [],
        "scene_score": "none",
        "scene_threshold": 0.0,
    }
    (out / "demo.json").write_text(json.dumps(facts, indent=1) + "\n")


def vision_weights(
    model: Any, cache: PictureCache, options: TrainOptions, file: Path | None
) -> dict[str, Tensor]:
    """Return the trained tower's weights, from `file` if it is there; otherwise written to it."""
    if file is not None and file.exists():
        known: dict[str, Tensor] = torch.load(file, weights_only=True)
        return known
    config = model.config.vision_config
    vision = make_vision(config, CLIP_FOLDER, cache, options.seed, options.vision)
    weights: dict[str, Tensor] = vision.state_dict()
    if file is not None:
        torch.save(weights, file)
    return weights


def train(
    options: TrainOptions,
    data: Path,
    out: Path,
    vision_file: Path | None = None,
    start: Path | None = None,
    first: int = 0,
) -> None:
    """Run the stages from `first` on; a later one starts from the checkpoint `start`."""
    tokenizer = build_tokenizer(question_corpus(options.seed, options.num_corpus_texts))
    processor: Any = build_processor(tokenizer)
    torch.manual_seed(options.seed)
    model = build_model(tokenizer)
    cache = load_or_make_cache(data, options.seed, options.num_scenes, options.num_non_scenes)
    if start is not None:
        loaded = Blip2ForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
        model.load_state_dict(loaded.state_dict())
    model.vision_model.load_state_dict(vision_weights(model, cache, options, vision_file))
    model.vision_model.requires_grad_(False)

    def save(steps: int) -> None:
        save_checkpoint(model, processor, options, steps, out)

    coder = TextCoder(tokenizer)
    for index in range(first, len(options.stages)):
        train_language(model, coder, cache, options, index, save)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--seed", type=int, default=TrainOptions.seed)
    parser.add_argument("--data", type=Path, default=Path("build/demo-data"), help="cache folder")
    parser.add_argument("--vision", type=Path, help="file that keeps the tower between runs")
    parser.add_argument("--start", type=Path, help="checkpoint that stages left")
    parser.add_argument("--first", type=int, default=0, help="stage to go on with from there")
    parser.add_argument("--smoke", action="store_true", help="three tiny steps, to test the code")
    chosen = parser.parse_args(arguments)
    options = replace(SMOKE if chosen.smoke else TrainOptions(), seed=chosen.seed)
    train(options, chosen.data, chosen.out, chosen.vision, chosen.start, chosen.first)


if __name__ == "__main__":
    main(sys.argv[1:])
