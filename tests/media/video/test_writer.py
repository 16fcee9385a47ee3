"""Clips written as MP4 can be read again, frame by frame."""

from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import InputError
from pipelines.media.video.open import probe
from pipelines.media.video.reader import VideoReader
from pipelines.media.video.writer import write_clip
from tests.fakes.videos import HEIGHT, WIDTH, encode, make, numbers_of


def test_any_browser_plays_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(make("vp9.webm", tmp_path), 0.0, 0.1, path, max_side_px=41)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height, stream.pix_fmt) == (40, 24, "yuv420p")
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # it starts before it is loaded


@pytest.mark.parametrize("kind", ["h264-b-frames.mp4", "vp9.webm"])
def test_a_part_is_cut_out(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(make(kind, tmp_path), 1.0, 2.0, path)
    with VideoReader(path) as reader:
        assert reader.info.duration_s == pytest.approx(1.0, abs=0.01)
        assert numbers_of(reader.frames_at(range(30)).pixels) == list(range(30, 60))
        assert reader.info.num_frames == 30


def test_a_clip_keeps_the_times_of_a_variable_rate(tmp_path: Path) -> None:
    source, path = make("h264-variable.mp4", tmp_path), tmp_path / "clip.mp4"
    write_clip(source, 1.0, 0.0, path)
    with VideoReader(source) as before, VideoReader(path) as after:
        first = before.info.num_frames - after.info.num_frames
        expected = before.times_s[first:] - before.times_s[first]
        assert np.abs(after.times_s - expected).max() < 0.001


def test_a_clip_is_small(tmp_path: Path) -> None:
    size = (HEIGHT * 8, WIDTH * 8)
    source = encode(tmp_path / "large.mp4", "libx264", {"preset": "ultrafast"}, num_frames=4,
                    size=size)  # fmt: skip
    write_clip(source, 0.0, 0.0, tmp_path / "clip.mp4")
    info = probe(tmp_path / "clip.mp4")
    assert (info.width_px, info.height_px, info.num_frames) == (640, 384, 4)


def test_a_clip_that_is_stopped_leaves_no_file(tmp_path: Path) -> None:
    source, asked = make("h264-b-frames.mp4", tmp_path), [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] > 4

    with pytest.raises(Cancelled):
        write_clip(source, 0.0, 0.0, tmp_path / "clip.mp4", cancel=CancelToken(stop))
    assert not (tmp_path / "clip.mp4").exists()
    with pytest.raises(InputError):
        write_clip(source, 2.0, 1.0, tmp_path / "clip.mp4")
