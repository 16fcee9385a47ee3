"""Weights: from a folder, the cache or a hub; shared by all who wait, resumed where they broke."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils import WeakFileLock

from pipelines.core.settings import Settings
from pipelines.models.catalogue import CHINESE_CLIP_B16, CLIP_B32, DEMO_CLIP, MODELS
from pipelines.serving.store import PipelineStore
from pipelines.weights import locate as module
from pipelines.weights.locate import Sources
from pipelines.weights.progress import FetchProgress
from tests.fakes.hub import FakeHub, Faults
from tests.support.downloads import (
    IN_TIME_S,
    PADDING_BYTES,
    assert_whole,
    await_,
    refusal,
    sources_of,
    wanted_bytes,
)

pytestmark = pytest.mark.usefixtures("cache")


def test_the_first_use_downloads_with_progress(hub: FakeHub, repositories: Path) -> None:
    hub.faults.bytes_per_s = 8_000_000
    sources = sources_of(hub)
    assert sources.locate(CLIP_B32) is None
    steps = list(sources.fetch(CLIP_B32))
    done = [step.done_bytes for step in steps]
    total = wanted_bytes(repositories)
    assert done == sorted(done)
    assert len(set(done)) >= 4, "progress moves"
    assert steps[-1] == FetchProgress(total, total)
    assert {step.total_bytes for step in steps} <= {0, total}
    folder = sources.locate(CLIP_B32)
    assert_whole(folder, repositories)
    assert folder is not None
    assert {"flax_model.msgpack", "pytorch_model.bin", "onnx"}.isdisjoint(
        path.name for path in folder.iterdir()
    )
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


def test_what_was_fetched_is_there_for_the_library_too(hub: FakeHub, cache: Path) -> None:
    sources = sources_of(hub)
    list(sources.fetch(CLIP_B32))
    wanted = ["*.json", "model.safetensors"]
    folder = huggingface_hub.snapshot_download(
        CLIP_B32.repo, revision=CLIP_B32.revision, allow_patterns=wanted, local_files_only=True
    )
    assert Path(folder) == sources.locate(CLIP_B32)
    shutil.rmtree(cache)
    folder = huggingface_hub.snapshot_download(
        CLIP_B32.repo, revision=CLIP_B32.revision, allow_patterns=wanted, endpoint=hub.url
    )
    assert Path(folder) == sources.locate(CLIP_B32), "and what it fetched is there for us"


def test_pickled_weights_are_taken_where_there_are_no_others(tmp_path: Path) -> None:
    """Chinese-CLIP and CLIP B/32 have no safetensors; the former has the same weights twice."""
    folder = tmp_path / CHINESE_CLIP_B16.repo
    folder.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_text("{}")
    (folder / "vocab.txt").write_text("[PAD]")
    (folder / "pytorch_model.bin").write_bytes(b"x" * 100)
    (folder / "clip_cn_vit-b-16.pt").write_bytes(b"x" * 100)
    with FakeHub(tmp_path) as hub:
        sources = sources_of(hub)
        list(sources.fetch(CHINESE_CLIP_B16))
    found = sources.locate(CHINESE_CLIP_B16)
    assert found is not None
    assert sorted(path.name for path in found.iterdir()) == [
        "config.json", "preprocessor_config.json", "pytorch_model.bin", "vocab.txt",
    ]  # fmt: skip


def test_two_who_ask_share_one_download(hub: FakeHub, repositories: Path) -> None:
    hub.faults.bytes_per_s = 16_000_000
    sources, ends = sources_of(hub), []

    def follow() -> None:
        ends.append(list(sources.fetch(CLIP_B32))[-1])

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(IN_TIME_S)
    total = wanted_bytes(repositories)
    assert ends == [FetchProgress(total, total)] * 4
    assert hub.sent_bytes == total


def test_who_leaves_does_not_stop_the_download(hub: FakeHub, repositories: Path) -> None:
    hub.faults.bytes_per_s = 16_000_000
    sources = sources_of(hub)
    steps = sources.fetch(CLIP_B32)
    assert isinstance(next(steps), FetchProgress)
    steps.close()  # type: ignore[attr-defined]
    list(sources.fetch(CLIP_B32))
    assert sources.locate(CLIP_B32) is not None
    assert hub.sent_bytes == wanted_bytes(repositories)


def test_another_process_that_fetches_the_same_is_waited_for(
    hub: FakeHub, repositories: Path, cache: Path
) -> None:
    """While it makes progress, standing still ourselves is no fault."""
    weights = repositories / CLIP_B32.repo / "model.safetensors"
    facts = huggingface_hub.get_hf_file_metadata(
        huggingface_hub.hf_hub_url(CLIP_B32.repo, weights.name, endpoint=hub.url)
    )
    name = "models--" + CLIP_B32.repo.replace("/", "--")
    lock = cache / ".locks" / name / f"{facts.etag}.lock"
    blob = cache / name / "blobs" / str(facts.etag)
    lock.parent.mkdir(parents=True)
    blob.parent.mkdir(parents=True)
    steps: list[FetchProgress] = []
    waiting = threading.Thread(
        target=lambda: steps.extend(sources_of(hub, stall_limit_s=0.6).fetch(CLIP_B32))
    )
    with WeakFileLock(lock):
        waiting.start()
        other = blob.with_name(f"{blob.name}.0123.incomplete")
        for size in range(1, 11):
            other.write_bytes(b"x" * size)
            time.sleep(0.1)
        assert waiting.is_alive()
        shutil.copy(weights, other)
        other.rename(blob)
    waiting.join(IN_TIME_S)
    assert steps[-1].done_bytes == wanted_bytes(repositories)
    assert not any(seen.method == "GET" and seen.path.endswith(weights.name)
                   for seen in hub.requests)  # fmt: skip


def test_a_broken_connection_goes_on_where_it_stopped(hub: FakeHub, repositories: Path) -> None:
    hub.faults.weights, hub.faults.times = "drop", 1
    sources = sources_of(hub)
    list(sources.fetch(CLIP_B32))
    assert_whole(sources.locate(CLIP_B32), repositories)
    assert any(request.range for request in hub.requests), "it asked for the rest only"
    assert hub.sent_bytes < 1.1 * wanted_bytes(repositories)


def test_a_connection_that_breaks_for_good_is_said_and_resumed_later(
    hub: FakeHub, repositories: Path
) -> None:
    hub.faults.weights = "drop"
    sources = sources_of(hub)
    message = refusal(sources)
    assert "broke off" in message
    assert "kept" in message
    assert "HF_ENDPOINT" in message
    hub.faults, hub.sent_bytes = Faults(), 0
    list(sources.fetch(CLIP_B32))
    assert_whole(sources.locate(CLIP_B32), repositories)
    assert hub.sent_bytes < 0.6 * wanted_bytes(repositories)


def test_a_killed_process_loses_nothing(hub: FakeHub, repositories: Path, cache: Path) -> None:
    hub.faults.bytes_per_s = 4_000_000
    code = (
        "from pipelines.core.settings import Settings\n"
        "from pipelines.weights.locate import Sources\n"
        "from pipelines.models.catalogue import CLIP_B32\n"
        f"list(Sources(Settings(endpoint={hub.url!r})).fetch(CLIP_B32))"
    )
    env = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0"}
    child = subprocess.Popen([sys.executable, "-c", code], env=env)
    small = wanted_bytes(repositories) - PADDING_BYTES
    await_(lambda: child.poll() is not None or hub.sent_bytes > small + PADDING_BYTES // 2)
    assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    time.sleep(0.1)  # what was on its way to the dead is not counted
    hub.faults, hub.sent_bytes = Faults(), 0
    sources = sources_of(hub)
    assert sources.locate(CLIP_B32) is None, "half a file is no model"
    first = next(step for step in sources.fetch(CLIP_B32) if step.total_bytes)
    list(sources.fetch(CLIP_B32))
    assert first.total_bytes == wanted_bytes(repositories)
    assert_whole(sources.locate(CLIP_B32), repositories)
    assert hub.sent_bytes < 0.6 * wanted_bytes(repositories)


def test_a_server_that_cannot_resume_sends_all_again(hub: FakeHub, repositories: Path) -> None:
    hub.faults.weights = "drop"
    sources = sources_of(hub)
    refusal(sources)
    hub.faults = Faults(weights="no range", bytes_per_s=16_000_000)
    done = [step.done_bytes for step in sources.fetch(CLIP_B32)]
    assert done == sorted(done)
    assert done[-1] == wanted_bytes(repositories)
    assert_whole(sources.locate(CLIP_B32), repositories)


def test_an_error_that_passes_is_not_even_seen(hub: FakeHub, repositories: Path) -> None:
    hub.faults.weights, hub.faults.times = "error 503", 2
    sources = sources_of(hub)
    list(sources.fetch(CLIP_B32))
    assert_whole(sources.locate(CLIP_B32), repositories)


def test_a_connection_gone_silent_is_replaced(
    hub: FakeHub, repositories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.weights.download.READ_TIMEOUT_S", 0.5)
    hub.faults.weights, hub.faults.times = "stall", 1
    sources = sources_of(hub)
    list(sources.fetch(CLIP_B32))
    assert_whole(sources.locate(CLIP_B32), repositories)
    assert hub.sent_bytes < 1.1 * wanted_bytes(repositories)


def test_damaged_content_is_thrown_away(hub: FakeHub, repositories: Path) -> None:
    hub.faults.weights, hub.faults.times = "damage", 1
    sources = sources_of(hub)
    assert "damaged" in refusal(sources)
    assert sources.locate(CLIP_B32) is None
    list(sources.fetch(CLIP_B32))
    assert_whole(sources.locate(CLIP_B32), repositories)


def test_a_file_cut_short_in_the_cache_is_fetched_again(hub: FakeHub, repositories: Path) -> None:
    sources = sources_of(hub)
    list(sources.fetch(CLIP_B32))
    folder = sources.locate(CLIP_B32)
    assert folder is not None
    blob = (folder / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:1000])
    assert sources.locate(CLIP_B32) is None
    list(sources.fetch(CLIP_B32))
    assert_whole(sources.locate(CLIP_B32), repositories)


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


def test_looking_is_quick_and_asks_nobody(hub: FakeHub, tmp_path: Path) -> None:
    sources = sources_of(hub, models_dir=tmp_path)
    list(sources.fetch(CLIP_B32))
    hub.requests.clear()
    start = time.monotonic()
    for _ in range(10):
        found = [spec.key for spec in MODELS if sources.locate(spec) is not None]
    bundled = {path.name for path in module.BUNDLE.iterdir()}
    assert found == [spec.key for spec in MODELS if spec.key in bundled or spec is CLIP_B32]
    assert time.monotonic() - start < 10 * len(MODELS) * 0.02
    assert hub.requests == []


def test_the_demo_model_is_always_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = Sources(Settings(offline=True))
    assert sources.locate(DEMO_CLIP) is not None
    monkeypatch.setattr(module, "BUNDLE", tmp_path)
    assert "missing from this copy" in refusal(sources, replace(DEMO_CLIP))
