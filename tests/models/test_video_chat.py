"""Small pictures of frames, decoded anew for those who want to see what a model looked at."""

import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import MediaError
from pipelines.models import video_chat
from pipelines.models.video_chat import PREVIEW_PX, PREVIEW_WIDTH_PX, decode_previews, preview_size
from tests.fakes.videos import FPS, encode, number_of


def whole(steps: Generator[None, None, Any]) -> Any:
    """Return what a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_each_picture_is_that_of_its_time(tmp_path: Path) -> None:
    video = encode(tmp_path / "a.mp4", "libx264", {"crf": "8"}, size=(192, 320))
    numbers = [0, 7, 44, 89]
    times = [number / FPS for number in numbers]
    pictures = whole(decode_previews(video, times, max_seconds=60.0, sign=None))
    assert list(pictures) == pytest.approx(times)
    assert {picture.shape for picture in pictures.values()} == {(PREVIEW_PX, 150, 3)}
    assert [number_of(picture) for picture in pictures.values()] == numbers


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1080, 1920), 160), ((96, 160), 150), ((4000, 3), 2), ((10, 4000), PREVIEW_WIDTH_PX)],
)
def test_the_size_of_a_picture(size: tuple[int, int], expected: int) -> None:
    assert preview_size(*size) == (PREVIEW_PX, expected)


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError):
        whole(decode_previews(tmp_path / "a.mp4", [0.0], max_seconds=0.0, sign=None))


def test_closing_ends_the_reading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ended = threading.Event()

    def hang(path: Path, *, cancel: CancelToken, **options: Any) -> Any:
        while not cancel.is_cancelled:
            time.sleep(0.01)
        ended.set()
        raise Cancelled

    monkeypatch.setattr(video_chat, "open_video", hang)
    steps = decode_previews(tmp_path / "a.mp4", [0.0], max_seconds=0.0, sign="alive")
    assert next(steps) == "alive"
    steps.close()
    assert ended.is_set()
