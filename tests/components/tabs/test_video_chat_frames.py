"""The strip of frames in Video chat, where the model kept what it encoded but not the pictures."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.widgets.player import Player
from pipelines.models.videochat_flash import video_features
from tests.support.app_in_process import BundledApp, bundled_app
from tests.support.app_process import ROOT

VIDEO = ROOT / "assets" / "examples" / "circle-moves-left.mp4"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BundledApp]:
    with bundled_app(tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.fixture
def video(app: BundledApp) -> Path:
    place = app.store.settings.work_dir / "late-film.mp4"
    place.write_bytes(VIDEO.read_bytes())
    return place


def ask(app: BundledApp, video: Path, shown: Any = None) -> tuple[list[str], Any, list[Any]]:
    """Ask as the tab does; returns the strips that it shows, the frames, and the chat's values."""
    event = app.event("answer", Player)
    chat = [{"role": "user", "content": "What colour is the circle?"}]
    values = {one: getattr(one, "value", None) for one in event.inputs}
    for one in values:
        if isinstance(one, Player):
            values[one] = str(video)
        elif one.get_block_name() == "chatbot":
            values[one] = chat
        elif one.get_block_name() == "state":
            values[one] = shown
    outputs = list(event.fn(values))
    films = [row[4]["value"] for row in outputs if "value" in row[4]]
    frames = [row[5] for row in outputs if "value" in row[4]]
    return films, frames[-1] if frames else None, [row[1] for row in outputs]


def times(film: str) -> list[str]:
    return re.findall(r"href='#t=([\d.]+)'", film)


def test_the_strip_comes_with_the_first_look_and_at_the_end(app: BundledApp, video: Path) -> None:
    """The page loses what comes while it cancels something."""
    with app.store.use("demo-videochat", "video-chat") as chat:
        chat.forget()
    films, _, said = ask(app, video)
    assert len(films) == 2
    assert films[0] == films[1]
    assert "red" in str(said[-1]), "with the whole answer"


def test_the_strip_comes_back(app: BundledApp, video: Path) -> None:
    """It stayed away: encoded clips are kept longer than their pictures."""
    (first, last), seen, _ = ask(app, video)
    assert first == last
    with app.store.use("demo-videochat", "video-chat") as chat:
        chat.videos._pictures.clear()
        assert chat.videos.clips.weight > 0
    (again,), seen_again, said = ask(app, video)
    assert seen_again == seen
    assert times(again) == times(first) == [f"{time_s:.3f}" for time_s in seen.times_s]
    assert again.count("data:image/jpeg;base64,") == len(seen.times_s)
    assert "red" in str(said[-2]), "after the answer, which does not wait for it"


def test_a_strip_that_is_shown_is_not_decoded_again(
    app: BundledApp, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, seen, _ = ask(app, video)
    with app.store.use("demo-videochat", "video-chat") as chat:
        chat.videos._pictures.clear()

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the video was opened again")

    monkeypatch.setattr("pipelines.models.video_chat.open_video", never)
    films, _, _ = ask(app, video, shown=seen)
    assert films == []


def test_a_damaged_video_shows_the_frames_that_could_be_read(
    app: BundledApp, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One frame that was lost took the whole strip away."""
    original = video_features.read_clips

    def damaged(reader: Any, clips: Any, side_px: int, *, lost: set[int], **more: Any) -> Any:
        for clip, read in zip(clips, original(reader, clips, side_px, lost=lost, **more)):  # noqa: B905
            lost.add(clip[0])
            yield read

    with app.store.use("demo-videochat", "video-chat") as chat:
        chat.forget()
        chat.videos._pictures.clear()
    monkeypatch.setattr(video_features, "read_clips", damaged)
    (film,), seen, _ = ask(app, video)
    assert times(film) == [f"{time_s:.3f}" for time_s in seen.times_s]
