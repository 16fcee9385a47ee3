"""The bundled checkpoints and what tests of several models do with them."""

import json
from pathlib import Path
from typing import Any

from demo_models import train

ASSETS = Path(__file__).parents[2] / "assets"
CHECKPOINTS = ASSETS / "checkpoints"


def load_json(model: str, name: str) -> Any:
    return json.loads((CHECKPOINTS / model / name).read_text("utf-8"))


def slack_percent(percent: float, num: int) -> float:
    """Return three standard errors of `num` answers, and a little for rare mistakes."""
    return float(300 * (percent / 100 * (1 - percent / 100) / num) ** 0.5 + 3)


def smoke_train(model: str, folder: Path, name: str = "checkpoint") -> Path:
    """Train a few tiny steps; data are drawn once into `folder`."""
    out = folder / name
    train.main([model, "--smoke", "--out", str(out), "--data", str(folder / "data")])
    return out


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()
