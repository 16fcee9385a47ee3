"""The small pictures of what was found in an index."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.tabs.search import Handlers
from pipelines.media.thumbnails import SIDE_PX, video_thumbnails
from pipelines.media.video.open import key_frames, open_video
from pipelines.search.results import FoundFile, IndexedFile
from tests.fakes.videos import encode


def jpeg(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def found(path: Path | str, start_s: float = 0.0, kept: bytes = b"") -> FoundFile:
    kind: Any = "video" if str(path).endswith("mp4") else "picture"
    file = IndexedFile(
        content="0" * 40, name="a", kind=kind, path=str(path), num_parts=1, thumbnail=kept
    )
    end_s = start_s + 0.2 if kind == "video" else 0.0
    return FoundFile(
        file=file, start_s=start_s, end_s=end_s, cosine=0.2, strength=0.9, verdict="match"
    )


def test_each_moment_has_its_frame_and_a_video_is_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = [encode(tmp_path / f"{name}.mp4", "libx264", {"g": "300"}) for name in "ab"]
    opened: list[Path] = []

    def opening(path: Path, **options: Any) -> Any:
        opened.append(path)
        return open_video(path, **options)

    monkeypatch.setattr("pipelines.media.video.open.open_video", opening)
    there = {str(film): film for film in films}
    handlers = Handlers.__new__(Handlers)
    monkeypatch.setattr(handlers, "_there", there.get)
    asked = [
        found(films[0], 2.0), found("a.png", kept=jpeg("red")), found(films[1], 1.0),
        found(films[0], 0.5), found(tmp_path / "gone.mp4", 0.5, jpeg("blue")), found("b.png"),
    ]  # fmt: skip
    pictures = handlers._thumbnails(asked)
    assert opened == films
    for picture, film, time_s in ((0, 0, 2.1), (2, 1, 1.1), (3, 0, 0.6)):
        (frame,) = key_frames(films[film], [time_s], height_px=SIDE_PX * 3 // 4)
        shown = np.asarray(pictures[picture].resize(frame.shape[1::-1])).astype(int)
        assert np.abs(shown - frame).mean() < 12
    assert [pictures[place].getpixel((5, 5)) for place in (1, 4)] == [(254, 0, 0), (0, 0, 254)]
    assert pictures[5].getpixel((5, 5)) == (128, 128, 128)


def test_a_video_that_cannot_be_read_has_no_small_pictures(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"x" * 900)
    assert video_thumbnails(tmp_path / "no.mp4", [0.0, 1.0]) == [b"", b""]
