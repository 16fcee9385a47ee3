"""One evaluation: its settings, the pipeline that it asks, and the files of a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from pipelines.compute.device import Device
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.models.base import Pipeline

Loaded = TypeVar("Loaded", bound=Pipeline)
TEST_SEED = 11


@dataclass(frozen=True)
class Request:
    """Settings of one evaluation.

    `num` is the number of cases of each main kind, `more` that of the other ones of
    demo-videochat. `url` is the address of a running app; without one the model is asked in this
    process. `wrong` collects a line for each wrong answer.
    """

    checkpoint: Path
    num: int
    seed: int = TEST_SEED
    more: int = 0
    url: str = ""
    workers: int = 1
    wrong: list[str] = field(default_factory=list)


@contextmanager
def open_pipeline(
    make: Callable[[ModelSpec, Path, Device, Settings], Loaded], spec: ModelSpec, checkpoint: Path
) -> Iterator[Loaded]:
    """Load a checkpoint folder as the app does, on the CPU in float32."""
    with TemporaryDirectory() as cache:
        device = Device("cpu", "float32", False, "evaluation")
        pipeline = make(spec, checkpoint, device, Settings(cache_dir=Path(cache)))
        pipeline.load()
        yield pipeline
        pipeline.unload()


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a file, or nothing where there is none."""
    content: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that people read."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def update_card(checkpoint: Path, **facts: Any) -> dict[str, Any]:
    """Add measured facts to `demo.json` and return all of them."""
    card = {**read_json(checkpoint / "demo.json"), **facts}
    write_json(checkpoint / "demo.json", card)
    return card


def weights_hash(checkpoint: Path) -> str:
    """Return the SHA-256 of a checkpoint's weights, which reports name."""
    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
