"""The golden data of VideoChat-Flash, opened once."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipelines.models.videochat_flash.configuration_videochat_flash import Dropping
from pipelines.models.videochat_flash.conversion_videochat_flash import load_model
from pipelines.models.videochat_flash.modeling_language import VideoPrompt
from pipelines.models.videochat_flash.modeling_videochat_flash import VideoChatFlashModel
from pipelines.models.videochat_flash.processing_videochat_flash import resize_frame, to_pixels

GOLDEN = Path(__file__).parent.parent / "fixtures" / "videochat_flash"
VIDEOS = ("v8", "v20")
CASES = ("v8.turn1", "v8.turn2", "v20.turn1", "v20.turn2", "img")
MODES = ("off", "u0a", "att", "uni")
STOP = (258, 256)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small gain nothing by threads, and wait for them on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def tensors(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"{name}.safetensors")


@cache
def table(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))


@cache
def model() -> VideoChatFlashModel:
    return load_model(GOLDEN)


def given(name: str) -> torch.Tensor:
    return tensors("inputs")[name]


def expected(name: str) -> torch.Tensor:
    return tensors("expected")[name]


@cache
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(GOLDEN)


def dropping(mode: str) -> Dropping | None:
    if mode == "off":
        return None
    fields = table("meta")["modes"][mode]
    return Dropping(
        fields["llm_compress_type"],
        tuple(fields["llm_compress_layer_list"]),
        tuple(fields["llm_image_token_ratio_list"]),
    )


@cache
def features(source: str) -> torch.Tensor:
    """Return the rows of a video or of the image, from its frames through our model."""
    visual = model().visual
    if source == "img":
        # the whole image, then its tiles, two in a row, of 8 by 8 rows each
        encoded = visual.encode(expected("img.tiles")[:, None])  # (1 + n, 64, D)
        maps = encoded[1:].unflatten(1, (8, 8)).unflatten(0, (-1, 2))
        return torch.cat([encoded[0], maps.transpose(1, 2).flatten(0, 3)])
    clips = clips_of(given(f"{source}.frames_u8"), 144)
    return torch.cat([visual.encode(clip[None])[0] for clip in clips])


def clips_of(frames: torch.Tensor, size_px: int) -> torch.Tensor:
    """Return (N, 4, 3, S, S) pixels of (4 * N, H, W, 3) frames."""
    pixels = to_pixels([resize_frame(frame, size_px) for frame in frames.numpy()])
    return pixels.unflatten(0, (-1, 4))


def prompt(case: str) -> VideoPrompt:
    return VideoPrompt(given(f"{case}.input_ids").tolist(), features(case.partition(".")[0]))


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the largest difference, relative where values are larger than 1."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))
