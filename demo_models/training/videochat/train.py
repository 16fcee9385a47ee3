"""Trains the bundled demo VideoChat-Flash: `python -m demo_models.train_videochat --out FOLDER`.

First the vision tower, warm-started from the demo CLIP, learns dense labels of moving shapes; then
it is frozen and projector and language model learn to answer, single questions first, then
conversations of up to three turns. The run is fixed by its seed and its numbers of steps.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from demo_models.language.dialogues import sample_dialogue
from demo_models.training.videochat.data import load_or_make_cache
from demo_models.training.videochat.features import (
    RowCache,
    RowHeads,
    load_or_make_rows,
    pointing_loss,
)
from demo_models.training.videochat.initialisation import WIDTH
from demo_models.training.videochat.model import (
    NUM_ROWS,
    build_model,
    round_to_half,
    save_checkpoint,
)
from demo_models.training.videochat.text import (
    DialogueCoder,
    PackedDialogues,
    attention_mask,
    build_tokenizer,
    dialogue_corpus,
    pack,
)
from demo_models.training.videochat.tower import TowerOptions, TowerStage, make_tower
from pipelines.videochat_flash.modeling_videochat_flash import VideoChatFlashModel

CLIP_FOLDER = Path("assets/checkpoints/demo-clip")
HEADS_AFTER = 2  # layers of the language model
Save = Callable[[int], None]


@dataclass(frozen=True)
class Stage:
    """One stage of the language side; each starts with new optimizers."""

    steps: int
    turn_shares: tuple[float, ...] = (1.0, 0.0, 0.0)  # of conversations of 1, 2, 3 turns
    mix: str = "even"  # one of `videochat_dialogues.SHARES`
    horizon: int = 10**9  # the step at which the rates, falling linearly from 1, would be 0
    peak: float = 1.0  # the highest factor on the rates
    passes: int = 1  # over the videos, each with other turnings
    heads: float = 0.5  # weight of `RowHeads`
    pointing: float = 0.0  # weight of `pointing_loss`


@dataclass(frozen=True)
class TrainOptions:
    """The whole recipe in numbers."""

    tower: TowerOptions = TowerOptions()
    stages: tuple[Stage, ...] = (
        Stage(800),
        Stage(1800, (0.45, 0.25, 0.30), "late", horizon=2600),
        Stage(400, (0.40, 0.25, 0.35), "last", horizon=1900, peak=0.5, pointing=0.3),
        Stage(800, (0.40, 0.25, 0.35), "last", 950, peak=0.4, heads=0.0, pointing=0.3),
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


SMOKE = TrainOptions(
    tower=TowerOptions((TowerStage(2), TowerStage(1, moving=True)), videos=3),
    stages=(Stage(2), Stage(1, (0.0, 0.5, 0.5), "late", horizon=1, pointing=0.3)),
    num_videos=12,
    videos=3,
    dialogues=3,
    num_corpus=200,
)


def rate_at(step: int, stage: Stage, warmup: int) -> float:
    """Return the factor on the learning rates: warm-up, then linear towards 0."""
    return stage.peak * min((step + 1) / warmup, 1 - step / stage.horizon)


def make_batch(
    cache: RowCache,
    rng: np.random.Generator,
    coder: DialogueCoder,
    stage: Stage,
    options: TrainOptions,
) -> tuple[Any, PackedDialogues]:
    """Return the numbers of some videos and new conversations about them."""
    rows = rng.integers(0, len(cache.facts), options.videos)
    told = []
    for row in rows:
        turns = rng.choice(len(stage.turn_shares), options.dialogues, p=stage.turn_shares) + 1
        facts = cache.facts[row]
        told.append([sample_dialogue(rng, facts, int(number), stage.mix) for number in turns])
    durations = [float(rng.uniform(1.5, 8.0)) for _ in rows]
    return rows, pack(told, durations, coder, NUM_ROWS, options.max_tokens)


class Read(NamedTuple):
    """What the language model made of a batch: the loss of the answers, and from inside it.

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
    looks: list[Tensor] = []
    pointing = language.model.layers[HEADS_AFTER].self_attn
    watch = pointing.register_forward_hook(lambda _, __, made: looks.append(made[1]))
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
    watch.remove()
    weights = packed.weights[asked]
    attention = looks[0][:, :, start + rows.shape[1] :, start : start + rows.shape[1]]
    return Read((losses * weights).sum() / weights.sum(), seen, attention.float())


