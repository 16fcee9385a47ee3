"""Hundreds of damaged files through the public endpoints, and decoders that crash and hang."""

import secrets
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.components.api.test_image_text_bad_input import assert_clear
from tests.fakes.damaged_files import EXAMPLES, damaged_pictures, damaged_videos
from tests.fakes.hostile_decoder import CODE
from tests.support.app_process import RunningApp, serve
from tests.support.raw_http import post, upload

SEED = 20261121


def sent(app: RunningApp, file: Path) -> dict[str, Any]:
    return {"path": upload(app.url, file), "meta": {"_type": "gradio.FileData"}}


def classify(app: RunningApp, file: Path) -> dict[str, Any]:
    return post(app.url, "classify_image", [sent(app, file), "red circle, blue square", "", ""])


def match(app: RunningApp, file: Path) -> dict[str, Any]:
    asked = [sent(app, file), "a red circle moves to the left\na blue square", "", 0, 0]
    return post(app.url, "match_video", asked)


def assert_well(app: RunningApp, answer: dict[str, Any]) -> bool:
    """Whether a file was read after all; else its error must be one for people."""
    if "data" in answer:
        return True
    assert_clear(answer["error"], app)
    assert answer["title"] != "Internal error", answer
    return False


def assert_still_works(app: RunningApp) -> None:
    assert classify(app, EXAMPLES / "red-circle.png")["data"][0]["label"] == "red circle"
    assert "data" in match(app, EXAMPLES / "circle-moves-left.mp4")
    assert app.process.poll() is None


@pytest.mark.parametrize("count", [54, pytest.param(500, marks=pytest.mark.slow)])
def test_damaged_pictures(running_app: RunningApp, tmp_path: Path, count: int) -> None:
    read = 0
    for number, (name, data) in enumerate(damaged_pictures(count, SEED)):
        file = tmp_path / name
        file.write_bytes(data)
        endpoint = number % 3
        if endpoint < 2:
            answer = classify(running_app, file)
        else:
            answer = post(running_app.url, "embed_images", [[sent(running_app, file)], ""])
        read += assert_well(running_app, answer)
        if number % 50 == 49:
            assert_still_works(running_app)
    assert_still_works(running_app)
    assert 0 < read < count, "the harm is neither harmless nor always fatal"


@pytest.mark.parametrize("count", [21, pytest.param(200, marks=pytest.mark.slow)])
def test_damaged_videos(running_app: RunningApp, tmp_path: Path, count: int) -> None:
    read = 0
    for number, (name, data) in enumerate(damaged_videos(count, SEED, tmp_path)):
        file = tmp_path / name
        file.write_bytes(data)
        if number % 3:
            answer = match(running_app, file)
        else:
            asked = [sent(running_app, file), "a red circle", "", 1.0, 0.5, 3]
            answer = post(running_app.url, "find_moments", asked)
        read += assert_well(running_app, answer)
        if number % 50 == 49:
            assert_still_works(running_app)
    assert_still_works(running_app)
    assert 0 < read < count, "the harm is neither harmless nor always fatal"


@pytest.fixture(scope="module")
def evil_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """An app whose decoders crash or hang at files with such names; its patience is 2 s."""
    with serve(tmp_path_factory.mktemp("evil"), code=CODE) as app:
        yield app


def named(file: Path, name: str, folder: Path) -> Path:
    """Return a copy with this name and a content of its own, which no cache knows."""
    more = secrets.token_bytes(16)
    copy = folder / f"{name}{file.suffix}"
    copy.write_bytes(file.read_bytes() + struct.pack(">I4s", 8 + len(more), b"free") + more)
    return copy


@pytest.mark.parametrize(
    ("fault", "told"), [("crash", "makes the decoder crash"), ("hang", "busy for 2 s")]
)
def test_a_bad_decoder_costs_one_request(
    evil_app: RunningApp, tmp_path: Path, fault: str, told: str
) -> None:
    for ask, file in (
        (classify, EXAMPLES / "red-circle.png"),
        (match, EXAMPLES / "circle-moves-left.mp4"),
    ):
        answer = ask(evil_app, named(file, fault, tmp_path))
        assert told in answer["error"]
        assert answer["title"] == "Cannot read this file"
        assert_clear(answer["error"], evil_app)
        assert_still_works(evil_app)


def test_other_visitors_are_answered_while_a_decoder_hangs(
    evil_app: RunningApp, tmp_path: Path
) -> None:
    file = named(EXAMPLES / "red-circle.png", "hang", tmp_path)
    with ThreadPoolExecutor() as pool:
        hanging = pool.submit(classify, evil_app, file)
        time.sleep(0.3)
        assert_still_works(evil_app)
        answered_first = not hanging.done()
        assert "busy for 2 s" in hanging.result()["error"]
    assert answered_first
