"""Common parts of all demo checkpoints: `demo.json`, caches of drawn data, run folders."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from demo_models.world.motion import EVENT_KINDS
from demo_models.world.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT_PAIRS, SHAPES

CLIP_FOLDER = Path("assets/checkpoints/demo-clip")
"""The checkpoint that the other demo models start from."""

MEASURED = ("scene_bank", "scene_score", "scene_threshold", "unknown_threshold")
"""Facts that `demo_models.evaluate` measures and adds."""

Labels = TypeVar("Labels")


@dataclass(frozen=True)
class Run:
    """Folders and first stage of one training run.

    `tower` keeps the trained vision tower between runs; `start` is a checkpoint that the stages
    before `first` left.
    """

    out: Path
    data: Path = Path("build/demo-data")
    tower: Path | None = None
    start: Path | None = None
    first: int = 0


def write_card(out: Path, model: nn.Module, facts: dict[str, Any], events: bool = False) -> None:
    """Write `demo.json`: what the demo model knows, and further facts.

    Values of `MEASURED` that are already there are kept.
    """
    knows: dict[str, Any] = {"shapes": SHAPES, "colours": COLOURS, "backgrounds": BACKGROUNDS}
    card = {
        "demo": True,
        "knows": {**knows, "events": EVENT_KINDS} if events else knows,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "held_out_pairs": [" ".join(pair) for pair in HELD_OUT_PAIRS],
        **facts,
    }
    path = out / "demo.json"
    old = json.loads(path.read_text("utf-8")) if path.exists() else {}
    measured = {name: old[name] for name in MEASURED if name in old}
    path.write_text(json.dumps({**card, **measured}, indent=1) + "\n", encoding="utf-8")


def cached(folder: Path, make: Callable[[Path], Labels]) -> Labels:
    """Return what `make(folder)` returned at its first call; it writes large arrays itself.

    Delete the folder after a change to the code that draws: its name depends on the sizes only.
    """
    path = folder / "labels.pickle"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(make(folder), protocol=5))
    labels: Labels = pickle.loads(path.read_bytes())
    return labels