def build_optimizers(
    model: VideoChatFlashModel, heads: nn.Module, options: TrainOptions
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return Muon for the matrices inside layers and AdamW for the rest, with their rates."""
    hidden: list[nn.Parameter] = []
    rest = [*heads.parameters(), *model.visual.projector.parameters()]
    for name, parameter in model.language.named_parameters():
        (hidden if ".layers." in name and parameter.ndim == 2 else rest).append(parameter)
    muon = torch.optim.Muon(hidden, lr=options.muon_rate, weight_decay=0.01, momentum=0.95)
    adam = torch.optim.AdamW(rest, lr=options.adam_rate, betas=(0.9, 0.98), weight_decay=0.01)
    return [(muon, options.muon_rate), (adam, options.adam_rate)]


def train_language(
    model: VideoChatFlashModel,
    coder: DialogueCoder,
    cache: RowCache,
    options: TrainOptions,
    index: int,
    save: Save,
) -> None:
    """Train projector and language model in place for one stage, by its index."""
    stage = options.stages[index]
    before = sum(earlier.steps for earlier in options.stages[:index])
    rng = np.random.default_rng([options.seed, 35 + index])
    torch.manual_seed(options.seed + index)
    heads = RowHeads(WIDTH)
    optimizers = build_optimizers(model, heads, options)
    trained = [p for optimizer, _ in optimizers for p in optimizer.param_groups[0]["params"]]
    started, recent = time.process_time(), []
    for step in range(stage.steps):
        rows, packed = make_batch(cache, rng, coder, stage, options)
        features = torch.from_numpy(cache.tokens[rows]).float()
        read = dialogue_loss(model, features, packed)
        alone = index > 0 and step < options.head_steps
        seen = read.rows.detach() if alone else read.rows
        extra = heads(seen, rows, cache) if stage.heads else torch.zeros(())
        owners = torch.from_numpy(cache.owners[rows].astype(np.int64))
        pointing = pointing_loss(read.attention, packed.about, owners)
        (read.loss + stage.heads * extra + stage.pointing * pointing).backward()
        nn.utils.clip_grad_norm_(trained, 2.0)
        factor = rate_at(step, stage, options.warmup)
        for optimizer, rate in optimizers:
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad()
        recent.append((read.loss.item(), extra.item(), pointing.item()))
        if step % 25 == 0 or step + 1 == stage.steps:
            spent = time.process_time() - started
            means = " ".join(f"{value:.4f}" for value in np.mean(recent, axis=0))
            print(
                f"stage {index} step {step} loss, rows, pointing {means} cpu {spent:.0f}s",
                flush=True,
            )
            recent = []
        if (step + 1) % options.save_every == 0 or step + 1 == stage.steps:
            save(before + step + 1)
    round_to_half(model)


def load_or_make_tower(
    model: VideoChatFlashModel, options: TrainOptions, data: Path, file: Path | None
) -> None:
    """Fill the model's tower from `file` if it is there; otherwise train it and write it."""
    tower: Any = model.visual.tower
    if file is not None and file.exists():
        tower.load_state_dict(torch.load(file, weights_only=True))
        return
    cache = load_or_make_cache(data, options.seed, options.num_videos)
    make_tower(tower, CLIP_FOLDER, cache, options.seed, options.tower)
    if file is not None:
        torch.save(tower.state_dict(), file)


def train(
    options: TrainOptions,
    data: Path,
    out: Path,
    tower_file: Path | None = None,
    start: Path | None = None,
    first: int = 0,
) -> None:
    """Run the stages from `first` on; a later one starts from the weights in `start`."""
    tokenizer = build_tokenizer(dialogue_corpus(options.seed, options.num_corpus))
    torch.manual_seed(options.seed)
    model = build_model(tokenizer)
    load_or_make_tower(model, options, data, tower_file)
    round_to_half(model.visual.tower)
    model.visual.tower.requires_grad_(False)
    videos = load_or_make_cache(data, options.seed, options.num_videos)
    model.language.config._attn_implementation = "eager"  # the faster backward on a CPU
    if start is not None:
        model.load_state_dict(torch.load(start, weights_only=True))
        round_to_half(model)
    coder = DialogueCoder(tokenizer)

    def save(steps: int) -> None:
        facts = {"seed": options.seed, "steps": steps, "tower_steps": options.tower.steps}
        save_checkpoint(model, tokenizer, facts, out)
        torch.save(model.state_dict(), data / f"videochat-{options.seed}.pt")

    for index in range(first, len(options.stages)):
        tower: Any = model.visual.tower
        passes = range(options.stages[index].passes)
        rows = load_or_make_rows(data, tower, videos, options.seed, passes)
        train_language(model, coder, rows, options, index, save)
        save(sum(stage.steps for stage in options.stages[: index + 1]))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--seed", type=int, default=TrainOptions.seed)
    parser.add_argument("--data", type=Path, default=Path("build/demo-data"), help="cache folder")
    parser.add_argument("--tower", type=Path, help="file that keeps the tower between runs")
    parser.add_argument("--start", type=Path, help="weights that stages left in the cache folder")
    parser.add_argument("--first", type=int, default=0, help="stage to go on with from there")
    parser.add_argument("--smoke", action="store_true", help="a few tiny steps, to test the code")
    chosen = parser.parse_args(arguments)
    options = replace(SMOKE if chosen.smoke else TrainOptions(), seed=chosen.seed)
    train(options, chosen.data, chosen.out, chosen.tower, chosen.start, chosen.first)


if __name__ == "__main__":
    main(sys.argv[1:])
