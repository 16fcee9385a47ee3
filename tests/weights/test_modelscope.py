"""Weights from ModelScope, through a library that is optional."""

import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipelines.core.settings import Settings
from pipelines.models.catalogue import CLIP_B32, CLIP_L14
from pipelines.weights.locate import Sources
from pipelines.weights.modelscope import NAMES
from pipelines.weights.progress import FetchProgress
from tests.fakes.hub import FakeHub
from tests.support.downloads import assert_whole, refusal, wanted_bytes

pytestmark = pytest.mark.usefixtures("cache")


class FakeProgressCallback:
    def __init__(self, filename: str, file_size: int) -> None:
        self.filename, self.file_size = filename, file_size

    def update(self, size: int) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Nothing to do."""


@pytest.fixture
def modelscope(
    repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A library with the interface of modelscope 1.40; returns what it was asked."""
    asked: dict[str, Any] = {}
    original = {theirs: ours for ours, theirs in NAMES.items()}

    class HubApi:
        def get_model_files(self, model_id: str, revision: str | None = None) -> list[Any]:
            files = (repositories / original[model_id]).glob("*.*")
            return [{"Path": path.name, "Size": path.stat().st_size} for path in files]

    def snapshot_download(
        model_id: str,
        revision: str | None = None,
        *,
        allow_patterns: list[str],
        progress_callbacks: list[type[FakeProgressCallback]],
    ) -> str:
        asked.update(model_id=model_id, revision=revision, names=allow_patterns)
        root = Path(os.environ["MODELSCOPE_CACHE"]) / "models"
        folder = root / model_id.replace("/", "--") / "snapshots" / (revision or "master")
        folder.mkdir(parents=True)
        for name in allow_patterns:
            content = (repositories / original[model_id] / name).read_bytes()
            callback = progress_callbacks[0](name, len(content))
            for _ in range(4):
                callback.update(len(content) // 4)
                time.sleep(0.02)
            (folder / name).write_bytes(content)
        return str(folder)

    modules: dict[str, dict[str, Any]] = {
        "modelscope": {"snapshot_download": snapshot_download},
        "modelscope.hub": {},
        "modelscope.hub.api": {"HubApi": HubApi},
        "modelscope.hub.callback": {"ProgressCallback": FakeProgressCallback},
    }
    for name, members in modules.items():
        fake = ModuleType(name)
        fake.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    return asked


def test_weights_from_modelscope(
    modelscope: dict[str, Any],
    hub: FakeHub,
    repositories: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
    sources = Sources(Settings(source="modelscope"))
    steps = list(sources.fetch(CLIP_B32))
    done = [step.done_bytes for step in steps]
    assert done == sorted(done)
    assert len(set(done)) >= 3
    assert steps[-1] == FetchProgress(wanted_bytes(repositories), wanted_bytes(repositories))
    assert modelscope["model_id"] == "openai-mirror/clip-vit-base-patch32"
    assert modelscope["revision"] == "master", "the pinned hashes are those of another hub"
    assert "pytorch_model.bin" not in modelscope["names"]
    assert {seen.path for seen in hub.requests} == {"/api/models"}, "only the probe came here"
    offline = Sources(Settings(source="modelscope", offline=True))
    assert_whole(offline.locate(CLIP_B32), repositories)


@pytest.mark.parametrize("place", ["models", "hub/models", "", "hub"])
def test_the_caches_of_older_modelscopes_are_found(
    place: str, repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
    folder = tmp_path / place / NAMES[CLIP_B32.repo]
    folder.parent.mkdir(parents=True)
    folder.symlink_to(repositories / CLIP_B32.repo)
    assert Sources(Settings(source="modelscope")).locate(CLIP_B32) == folder


def test_modelscope_out_of_reach_is_said(
    modelscope: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    message = refusal(Sources(Settings(source="modelscope")))
    assert "http://127.0.0.1:9 does not answer" in message
    assert "--source" in message
    assert modelscope == {}


def test_modelscope_without_its_library_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", None)
    assert "pip install modelscope" in refusal(Sources(Settings(source="modelscope")), CLIP_L14)
