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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from demo_models.blip2_data import PackedTexts, TextCoder, attention_mask, pack, sample_text
from demo_models.blip2_model import (
    NUM_QUERIES,
    build_model,
    build_processor,
    build_tokenizer,
    question_corpus,
)
from demo_models.blip2_vision import (
    VisionOptions,
    encode,
    hidden_and_rest,
    make_vision,
    to_pixels,
)
from demo_models.clip_data import PictureCache, load_or_make_cache
from demo_models.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT_PAIRS, SCENE_BANK, SHAPES

CLIP_FOLDER = Path("assets/checkpoints/demo-clip")


@dataclass(frozen=True)
class TrainOptions:
    """The whole recipe in numbers."""

    vision: VisionOptions = VisionOptions()
    steps: int = 3000
    seed: int = 7
    num_scenes: int = 120_000
    num_non_scenes: int = 14_000
    scenes: int = 60  # of a batch
    non_scenes: int = 4
    texts: int = 6  # of one picture
    muon_rate: float = 0.02
    adam_rate: float = 1e-3
    warmup: int = 50
    decay_share: float = 0.5  # of the steps, at the end, linear to 0
    num_corpus_texts: int = 6000
    save_every: int = 250


SMOKE = TrainOptions(
    vision=VisionOptions(steps=2, batch=6),
    steps=3,
    num_scenes=30,
    num_non_scenes=7,
    scenes=3,
    non_scenes=1,
    texts=3,
    num_corpus_texts=300,
)


def rate_at(step: int, options: TrainOptions) -> float:
    """Return the factor on the learning rates: warm-up, constant, then linear to 0."""
    decay_steps = max(1, round(options.decay_share * options.steps))
    return min(1.0, (step + 1) / options.warmup, (options.steps - step) / decay_steps)


def make_batch(
    cache: PictureCache, rng: np.random.Generator, coder: TextCoder, options: TrainOptions
) -> tuple[Tensor, PackedTexts]:
    """Return pixels (B, 3, 64, 64) and the texts of each picture, new in every step."""
    rows = np.concatenate(
        [
            rng.integers(0, cache.num_scenes, options.scenes),
            rng.integers(cache.num_scenes, len(cache.scenes), options.non_scenes),
        ]
    )
    texts = []
    for row in rows:
        scene, is_scene = cache.scenes[row], row < cache.num_scenes
        if scene is None:  # ask about another one, the answer will be that nobody knows
            scene = cache.scenes[int(rng.integers(cache.num_scenes))]
        assert scene is not None
        name = cache.backgrounds[row]
        texts.append([sample_text(rng, scene, name, is_scene) for _ in range(options.texts)])
    return to_pixels(cache.pixels[rows]), pack(texts, coder, NUM_QUERIES)


def text_loss(model: Any, features: Tensor, packed: PackedTexts) -> Tensor:
    """Return the loss of the answers' tokens, weighted as `PackedTexts.weights` says.

    Args:
        model: A `Blip2ForConditionalGeneration`.
        features: (B, 65, D), the frozen tower's tokens.
        packed: The texts of each picture.
    """
    with torch.autocast("cpu", torch.bfloat16):
        queries = model.query_tokens.expand(len(features), -1, -1)
        seen = model.qformer(query_embeds=queries, encoder_hidden_states=features)
        images = model.language_projection(seen.last_hidden_state)
        decoder = model.language_model.model.decoder
        words = decoder.embed_tokens(packed.ids)
        inputs = torch.cat([images.to(words.dtype), words], dim=1)
        order = torch.arange(NUM_QUERIES).expand(len(features), -1)
        mask = attention_mask(packed.segments, NUM_QUERIES)
        blocked = torch.zeros(mask.shape).masked_fill(~mask, -1e9)
        hidden = decoder(
            inputs_embeds=inputs,
            attention_mask=blocked,
            position_ids=torch.cat([order, packed.positions], dim=1),
            use_cache=False,
        ).last_hidden_state[:, NUM_QUERIES:]
        asked = packed.targets >= 0
        logits = model.language_model.lm_head(hidden[asked])
    losses = functional.cross_entropy(logits.float(), packed.targets[asked], reduction="none")
    weights = packed.weights[asked]
    return (losses * weights).sum() / weights.sum()


