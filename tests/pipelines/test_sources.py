"""Weights: from a folder, the cache, a hub or ModelScope; each fault ends in one clear sentence."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.utils import WeakFileLock
from safetensors.torch import load_file, save_file

from pipelines import fetching
from pipelines import sources as module
from pipelines.catalogue import (
    CHINESE_CLIP_B16,
    CLIP_B32,
    CLIP_L14,
    DEMO_CLIP,
    MODELS,
    SIGLIP2_B16,
    ModelSpec,
)
from pipelines.errors import WeightsError
from pipelines.metering import FetchProgress
from pipelines.settings import Settings
from pipelines.sources import Sources
from pipelines.store import PipelineStore
from tests.fake_hub import FakeHub, Faults
from tests.tiny_models import make_tiny_clip

PADDING_BYTES = 4_000_000

#: What every fault has to end within: a bound on hangs, not on speed.
IN_TIME_S = 20


@pytest.fixture(scope="module")
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


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no settings from outside, and short waits."""
    folder = tmp_path / "cache"
    for name in os.environ:
        if name.upper().endswith("_PROXY") or name.startswith(("HF_", "MODELSCOPE_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("pipelines.resuming.RETRY_WAIT_S", 0.05)
    monkeypatch.setattr("pipelines.resuming.LOCK_POLL_S", 0.2)
    monkeypatch.setattr("pipelines.fetching.POLL_S", 0.05)
    return folder


@pytest.fixture
def hub(repositories: Path) -> Iterator[FakeHub]:
    with FakeHub(repositories) as hub:
        yield hub


def sources_of(
    hub: FakeHub, *, stall_limit_s: float = 10.0, probe_timeout_s: float = 2.0, **more: Any
) -> Sources:
    settings = Settings(endpoint=hub.url, **more)
    return Sources(settings, probe_timeout_s=probe_timeout_s, stall_limit_s=stall_limit_s)


def refusal(sources: Sources, spec: ModelSpec = CLIP_B32) -> str:
    """Return what is said when `spec` cannot be had; it must be said in time, in plain words."""
    start = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        list(sources.fetch(spec))
    assert time.monotonic() - start < IN_TIME_S
    message = caught.value.message
    assert message.endswith(".")
    assert len(message) < 400
    assert "Traceback" not in message
    assert "/tmp" not in message
    return message


def wanted_bytes(repositories: Path) -> int:
    folder = repositories / CLIP_B32.repo
    wanted = [p for p in folder.iterdir() if p.suffix in {".json", ".safetensors", ".txt"}]
    return sum(path.stat().st_size for path in wanted)


def assert_whole(folder: Path | None, repositories: Path) -> None:
    assert folder is not None
    weights = repositories / CLIP_B32.repo / "model.safetensors"
    assert (folder / weights.name).read_bytes() == weights.read_bytes()


def await_(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + IN_TIME_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- a download -----------------------------------------------------------------------------


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
    name = {"repo_id": CLIP_B32.repo, "revision": CLIP_B32.revision}
    folder = huggingface_hub.snapshot_download(
        **name, local_files_only=True, allow_patterns=["*.json", "model.safetensors"]
    )
    assert Path(folder) == sources.locate(CLIP_B32)
    shutil.rmtree(cache)
    folder = huggingface_hub.snapshot_download(
        **name, endpoint=hub.url, allow_patterns=["*.json", "model.safetensors"]
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


# --- what breaks off goes on ----------------------------------------------------------------


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
        "from pipelines.sources import Sources; from pipelines.settings import Settings\n"
        "from pipelines.catalogue import CLIP_B32\n"
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
    monkeypatch.setattr("pipelines.fetching.READ_TIMEOUT_S", 0.5)
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


# --- what goes wrong is said, in time -------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("missing", ("no repository", "HF_ENDPOINT")),
        ("private", ("no repository", "HF_TOKEN")),
        ("gated", ("gated", "HF_TOKEN")),
        ("gated, no token", ("gated", "HF_TOKEN", "mirror is never sent")),
        ("revision", (CLIP_B32.revision, "Update SeeSay")),
        ("error 500", ("error 500", "HF_ENDPOINT")),
        ("silent", ("does not answer", "HTTPS_PROXY", "HF_ENDPOINT", "--models-dir", "demo")),
    ],
)
def test_every_fault_is_one_clear_sentence_in_time(
    hub: FakeHub, fault: str, said: tuple[str, ...]
) -> None:
    sources = sources_of(hub, probe_timeout_s=1.0 if fault == "silent" else 2.0)
    with hub.with_faults(Faults(everywhere=fault)):
        message = refusal(sources)
    for word in said:
        assert word in message
    list(sources.fetch(CLIP_B32))
    assert sources.locate(CLIP_B32) is not None, "the next try works"


def test_a_download_that_stands_still_is_given_up_and_begun_afresh(
    hub: FakeHub, repositories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try used to join the dead one, and so failed at once for as long as that lived."""
    monkeypatch.setattr("pipelines.fetching.READ_TIMEOUT_S", 2.0)
    sources = sources_of(hub, stall_limit_s=0.7)
    with hub.with_faults(Faults(weights="stall")):
        message = refusal(sources)
    assert "stands still" in message
    assert "HF_ENDPOINT" in message
    hub.sent_bytes = 0
    patient = sources_of(hub, stall_limit_s=IN_TIME_S)
    list(patient.fetch(CLIP_B32))
    assert_whole(patient.locate(CLIP_B32), repositories)
    assert hub.sent_bytes < 0.6 * wanted_bytes(repositories)


@pytest.mark.parametrize("path", ["/tree/", "/resolve/", "/revision/"])
def test_a_hub_that_falls_silent_holds_nobody_up(hub: FakeHub, path: str) -> None:
    sources = sources_of(hub, stall_limit_s=0.7)
    with hub.with_faults(Faults(silent_path=path)):
        failures: list[str] = []
        thread = threading.Thread(target=lambda: failures.append(refusal(sources)))
        thread.start()
        start = time.monotonic()
        assert sources.locate(CLIP_L14) is None
        assert sources.hub_answers()
        assert time.monotonic() - start < 2.0, "others are not held up"
        thread.join(IN_TIME_S)
        assert "stands still" in failures[0]
    list(sources.fetch(CLIP_B32))
    assert sources.locate(CLIP_B32) is not None, "the next try works"


def test_nobody_at_the_address_is_said_at_once() -> None:
    message = refusal(Sources(Settings(endpoint="http://127.0.0.1:9")), CLIP_L14)
    assert "http://127.0.0.1:9 does not answer" in message
    assert "refused" in message


@pytest.mark.parametrize("endpoint", ["hub.example", "http://hub.invalid", "http://[broken"])
def test_a_wrong_address_is_said_at_once(endpoint: str) -> None:
    assert f"{endpoint} does not answer (" in refusal(Sources(Settings(endpoint=endpoint)))


def test_a_full_disk_is_said_before_it_is_full(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage)
    message = refusal(sources_of(hub))
    assert "disk is full" in message
    assert "0.6 GB" in message
    assert "HF_HOME" in message


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "disk is full"), (errno.EROFS, "not writable")],
)
def test_a_disk_that_takes_no_more_is_said(
    number: int, said: str, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/a/path/of/the/server")

    monkeypatch.setattr(fetching, "fetch_file", refuse)
    message = refusal(sources_of(hub))
    assert said in message
    assert "HF_HOME" in message
    assert "/a/path" not in message


def test_a_repository_without_a_tokenizer_is_no_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / CLIP_B32.repo
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"x" * 100)
    with FakeHub(tmp_path) as hub:
        assert "tokenizer and image processor are needed" in refusal(sources_of(hub))


# --- whom we talk to ------------------------------------------------------------------------


def test_offline_asks_nobody(hub: FakeHub) -> None:
    sources = sources_of(hub, offline=True)
    assert "HF_HUB_OFFLINE" in refusal(sources)
    assert not sources.hub_answers()
    sources.start_probe()
    assert hub.requests == []


def test_a_mirror_is_never_sent_the_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    list(sources_of(hub).fetch(CLIP_B32))
    assert len(hub.requests) > 10
    assert {request.authorization for request in hub.requests} == {""}


def test_the_hub_is_sent_the_token_but_not_the_host_it_leads_to(
    hub: FakeHub, repositories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr("pipelines.settings.HUB_ENDPOINT", hub.url)
    with FakeHub(repositories) as cdn:
        hub.cdn = cdn.url
        cdn.faults.weights, cdn.faults.times = "drop", 1
        sources = sources_of(hub)
        list(sources.fetch(CLIP_B32))
    assert_whole(sources.locate(CLIP_B32), repositories)
    files = [seen for seen in hub.requests if "/resolve/" in seen.path]
    assert {seen.authorization for seen in files} == {"Bearer hf_secret"}
    assert [bool(seen.range) for seen in cdn.requests] == [False, True]
    assert {seen.authorization for seen in cdn.requests} == {""}


def test_a_proxy_is_asked_where_one_is_set(
    hub: FakeHub, repositories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", hub.url)
    huggingface_hub.close_session()  # its client has read the environment already
    try:
        sources = Sources(Settings(endpoint="http://hub.invalid"))
        list(sources.fetch(CLIP_B32))
    finally:
        monkeypatch.delenv("http_proxy")
        huggingface_hub.close_session()
    assert_whole(sources.locate(CLIP_B32), repositories)
    assert {seen.host for seen in hub.requests} == {"hub.invalid"}


# --- the probe ------------------------------------------------------------------------------


def test_asking_in_the_background_holds_nobody_up(hub: FakeHub) -> None:
    hub.faults.everywhere = "silent"
    sources = sources_of(hub, probe_timeout_s=1.0)
    start = time.monotonic()
    sources.start_probe()
    assert not sources.hub_answers(wait_s=0.0)
    assert time.monotonic() - start < 0.4
    assert not sources.hub_answers()
    assert time.monotonic() - start < IN_TIME_S
    assert len(hub.requests) == 1, "asked once"


def test_an_old_answer_stands_while_it_is_asked_anew(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = sources_of(hub, probe_timeout_s=1.0)
    assert sources.hub_answers()
    monkeypatch.setattr(module, "PROBE_VALID_S", 0.0)
    hub.faults.everywhere = "silent"
    start = time.monotonic()
    assert sources.hub_answers(), "the old answer stands meanwhile"
    assert time.monotonic() - start < 0.4
    monkeypatch.setattr(module, "PROBE_VALID_S", 60.0)
    await_(lambda: not sources.hub_answers())


def test_an_old_no_does_not_refuse_a_download(hub: FakeHub) -> None:
    """For a minute after the network came back it was still said to be away."""
    sources = sources_of(hub, probe_timeout_s=1.0)
    hub.faults.everywhere = "silent"
    assert not sources.hub_answers()
    hub.faults.everywhere = ""
    assert not sources.hub_answers(), "that is what was last known"
    list(sources.fetch(CLIP_B32))
    assert sources.locate(CLIP_B32) is not None


@pytest.mark.parametrize(("status", "there"), [("error 500", True), ("error 503", False)])
def test_a_gateway_is_not_the_hub(hub: FakeHub, status: str, there: bool) -> None:
    hub.faults.everywhere = status
    hub.faults.probe_too = True
    assert sources_of(hub).hub_answers() is there


# --- what is on disk ------------------------------------------------------------------------


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
    assert found == [CLIP_B32.key, DEMO_CLIP.key]
    assert time.monotonic() - start < 10 * len(MODELS) * 0.02
    assert hub.requests == []


#: The files of real repositories at the pinned revisions, weights apart.
OPENAI = ("config.json", "preprocessor_config.json", "tokenizer.json", "vocab.json", "merges.txt")
CHINESE = ("config.json", "preprocessor_config.json", "vocab.txt")
SIGLIP = ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer.model")
SAVED = ("config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")
TENSORS = {"a": torch.zeros(3), "b": torch.ones(2, 2)}
PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = '{"weight_map": {"a": "%s", "b": "%s"}}' % PARTS  # noqa: UP031


def lay_out(folder: Path, names: tuple[str, ...], *weights: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}")
    for name in weights:
        if name.endswith(".index.json"):
            (folder / name).write_text(INDEX)
        elif name.endswith(".bin"):
            (folder / name).write_bytes(b"PK")
        else:
            save_file(TENSORS, folder / name)
    return folder


@pytest.mark.parametrize(
    ("spec", "names", "weights"),
    [
        (CLIP_B32, OPENAI, ("pytorch_model.bin",)),
        (CLIP_L14, OPENAI, ("model.safetensors",)),
        (CLIP_L14, OPENAI[:2] + OPENAI[3:], ("model.safetensors",)),
        (CHINESE_CLIP_B16, CHINESE, ("pytorch_model.bin",)),
        (SIGLIP2_B16, SIGLIP, ("model.safetensors",)),
        (CLIP_B32, SAVED, ("model.safetensors",)),
        (CLIP_B32, SAVED, (*PARTS, "model.safetensors.index.json")),
        (CLIP_B32, SAVED, (*PARTS, "model.safetensors.index.json", "pytorch_model.bin.index.json")),
    ],
)
def test_real_layouts_are_complete(
    spec: ModelSpec, names: tuple[str, ...], weights: tuple[str, ...], tmp_path: Path
) -> None:
    folder = lay_out(tmp_path / spec.key, names, *weights)
    assert Sources(Settings(models_dir=tmp_path)).locate(spec) == folder


@pytest.mark.parametrize(
    "missing", ["config.json", "preprocessor_config.json", "vocab.txt", "pytorch_model.bin"]
)
def test_a_checkpoint_without_one_of_its_files_is_none(missing: str, tmp_path: Path) -> None:
    folder = lay_out(tmp_path / CHINESE_CLIP_B16.key, CHINESE, "pytorch_model.bin")
    (folder / missing).unlink()
    assert Sources(Settings(models_dir=tmp_path)).locate(CHINESE_CLIP_B16) is None


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", lambda content: content[:-1]),
        ("model.safetensors", lambda content: content[:20]),
        ("model.safetensors", lambda content: b""),
        ("model.safetensors", lambda content: b"version https://git-lfs.github.com/spec/v1\noid"),
        ("model.safetensors", lambda content: b"\x05" + b"\0" * 7 + b"hello"),
        ("model.safetensors", lambda content: b"\x02" + b"\0" * 7 + b"[]"),
        ("model.safetensors.index.json", lambda content: b"no json"),
        ("model.safetensors.index.json", lambda content: b'{"weight_map": []}'),
        ("model.safetensors.index.json", lambda content: b'{"weight_map": {}}'),
        (PARTS[1], lambda content: content[:-1]),
    ],
)
def test_a_damaged_checkpoint_is_none(
    name: str, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    weights = ("model.safetensors",) if name == "model.safetensors" else (
        *PARTS, "model.safetensors.index.json")  # fmt: skip
    folder = lay_out(tmp_path / CLIP_B32.key, SAVED, *weights)
    sources = Sources(Settings(models_dir=tmp_path))
    assert sources.locate(CLIP_B32) == folder
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    assert sources.locate(CLIP_B32) is None


def test_a_missing_part_is_noticed(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / CLIP_B32.key, SAVED, *PARTS, "model.safetensors.index.json")
    (folder / PARTS[0]).unlink()
    assert Sources(Settings(models_dir=tmp_path)).locate(CLIP_B32) is None


def test_the_demo_model_is_always_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = Sources(Settings(offline=True))
    assert sources.locate(DEMO_CLIP) is not None
    monkeypatch.setattr(module, "BUNDLE", tmp_path)
    assert "missing from this copy" in refusal(sources, replace(DEMO_CLIP))


# --- ModelScope -----------------------------------------------------------------------------


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

    class HubApi:
        def get_model_files(self, model_id: str, revision: str | None = None) -> list[Any]:
            files = (repositories / model_id).glob("*.*")
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
            content = (repositories / model_id / name).read_bytes()
            callback = progress_callbacks[0](name, len(content))
            for _ in range(4):
                callback.update(len(content) // 4)
                time.sleep(0.02)
            (folder / name).write_bytes(content)
        return str(folder)

    for name, members in {
        "modelscope": {"snapshot_download": snapshot_download},
        "modelscope.hub": {},
        "modelscope.hub.api": {"HubApi": HubApi},
        "modelscope.hub.callback": {"ProgressCallback": FakeProgressCallback},
    }.items():
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
    assert modelscope["model_id"] == CLIP_B32.repo
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
    folder = tmp_path / place / CLIP_B32.repo
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
