"""Transport streams that were joined, and transport streams with losses."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.media.video.reader import VideoReader
from pipelines.media.video.transport import joined_clock
from tests.fakes.videos import FPS, NUM_FRAMES, encode, numbers_of

HALF = NUM_FRAMES // 2


def part(folder: Path, name: str, start: int) -> bytes:
    """Return a transport stream of `HALF` frames whose clock starts at a frame."""
    times = [start + number for number in range(HALF)]
    path = encode(folder / name, "libx264", {"g": "15", "bf": "2"}, num_frames=HALF, times=times)
    return path.read_bytes()


@pytest.mark.parametrize("start", [HALF, 5000 * FPS, 0])
def test_joined_streams(start: int, tmp_path: Path) -> None:
    """The second stream goes on, is far ahead, or starts again: every frame is whole."""
    path = tmp_path / "joined.ts"
    path.write_bytes(part(tmp_path, "a.ts", 0) + part(tmp_path, "b.ts", start))
    with VideoReader(path) as reader:
        read = reader.frames_at(range(reader.info.num_frames))
        alone = reader.frames_at([HALF + 20, 3])
    assert numbers_of(read.pixels) == [*range(HALF), *range(HALF)]
    assert numbers_of(alone.pixels) == [20, 3]
    assert read.times_s == pytest.approx(np.arange(NUM_FRAMES) / FPS, abs=0.001)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.7, 0.85])
@pytest.mark.parametrize("num_lost", [9, 16, 20])
def test_lost_packets_are_damage(share: float, num_lost: int, tmp_path: Path) -> None:
    times = [number * 3 for number in range(NUM_FRAMES)]
    whole = encode(tmp_path / "whole.ts", "libx264", {"g": "15", "bf": "2"}, times=times)
    data, path = whole.read_bytes(), tmp_path / "lossy.ts"
    start = int(len(data) // 188 * share) * 188
    path.write_bytes(data[:start] + data[start + 188 * num_lost :])
    with VideoReader(whole) as reader:
        times_s = reader.times_s
    with VideoReader(path) as reader:
        read = reader.frames_at(range(reader.info.num_frames))
    belongs = [int(np.abs(times_s - each).argmin()) for each in read.times_s]
    assert numbers_of(read.pixels) == belongs
    assert len(read.indices) < NUM_FRAMES


def test_which_steps_are_jumps() -> None:
    whole = np.ones(6, np.bool_)
    clock = np.array([0, 1, 2, 900, 901, 902])
    assert (clock + joined_clock(clock, 1.0, whole)).tolist() == [0, 1, 2, 3, 4, 5]
    assert not joined_clock(clock, 1.0, ~whole).any(), "a loss is no jump"
    assert not joined_clock(clock, 0.001, whole).any(), "a second without a picture"
    back = np.array([5, 6, 7, 0, 1, 2])
    assert (back + joined_clock(back, 1.0, whole)).tolist() == [5, 6, 7, 8, 9, 10]
