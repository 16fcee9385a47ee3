"""Training of the bundled demo BLIP-2.

First the vision tower, which starts as that of the demo CLIP, learns dense labels. Then it is
frozen, and the Q-Former and the OPT language model learn to caption and to answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Blip2ForConditionalGeneration

from demo_models.training import loop
from demo_models.training.blip2.data import (
    PackedTexts,
    TextCoder,
    attention_mask,
    pack,
    question_corpus,
    sample_text,
)
from demo_models.training.blip2.heads import NameHeads, SlotHeads, attention_loss, slot_labels
from demo_models.training.blip2.model import (
    NUM_QUERIES,
    build_model,
    build_processor,
    build_tokenizer,
    save_checkpoint,
)
from demo_models.training.blip2.vision import (
    WIDTH,
    VisionRecipe,
    encode,
    make_vision,
    to_pixels,
)
from demo_models.training.checkpoints import CLIP_FOLDER, Run
from demo_models.training.clip.data import ImageCache, load_or_make_cache


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
    attention: float = 0.0  # weight of `attention_loss`; 0 leaves out `NameHeads` as well


@dataclass(frozen=True)
class Recipe:
    """All numbers of the training."""

    vision: VisionRecipe = VisionRecipe()
    stages: tuple[Stage, ...] = (
        Stage(1000, 38, 2),
        Stage(1700, 38, 2, horizon=1700, mix="late"),
        Stage(250, 38, 2, mix="places"),
        Stage(600, 38, 2, horizon=600, mix="late"),
        Stage(800, 38, 2, horizon=800, peak=0.5, mix="late"),
        Stage(1500, 37, 3, horizon=3800, mix="several", crowded=0.6, attention=0.3),
        Stage(1600, 37, 3, horizon=1600, peak=0.6, mix="several", crowded=0.6, attention=0.3),
    )
    seed: int = 7
    num_scenes: int = 120_000
    num_non_scenes: int = 14_000
    texts: int = 6  # of one image
    muon_rate: float = 0.012
    adam_rate: float = 1e-3
    slot_weight: float = 0.5  # of the loss of `SlotHeads`
    head_steps: int = 100  # of a later stage, in which its new heads do not change the rest
    warmup: int = 50
    num_corpus_texts: int = 6000
    save_every: int = 250


SMOKE = Recipe(
    vision=VisionRecipe(steps=2, batch=6),
    stages=(Stage(2, 3, 1), Stage(1, 2, 1, horizon=1, mix="several", crowded=0.5, attention=0.2)),
    num_scenes=30,
    num_non_scenes=7,
    texts=3,
    num_corpus_texts=300,
)


def make_batch(
    cache: ImageCache, rng: np.random.Generator, coder: TextCoder, stage: Stage, texts: int
) -> tuple[Tensor, PackedTexts, dict[str, Tensor]]:
    """Return pixels (B, 3, 64, 64), new texts of each image, and labels for `SlotHeads`."""
    chosen = rng.integers(0, cache.num_scenes, stage.scenes)
    if stage.crowded:
        alone = np.array([len(getattr(cache.scenes[row], "objects", ())) == 1 for row in chosen])
        again = alone & (rng.random(len(chosen)) < stage.crowded)
        chosen[again] = rng.integers(0, cache.num_scenes, int(again.sum()))
    strange = rng.integers(cache.num_scenes, len(cache.scenes), stage.non_scenes)
    rows = np.concatenate([chosen, strange])
    pairs = []
    for row in rows:
        scene, is_scene = cache.scenes[row], row < cache.num_scenes
        if scene is None:  # ask about another one, the answer will be that nobody knows
            scene = cache.scenes[int(rng.integers(cache.num_scenes))]
        assert scene is not None
        name = cache.backgrounds[row]
        pairs.append([sample_text(rng, scene, name, is_scene, stage.mix) for _ in range(texts)])
    labels = slot_labels([cache.scenes[i] for i in rows], [cache.backgrounds[i] for i in rows])
    return to_pixels(cache.pixels[rows]), pack(pairs, coder, NUM_QUERIES), labels


def query_image(model: Any, features: Tensor) -> Tensor:
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
        packed: The texts of each image.
        cells: (B, 4), the cell of each object, to compute `attention_loss` too; it is the
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
    return loss, attention_loss(read.attentions[-1], packed.about, cells)


def train_language(
    model: Any,
    coder: TextCoder,
    cache: ImageCache,
    recipe: Recipe,
    index: int,
    save: loop.Save,
) -> None:
    """Train Q-Former, projection and OPT in place for one stage, by its index."""
    stage = recipe.stages[index]
    rng = np.random.default_rng([recipe.seed, 3 + index])
    torch.manual_seed(recipe.seed + index)
    heads = nn.ModuleList([SlotHeads(WIDTH)] + [NameHeads(WIDTH)] * (stage.attention > 0))

    def compute(step: int) -> dict[str, Tensor]:
        pixels, packed, labels = make_batch(cache, rng, coder, stage, recipe.texts)
        queries = query_image(model, encode(model.vision_model, pixels))
        heads_only = index > 0 and step < recipe.head_steps
        read = queries.detach() if heads_only else queries
        slots = torch.stack([head(read, labels) for head in heads]).sum()
        cells = labels["cells"] if stage.attention else None
        answers, attention = text_loss(model, queries, packed, cells)
        return {
            "answers": answers,
            "slots": recipe.slot_weight * slots,
            "attention": stage.attention * attention,
        }

    before = sum(earlier.steps for earlier in recipe.stages[:index])
    settings = loop.Loop(
        name=f"blip2 stage {index}",
        steps=stage.steps,
        rate=lambda step: loop.linear(step, recipe.warmup, stage.horizon, stage.peak),
        clip_norm=2.0,
        save_every=recipe.save_every,
        save=lambda steps: save(before + steps),
    )
    hidden, rest = loop.split_parameters(model, (".layers.", ".layer."))
    rates = recipe.muon_rate, recipe.adam_rate
    optimizers = loop.make_optimizers(hidden, [*rest, *heads.parameters()], *rates)
    loop.run(settings, optimizers, compute)
    loop.round_to_half(p for p in model.parameters() if p.requires_grad)


def vision_weights(
    model: Any, cache: ImageCache, recipe: Recipe, file: Path | None
) -> dict[str, Tensor]:
    """Return the trained tower's weights, from `file` if it is there; otherwise written to it."""
    if file is not None and file.exists():
        known: dict[str, Tensor] = torch.load(file, weights_only=True)
        return known
    config = model.config.vision_config
    vision = make_vision(config, CLIP_FOLDER, cache, recipe.seed, recipe.vision)
    weights: dict[str, Tensor] = vision.state_dict()
    if file is not None:
        torch.save(weights, file)
    return weights


def train(recipe: Recipe, run: Run) -> None:
    """Train the vision tower, then the stages of the language side."""
    tokenizer = build_tokenizer(question_corpus(recipe.seed, recipe.num_corpus_texts))
    processor: Any = build_processor(tokenizer)
    torch.manual_seed(recipe.seed)
    model = build_model(tokenizer)
    cache = load_or_make_cache(run.data, recipe.seed, recipe.num_scenes, recipe.num_non_scenes)
    if run.start is not None:
        loaded = Blip2ForConditionalGeneration.from_pretrained(run.start, dtype=torch.float32)
        model.load_state_dict(loaded.state_dict())
    model.vision_model.load_state_dict(vision_weights(model, cache, recipe, run.tower))
    model.vision_model.requires_grad_(False)

    def save(steps: int) -> None:
        facts = {"seed": recipe.seed, "steps": steps, "vision_steps": recipe.vision.steps}
        save_checkpoint(model, processor, run.out, **facts)

    coder = TextCoder(tokenizer)
    for index in range(run.first, len(recipe.stages)):
        train_language(model, coder, cache, recipe, index, save)
