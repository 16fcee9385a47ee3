"""AVI files with empty chunks, which recorders write where pictures are dropped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.media.video.avi import delays_of, undelayed
from pipelines.media.video.reader import VideoReader
from tests.fakes.videos import FPS, NUM_FRAMES, encode, numbers_of

#: The times that are written: 10 and 3 pictures are dropped.
TIMES = [n + 10 * (n >= 40) + 3 * (n >= 70) for n in range(NUM_FRAMES)]


def _b_frames(stream: Any) -> None:
    stream.codec_context.max_b_frames = 2


@pytest.mark.parametrize(
    ("codec", "options", "more"),
    [
        ("libx264", {"g": "30", "bf": "3"}, {}),
        ("libx264", {"g": "999", "bf": "2", "x264-params": "b-pyramid=none"}, {}),
        ("libx264", {"g": "30", "bf": "3"}, {"sound": True}),
        ("libx264", {"g": "30", "bf": "0"}, {}),
        ("mpeg4", {"g": "20"}, {"setup": _b_frames}),
        ("mpeg4", {"g": "20"}, {}),
        ("mjpeg", {"q": "5"}, {}),
    ],
)
def test_dropped_pictures(
    codec: str, options: dict[str, str], more: dict[str, Any], tmp_path: Path
) -> None:
    path = encode(tmp_path / "drops.avi", codec, options, times=TIMES, **more)
    with VideoReader(path) as reader:
        read = reader.frames_at(range(reader.info.num_frames))
        assert reader.info.end_s == pytest.approx((TIMES[-1] + 1) / FPS, abs=0.001)
    assert numbers_of(read.pixels) == [*range(NUM_FRAMES)]
    assert read.times_s == pytest.approx(np.array(TIMES) / FPS, abs=0.001)


def test_delays() -> None:
    pyramid = np.array([0, 3, 2, 4, 1])  # packets in presentation order
    assert delays_of(pyramid).tolist() == [0, 2, 0, 1, -3]
    assert undelayed(np.array([0, 1, 2, 13, 14]), 2).tolist() == [2, 13, 14, 15, 16]
    assert undelayed(np.array([5]), 0).tolist() == [5]
