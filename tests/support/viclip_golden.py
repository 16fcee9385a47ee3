"""The reference's small model and its outputs, and pipelines over them."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pipelines.compute.device import Device
from pipelines.core.settings import Settings
from pipelines.models.viclip.checkpoints import VICLIP_B16
from pipelines.models.viclip.pipeline import ViClipPipeline
from pipelines.models.viclip.processing_viclip import Pixels
from tests.fakes.tiny_clip import FIXTURES

GOLDEN = FIXTURES / "viclip"

#: What shapes do not tell of the small model.
HEADS = {"vision_heads": 3, "text_heads": 3}

#: Float32, other order of the same sums.
EXACT = 1e-5


@cache
def golden(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"{name}.safetensors")


@cache
def golden_json(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))


def make_golden_folder(folder: Path) -> Path:
    """A folder as the `-hf` repositories are: weights, no vocabulary in a stock format."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(GOLDEN / "model.safetensors", folder)
    config = {"size": "tiny", "auto_map": {"AutoModel": "viclip.ViCLIP"}, **HEADS}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def stride_indices(num_available: int, num_frames: int = 8) -> list[int]:
    """Frames that the reference's demo chooses: the first, then at a stride of whole frames.

    Source: OpenGVLab/InternVideo@3965eef Data/InternVid/viclip, Apache-2.0.
    """
    assert num_available >= num_frames
    step = num_available // num_frames
    return [step * position for position in range(num_frames)]


def similarities(
    viclip: ViClipPipeline, clips: Sequence[Pixels], texts: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and probabilities of N clips with M texts, (N, M) each."""
    words = viclip.encoder.embed_texts(texts)
    cosines = viclip.encoder.embed_frames(clips) @ words.T
    return cosines, viclip.probabilities(cosines)


def make_pipeline(folder: Path, dtype: str = "float32", *, packed: bool = False) -> ViClipPipeline:
    spec = replace(VICLIP_B16, key="viclip-tiny")
    settings = Settings(cache_dir=folder / "cache")
    pipeline = ViClipPipeline(spec, folder, Device("cpu", dtype, packed, "test"), settings)
    pipeline.load()
    return pipeline
