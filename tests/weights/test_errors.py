"""Weights that cannot be had: each fault ends in one clear sentence, in time, and leaks nothing."""

import errno
import os
import shutil
import threading
import time
from pathlib import Path

import huggingface_hub
import pytest

from pipelines.core.errors import WeightsError
from pipelines.core.settings import Settings
from pipelines.models.catalogue import CLIP_B32, CLIP_L14
from pipelines.weights import download
from pipelines.weights import locate as module
from pipelines.weights.locate import Sources
from tests.fakes.hub import FakeHub, Faults
from tests.support.downloads import (
    IN_TIME_S,
    assert_whole,
    await_,
    refusal,
    sources_of,
    wanted_bytes,
)

pytestmark = [pytest.mark.usefixtures("cache"), pytest.mark.long]


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
    monkeypatch.setattr("pipelines.weights.download.READ_TIMEOUT_S", 6.0)
    sources = sources_of(hub, stall_limit_s=2.5)  # a busy machine sends nothing for a second
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
    monkeypatch.setattr("pipelines.weights.download.shutil.disk_usage", lambda _: usage)
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

    monkeypatch.setattr(download, "fetch_file", refuse)
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
    monkeypatch.setattr("pipelines.core.settings.HUB_ENDPOINT", hub.url)
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


def test_no_more_than_a_few_wait_for_a_download(hub: FakeHub) -> None:
    """Each who waits keeps a place in the queue; 32 of them once kept every one."""
    hub.faults.bytes_per_s = 400_000
    sources = sources_of(hub)
    waiting = [sources.fetch(CLIP_B32) for _ in range(module.MAX_WAITING)]
    for steps in waiting:
        next(steps)
    await_(lambda: hub.sent_bytes > 300_000)
    start = time.monotonic()
    with pytest.raises(
        WeightsError, match=r"is being downloaded \(\d+ %\) .* try again in a while"
    ):
        next(sources.fetch(CLIP_B32))
    assert time.monotonic() - start < 1.0
    waiting.pop().close()  # type: ignore[attr-defined]
    next(sources.fetch(CLIP_B32))
    hub.faults.bytes_per_s = 0
    for steps in waiting:
        list(steps)
    assert sources.locate(CLIP_B32) is not None
    assert sources._waiting.total() == 0


def test_no_more_than_half_of_all_places_wait_for_downloads(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_IN_ALL", 1)
    hub.faults.bytes_per_s = 400_000
    sources = sources_of(hub)
    waiting = sources.fetch(CLIP_B32)
    next(waiting)
    with pytest.raises(WeightsError, match="CLIP ViT-L/14 is being downloaded"):
        next(sources.fetch(CLIP_L14))
    hub.faults.bytes_per_s = 0
    list(waiting)


def test_the_bundled_models_ask_no_hub(hub: FakeHub) -> None:
    sources = sources_of(hub, models="bundled")
    sources.start_probe()
    time.sleep(0.3)
    assert hub.requests == []
    list(sources.fetch(CLIP_B32))
    assert hub.requests, "until a real model is asked for"
