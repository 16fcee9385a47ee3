"""Uploaded videos reach the page as they are: no program of gradio's reads them before."""

import inspect
import os
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.blocks import postprocess_update_dict

from components.page import build_app
from components.server.blocks import Page
from components.server.services import Services
from components.tabs import moments
from components.widgets.player import Player
from pipelines.core.settings import Settings
from pipelines.serving.store import PipelineStore


@pytest.fixture(scope="module")
def page() -> Page:
    settings = Settings(
        models="bundled", offline=True, work_dir=Path(os.environ["GRADIO_TEMP_DIR"])
    )
    return build_app(Services.of(PipelineStore(settings)))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an ffmpeg and an ffprobe first that only note that they were run; returns the notes."""
    notes = tmp_path / "runs.log"
    for name in ("ffmpeg", "ffprobe"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        told = '{"streams": [{"codec_name": "mpeg4"}]}'
        program.write_text(f"#!/bin/sh\necho {name} >> '{notes}'\necho '{told}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return notes


def uploaded(name: str, content: bytes) -> Path:
    path = Path(os.environ["GRADIO_TEMP_DIR"]) / "player" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def handler(page: Page, name: str, module: Any) -> Any:
    """Return the one handler of a tab that is called so."""
    for event in page.fns.values():
        if event.fn is not None and (event.fn.__name__, event.fn.__module__) == (
            name, module.__name__,
        ):  # fmt: skip
            return event.fn
    raise AssertionError(name)


def test_every_video_on_the_page_is_shown_as_it_is(page: Page) -> None:
    outputs = {id(block): block for event in page.fns.values() for block in event.outputs}
    videos = [block for block in outputs.values() if isinstance(block, gr.Video)]
    assert len(videos) == 4
    assert all(isinstance(video, Player) for video in videos)
    assert {video.get_block_name() for video in videos} == {"video"}


def test_nothing_is_run_on_an_uploaded_file(page: Page, programs: Path) -> None:
    path = uploaded("film.mp4", b"\0\0\0\x18ftypmp42" + bytes(200))
    _, update, *_ = handler(page, "show_first", moments)([str(path)])
    player = Player(render=False)
    shown = postprocess_update_dict(player, update, postprocess=True)
    assert shown["value"]["path"] == str(path)
    assert player.postprocess(None) is None
    assert not programs.exists()
    gr.Video(render=False).postprocess(str(path))
    assert programs.read_text().split()[0] == "ffprobe", "the stand-ins would have been run"


def test_a_playlist_is_not_shown(page: Page) -> None:
    path = uploaded("film.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    with pytest.raises(gr.Error, match="is a playlist, not a video"):
        handler(page, "show_first", moments)([str(path)])


def test_no_stub_is_written() -> None:
    assert not Path(inspect.getfile(Player)).with_suffix(".pyi").exists()
