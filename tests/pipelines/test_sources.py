"""Weights: from a folder, the cache or a hub; every fault ends in one clear sentence, in time."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines import fetching
from pipelines import sources as module
from pipelines.catalogue import CHINESE_CLIP_B16, CLIP_B32, CLIP_L14, DEMO_CLIP
from pipelines.errors import WeightsError
from pipelines.fetching import FetchProgress
from pipelines.settings import Settings
from pipelines.sources import Sources
from pipelines.store import PipelineStore
from tests.fake_hub import FakeHub
from tests.tiny_models import make_tiny_clip

PADDING_BYTES = 8_000_000
IN_TIME_S = 30


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub's folder with a tiny CLIP, padded so that its download takes a while."""
    root = tmp_path_factory.mktemp("hub")
    folder = make_tiny_clip(root / CLIP_B32.repo)
    weights = folder / "model.safetensors"
    padded = {**load_file(weights), "padding": torch.zeros(PADDING_BYTES // 4)}
    save_file(padded, weights, metadata={"format": "pt"})
    (folder / "flax_model.msgpack").write_bytes(b"x" * 1000)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(b"x" * 1000)
    return root


@pytest.fixture
def hub(repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("pipelines.resuming.READ_TIMEOUT_S", 6.0)
    with FakeHub(repositories) as hub:
        yield hub


def sources_of(hub: FakeHub, **more: object) -> Sources:
    return Sources(Settings(endpoint=hub.url, **more), stall_limit_s=4.0)  # type: ignore[arg-type]


def total_bytes(repositories: Path) -> int:
    folder = repositories / CLIP_B32.repo
    wanted = [p for p in folder.iterdir() if p.suffix in {".json", ".safetensors", ".txt"}]
    return sum(path.stat().st_size for path in wanted)


def test_the_first_use_downloads_with_progress(hub: FakeHub, repositories: Path) -> None:
    hub.faults.bytes_per_s = 6_000_000
    sources = sources_of(hub)
    assert sources.locate(CLIP_B32) is None
    steps = list(sources.fetch(CLIP_B32))
    done = [step.done_bytes for step in steps]
    assert done == sorted(done)
    assert done[-1] <= total_bytes(repositories)
    assert len(set(done)) >= 2, "progress moves"
    assert {step.total_bytes for step in steps if step.total_bytes} == {total_bytes(repositories)}
    folder = sources.locate(CLIP_B32)
    assert folder is not None
    assert not (folder / "flax_model.msgpack").exists()
    assert not (folder / "onnx").exists()
    before = len(hub.requests)
    assert list(sources.fetch(CLIP_B32)) == []
    assert len(hub.requests) == before, "what is on disk asks nobody"


def test_a_fetched_model_answers(hub: FakeHub, tmp_path: Path) -> None:
    settings = Settings(endpoint=hub.url, device="cpu", dtype="float32", cache_dir=tmp_path)
    store = PipelineStore(settings)
    for _ in store.fetch("clip-vit-b32", "image-text"):
        pass
    with store.use("clip-vit-b32", "image-text") as clip:
        assert clip.embed_texts(["a dog"]).dim == 24


def test_a_broken_connection_goes_on_where_it_stopped(hub: FakeHub, repositories: Path) -> None:
    hub.faults.weights = "drop"
    sources = sources_of(hub)
    try:
        list(sources.fetch(CLIP_B32))
    except WeightsError as error:
        assert "kept" in error.message
        list(sources.fetch(CLIP_B32))
    assert sources.locate(CLIP_B32) is not None
    assert any(request.range for request in hub.requests), "it asked for the rest only"
    assert hub.sent_bytes < 1.4 * total_bytes(repositories)


def test_a_killed_process_loses_nothing(hub: FakeHub, repositories: Path, tmp_path: Path) -> None:
    hub.faults.bytes_per_s = 3_000_000
    code = (
        "from pipelines.sources import Sources; from pipelines.settings import Settings\n"
        "from pipelines.catalogue import CLIP_B32\n"
        f"list(Sources(Settings(endpoint={hub.url!r})).fetch(CLIP_B32))"
    )
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    child = subprocess.Popen([sys.executable, "-c", code], env=env)
    deadline = time.monotonic() + IN_TIME_S
    while hub.sent_bytes < PADDING_BYTES // 3:
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    hub.faults.bytes_per_s, hub.sent_bytes = 0, 0
    sources = sources_of(hub)
    assert sources.locate(CLIP_B32) is None, "half a file is no model"
    list(sources.fetch(CLIP_B32))
    assert sources.locate(CLIP_B32) is not None
    assert hub.sent_bytes < 0.9 * total_bytes(repositories)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("missing", "no repository"),
        ("gated", "HF_TOKEN"),
        ("revision", "not the revision"),
        ("error 500", "error 500"),
        ("silent", "does not answer.*HF_ENDPOINT.*--models-dir"),
    ],
)
def test_every_fault_is_one_clear_sentence_in_time(hub: FakeHub, fault: str, said: str) -> None:
    hub.faults.everywhere = fault
    start = time.monotonic()
    with pytest.raises(WeightsError, match=said) as caught:
        list(sources_of(hub).fetch(CLIP_B32))
    assert time.monotonic() - start < IN_TIME_S
    assert "Traceback" not in caught.value.message
    hub.faults.everywhere = ""
    sources = sources_of(hub)
    list(sources.fetch(CLIP_B32))
    assert sources.locate(CLIP_B32) is not None, "the next try works"


def test_a_download_that_stands_still_is_given_up(hub: FakeHub) -> None:
    hub.faults.weights = "stall"
    start = time.monotonic()
    with pytest.raises(WeightsError, match="stands still|broke off"):
        list(sources_of(hub).fetch(CLIP_B32))
    assert time.monotonic() - start < IN_TIME_S


def test_nobody_at_the_address_is_said_at_once() -> None:
    settings = Settings(endpoint="http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1:9 does not answer"):
        list(Sources(settings).fetch(CLIP_L14))
    assert time.monotonic() - start < IN_TIME_S


def test_offline_asks_nobody(hub: FakeHub) -> None:
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        list(sources_of(hub, offline=True).fetch(CLIP_B32))
    assert hub.requests == []


def test_a_mirror_is_never_sent_the_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    list(sources_of(hub).fetch(CLIP_B32))
    assert hub.requests
    assert [request.authorization for request in hub.requests if request.authorization] == []


def test_two_who_ask_share_one_download(hub: FakeHub, repositories: Path) -> None:
    hub.faults.bytes_per_s = 8_000_000
    sources, seen = sources_of(hub), []

    def follow() -> None:
        seen.append(list(sources.fetch(CLIP_B32)))

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(IN_TIME_S)
    assert len(seen) == 4
    assert hub.sent_bytes < 1.1 * total_bytes(repositories)


def test_who_leaves_does_not_stop_the_download(hub: FakeHub, repositories: Path) -> None:
    hub.faults.bytes_per_s = 8_000_000
    sources = sources_of(hub)
    steps = sources.fetch(CLIP_B32)
    assert isinstance(next(steps), FetchProgress)
    steps.close()  # type: ignore[attr-defined]
    list(sources.fetch(CLIP_B32))
    assert sources.locate(CLIP_B32) is not None
    assert hub.sent_bytes < 1.1 * total_bytes(repositories)


def test_pickled_weights_are_taken_where_there_are_no_others(
    hub: FakeHub, repositories: Path
) -> None:
    folder = repositories / CHINESE_CLIP_B16.repo
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_text("{}")
    (folder / "vocab.txt").write_text("[PAD]")
    (folder / "pytorch_model.bin").write_bytes(b"x" * 100)
    (folder / "clip_cn_vit-b-16.pt").write_bytes(b"x" * 100)
    sources = sources_of(hub)
    list(sources.fetch(CHINESE_CLIP_B16))
    found = sources.locate(CHINESE_CLIP_B16)
    assert found is not None
    assert sorted(path.name for path in found.iterdir()) == [
        "config.json", "preprocessor_config.json", "pytorch_model.bin", "vocab.txt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", [CLIP_B32.key, CLIP_B32.repo, CLIP_B32.repo.replace("/", "--"), "clip-vit-base-patch32"]
)
def test_a_folder_of_models_by_any_name(name: str, tmp_path: Path, repositories: Path) -> None:
    target = tmp_path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(repositories / CLIP_B32.repo)
    sources = Sources(Settings(models_dir=tmp_path, offline=True))
    assert sources.locate(CLIP_B32) == target
    assert list(sources.fetch(CLIP_B32)) == []


def test_half_a_checkpoint_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / CLIP_B32.key
    folder.mkdir()
    sources = Sources(Settings(models_dir=tmp_path))
    (folder / "config.json").write_text("{}")
    assert sources.locate(CLIP_B32) is None
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')
    (folder / "model-1.safetensors").write_bytes(b"x")
    assert sources.locate(CLIP_B32) is None
    (folder / "model-2.safetensors").write_bytes(b"x")
    assert sources.locate(CLIP_B32) == folder
    index.write_text("no json")
    assert sources.locate(CLIP_B32) is None


def test_a_full_disk_is_said(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "_from_hub", full)
    with pytest.raises(WeightsError, match=r"disk is full.*0\.6 GB.*HF_HOME"):
        list(sources_of(hub).fetch(CLIP_B32))


def test_the_demo_model_is_always_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = Sources(Settings(offline=True))
    folder = sources.locate(DEMO_CLIP)
    assert folder is not None
    monkeypatch.setattr(module, "BUNDLE", tmp_path)
    with pytest.raises(WeightsError, match="missing from this copy"):
        list(sources.fetch(replace(DEMO_CLIP)))


def test_an_old_answer_of_the_probe_is_used_while_it_is_asked_anew(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = sources_of(hub)
    assert sources.hub_answers()
    monkeypatch.setattr(module, "PROBE_VALID_S", 0.0)
    hub.faults.everywhere = "silent"
    start = time.monotonic()
    assert sources.hub_answers(), "the old answer stands meanwhile"
    assert time.monotonic() - start < 1.0


def test_modelscope_without_its_library_says_how_to_get_it(tmp_path: Path) -> None:
    sources = Sources(Settings(source="modelscope"))
    with pytest.raises(WeightsError, match="pip install modelscope"):
        list(sources.fetch(CLIP_L14))