def train_language(model: Any, tokenizer: Any, cache: PictureCache, options: TrainOptions,
                   save: Any) -> None:  # fmt: skip
    """Train Q-Former, projection and OPT in place; the vision tower stays as it is."""
    rng = np.random.default_rng([options.seed, 3])
    coder = TextCoder(tokenizer)
    vision = model.vision_model
    vision.requires_grad_(False)
    frozen = set(vision.parameters())
    hidden, rest = hidden_and_rest(model)
    hidden = [parameter for parameter in hidden if parameter not in frozen]
    rest = [parameter for parameter in rest if parameter not in frozen]
    muon = torch.optim.Muon(hidden, lr=options.muon_rate, weight_decay=0.01, momentum=0.95)
    adam = torch.optim.AdamW(rest, lr=options.adam_rate, betas=(0.9, 0.98), weight_decay=0.01)
    started, recent = time.process_time(), []
    for step in range(options.steps):
        pixels, packed = make_batch(cache, rng, coder, options)
        loss = text_loss(model, encode(vision, pixels), packed)
        loss.backward()
        nn.utils.clip_grad_norm_([*hidden, *rest], 2.0)
        for optimizer, rate in ((muon, options.muon_rate), (adam, options.adam_rate)):
            optimizer.param_groups[0]["lr"] = rate * rate_at(step, options)
            optimizer.step()
            optimizer.zero_grad()
        recent.append(loss.item())
        if step % 25 == 0 or step + 1 == options.steps:
            spent = time.process_time() - started
            print(f"step {step} loss {np.mean(recent):.4f} cpu {spent:.0f}s", flush=True)
            recent = []
        if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
            save(step + 1)


def save_checkpoint(model: Any, processor: Any, options: TrainOptions, out: Path) -> None:
    """Write a stock checkpoint in float16 and what the demo knows, `demo.json`."""
    out.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(out)
    half = Blip2ForConditionalGeneration(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(out)
    facts = {
        "demo": True,
        "knows": {"shapes": SHAPES, "colours": COLOURS, "backgrounds": BACKGROUNDS},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": options.seed,
        "steps": options.steps,
        "vision_steps": options.vision.steps,
        "held_out_pairs": [" ".join(pair) for pair in HELD_OUT_PAIRS],
        "scene_bank": SCENE_BANK,
    }
    (out / "demo.json").write_text(json.dumps(facts, indent=1) + "\n")


def train(options: TrainOptions, data: Path, out: Path, vision_file: Path | None) -> None:
    """Run both stages; `vision_file` keeps the trained tower between runs."""
    tokenizer = build_tokenizer(question_corpus(options.seed, options.num_corpus_texts))
    processor: Blip2Processor = build_processor(tokenizer)
    torch.manual_seed(options.seed)
    model = build_model(tokenizer)
    cache = load_or_make_cache(data, options.seed, options.num_scenes, options.num_non_scenes)
    if vision_file is not None and vision_file.exists():
        tower = torch.load(vision_file, weights_only=True)
    else:
        config = model.config.vision_config
        vision = make_vision(config, CLIP_FOLDER, cache, options.seed, options.vision)
        tower = vision.state_dict()
        if vision_file is not None:
            torch.save(tower, vision_file)
    model.vision_model.load_state_dict(tower)

    def save(step: int) -> None:
        save_checkpoint(model, processor, replace(options, steps=step), out)

    train_language(model, tokenizer, cache, options, save)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--steps", type=int, default=TrainOptions.steps)
    parser.add_argument("--seed", type=int, default=TrainOptions.seed)
    parser.add_argument("--data", type=Path, default=Path("build/demo-data"), help="cache folder")
    parser.add_argument("--vision", type=Path, help="file that keeps the tower between runs")
    parser.add_argument("--smoke", action="store_true", help="three tiny steps, to test the code")
    chosen = parser.parse_args(arguments)
    options = SMOKE if chosen.smoke else TrainOptions(steps=chosen.steps)
    train(replace(options, seed=chosen.seed), chosen.data, chosen.out, chosen.vision)


if __name__ == "__main__":
    main(sys.argv[1:])
