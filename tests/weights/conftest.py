"""What the tests of downloads share: a hub on this machine and an empty cache."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.models.catalogue import CLIP_B32
from tests.fakes.hub import FakeHub
from tests.fakes.tiny_clip import make_tiny_clip
from tests.support.downloads import PADDING_BYTES


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub's folder with a tiny CLIP, padded so that its download takes a while."""
    root = tmp_path_factory.mktemp("hub")
    folder = make_tiny_clip(root / CLIP_B32.repo)
    weights = folder / "model.safetensors"
    padded = {**load_file(weights), "padding": torch.zeros(PADDING_BYTES // 4)}
    save_file(padded, weights, metadata={"format": "pt"})
    (folder / "flax_model.msgpack").write_bytes(b"x" * 1000)
    (folder / "pytorch_model.bin").write_bytes(b"x" * 1000)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(b"x" * 1000)
    return root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no settings from outside, and short waits."""
    folder = tmp_path / "cache"
    for name in os.environ:
        if name.upper().endswith("_PROXY") or name.startswith(("HF_", "MODELSCOPE_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("pipelines.weights.hub.RETRY_WAIT_S", 0.05)
    monkeypatch.setattr("pipelines.weights.hub.LOCK_POLL_S", 0.2)
    monkeypatch.setattr("pipelines.weights.download.POLL_S", 0.05)
    return folder


@pytest.fixture
def hub(cache: Path, repositories: Path) -> Iterator[FakeHub]:
    with FakeHub(repositories) as hub:
        yield hub
