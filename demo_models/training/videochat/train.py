"""Training of the bundled demo VideoChat-Flash.

First the vision tower, which starts as that of the demo CLIP, learns dense labels of moving shapes.
Then it is frozen, and projector and language model learn to answer: single questions first, then
dialogues of up to three turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from demo_models.language.dialogues import sample_dialogue
from demo_models.training import loop
from demo_models.training.checkpoints import CLIP_FOLDER, Run
from demo_models.training.videochat.data import VideoCache, load_or_make_cache
from demo_models.training.videochat.features import (
    FeatureCache,
    FeatureHeads,
    attention_loss,
    load_or_make_features,
)
from demo_models.training.videochat.initialisation import WIDTH
from demo_models.training.videochat.model import (
    NUM_VISUAL_TOKENS,
    build_model,
    build_tokenizer,
    save_checkpoint,
)
from demo_models.training.videochat.text import (
    DialogueCoder,
    PackedDialogues,
    attention_mask,
    dialogue_corpus,
    pack,
)
from demo_models.training.videochat.tower import TowerRecipe, TowerStage, make_tower
from pipelines.models.videochat_flash.conversion_videochat_flash import load_model
from pipelines.models.videochat_flash.modeling_videochat_flash import VideoChatFlashModel

HEADS_AFTER = 2  # layers of the language model


@dataclass(frozen=True)
class Stage:
    """One stage of the language side; each starts with new optimizers."""

    steps: int
    turn_shares: tuple[float, ...] = (1.0, 0.0, 0.0)  # of conversations of 1, 2, 3 turns
    mix: str = "even"  # one of `dialogues.SHARES`
    horizon: int = 10**9  # the step at which the rates, falling linearly from 1, would be 0
    peak: float = 1.0  # the highest factor on the rates
    heads: float = 0.5  # weight of `FeatureHeads`
    attention: float = 0.0  # weight of `attention_loss`


@dataclass(frozen=True)
class Recipe:
    """All numbers of the training."""

    tower: TowerRecipe = TowerRecipe()
    stages: tuple[Stage, ...] = (
        Stage(800),
        Stage(1800, (0.45, 0.25, 0.30), "late", horizon=2600),
        Stage(400, (0.40, 0.25, 0.35), "last", horizon=1900, peak=0.5, attention=0.3),
        Stage(800, (0.40, 0.25, 0.35), "last", 950, peak=0.4, heads=0.0, attention=0.3),
    )
    seed: int = 7
    num_videos: int = 18_000
    videos: int = 16  # of a batch
    dialogues: int = 12  # about one video
    max_tokens: int = 300  # after the rows
    muon_rate: float = 0.012
    adam_rate: float = 1e-3
    head_steps: int = 100  # of a later stage, in which its new heads do not change the rest
    warmup: int = 50
    num_corpus: int = 3000
    save_every: int = 200


SMOKE = Recipe(
    tower=TowerRecipe((TowerStage(2), TowerStage(1, moving=True)), videos=3),
    stages=(Stage(2), Stage(1, (0.0, 0.5, 0.5), "late", horizon=1, attention=0.3)),
    num_videos=12,
    videos=3,
    dialogues=3,
    num_corpus=200,
)


def make_batch(
    cache: FeatureCache,
    rng: np.random.Generator,
    coder: DialogueCoder,
    stage: Stage,
    recipe: Recipe,
) -> tuple[Any, PackedDialogues]:
    """Return the numbers of some videos and new conversations about them."""
    rows = rng.integers(0, len(cache.facts), recipe.videos)
    dialogues = []
    for row in rows:
        turns = rng.choice(len(stage.turn_shares), recipe.dialogues, p=stage.turn_shares) + 1
        facts = cache.facts[row]
        dialogues.append([sample_dialogue(rng, facts, int(number), stage.mix) for number in turns])
    durations = [float(rng.uniform(1.5, 8.0)) for _ in rows]
    return rows, pack(dialogues, durations, coder, NUM_VISUAL_TOKENS, recipe.max_tokens)


class Read(NamedTuple):
    """Outputs of the language model for a batch: the loss of the answers, and inner values.

    `rows` (V, n, D): the hidden states of the rows after `HEADS_AFTER` layers; `attention`
    (V, heads, L, n) float32: how much the next layer looks at each row from the tokens after them.
    """

    loss: Tensor
    rows: Tensor
    attention: Tensor


def dialogue_loss(model: VideoChatFlashModel, features: Tensor, packed: PackedDialogues) -> Read:
    """Return the loss of the answers, weighted as `PackedDialogues.weights` says, and more.

    Args:
        model: The model; its tower takes no part.
        features: (V, n, C) float32, the merged tokens.
        packed: The conversations about each video.
    """
    language = model.language
    recorded: list[Tensor] = []
    layer = language.model.layers[HEADS_AFTER].self_attn
    hook = layer.register_forward_hook(lambda _, __, output: recorded.append(output[1]))
    with torch.autocast("cpu", torch.bfloat16):
        rows = model.visual.projector(features)
        table = language.model.embed_tokens
        before = table(packed.before).expand(len(rows), -1, -1)
        hidden = torch.cat([before, rows.float(), table(packed.ids)], dim=1)
        start = len(packed.before)
        order = torch.arange(start + rows.shape[1]).expand(len(rows), -1)
        positions = torch.cat([order, packed.positions], dim=1)
        rotation = language.model.rotary_emb(hidden, positions)
        mask = attention_mask(packed.segments, start + rows.shape[1])
        blocked = torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill(~mask, -1e9)
        for number, layer in enumerate(language.model.layers):
            hidden = layer(hidden, attention_mask=blocked, position_embeddings=rotation)
            if number + 1 == HEADS_AFTER:
                seen = hidden[:, start : start + rows.shape[1]].float()
        asked = packed.targets >= 0
        last = language.model.norm(hidden[:, start + rows.shape[1] :][asked])
        logits = language.lm_head(last)
    losses = functional.cross_entropy(logits.float(), packed.targets[asked], reduction="none")
    hook.remove()
    weights = packed.weights[asked]
    attention = recorded[0][:, :, start + rows.shape[1] :, start : start + rows.shape[1]]
    return Read((losses * weights).sum() / weights.sum(), seen, attention.float())


def train_language(
    model: VideoChatFlashModel,
    coder: DialogueCoder,
    cache: FeatureCache,
    recipe: Recipe,
    index: int,
    save: loop.Save,
) -> None:
    """Train projector and language model in place for one stage, by its index."""
    stage = recipe.stages[index]
    rng = np.random.default_rng([recipe.seed, 35 + index])
    torch.manual_seed(recipe.seed + index)
    heads = FeatureHeads(WIDTH)

    def compute(step: int) -> dict[str, Tensor]:
        rows, packed = make_batch(cache, rng, coder, stage, recipe)
        read = dialogue_loss(model, torch.from_numpy(cache.tokens[rows]).float(), packed)
        heads_only = index > 0 and step < recipe.head_steps
        seen = read.rows.detach() if heads_only else read.rows
        owners = torch.from_numpy(cache.owners[rows].astype(np.int64))
        attention = attention_loss(read.attention, packed.about, owners)
        losses = {"answers": read.loss, "attention": stage.attention * attention}
        if stage.heads:
            losses["rows"] = stage.heads * heads(seen, rows, cache)
        return losses

    before = sum(earlier.steps for earlier in recipe.stages[:index])
    settings = loop.Loop(
        name=f"videochat stage {index}",
        steps=stage.steps,
        rate=lambda step: loop.linear(step, recipe.warmup, stage.horizon, stage.peak),
        clip_norm=2.0,
        save_every=recipe.save_every,
        save=lambda steps: save(before + steps),
    )
    hidden, rest = loop.split_parameters(model.language)
    trained = [*heads.parameters(), *model.visual.projector.parameters(), *rest]
    rates = recipe.muon_rate, recipe.adam_rate
    loop.run(settings, loop.make_optimizers(hidden, trained, *rates), compute)
    loop.round_to_half(model.parameters())


def load_or_make_tower(model: Any, cache: VideoCache, recipe: Recipe, run: Run) -> None:
    """Fill the model's tower from a file if it is there; otherwise train it and write the file."""
    tower = model.visual.tower
    if run.tower is not None and run.tower.exists():
        tower.load_state_dict(torch.load(run.tower, weights_only=True))
        return
    make_tower(tower, CLIP_FOLDER, cache, recipe.seed, recipe.tower)
    if run.tower is not None:
        torch.save(tower.state_dict(), run.tower)


def train(recipe: Recipe, run: Run) -> None:
    """Train the vision tower, then the stages of the language side."""
    tokenizer = build_tokenizer(dialogue_corpus(recipe.seed, recipe.num_corpus))
    torch.manual_seed(recipe.seed)
    model = build_model(tokenizer)
    videos = load_or_make_cache(run.data, recipe.seed, recipe.num_videos)
    load_or_make_tower(model, videos, recipe, run)
    tower: Any = model.visual.tower
    loop.round_to_half(tower.parameters())
    tower.requires_grad_(False)
    model.language.config._attn_implementation = "eager"  # the faster backward on a CPU
    if run.start is not None:
        model.load_state_dict(load_model(run.start).state_dict())
    coder = DialogueCoder(tokenizer)
    rows = load_or_make_features(run.data, tower, videos, recipe.seed)

    def save(steps: int) -> None:
        facts = {"seed": recipe.seed, "steps": steps, "tower_steps": recipe.tower.steps}
        save_checkpoint(model, tokenizer, run.out, **facts)

    for index in range(run.first, len(recipe.stages)):
        train_language(model, coder, rows, recipe, index, save)
        save(sum(stage.steps for stage in recipe.stages[: index + 1]))
