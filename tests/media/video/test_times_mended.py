"""Files in which some times are wrong: the others are kept, and the person is told.

The right times are those that were written, before a few packets got wrong ones.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.media.video.open import probe
from pipelines.media.video.reader import VideoReader
from pipelines.media.video.times import may_be_wrong, mended
from pipelines.models.viclip.windows import SearchOptions
from pipelines.models.video_chat import Part
from pipelines.models.videochat_flash.frames import plan_frames
from tests.fakes.videos import FPS, LIBVPX, NUM_FRAMES, encode, numbers_of
from tests.support.viclip_golden import make_golden_folder, make_pipeline

#: A screen recording: steps of 33 ms, and pauses of several seconds.
PAUSED_MS = [number * 33 + 5000 * (number // 20) for number in range(NUM_FRAMES)]
EVEN_MS = [number * 40 for number in range(NUM_FRAMES)]
NO_B_FRAMES, B_FRAMES = {"g": "30", "bf": "0"}, {"g": "30", "bf": "3"}

IN_ORDER = [("a.mkv", "libx264", NO_B_FRAMES), ("a.webm", "libvpx", LIBVPX)]
REORDERED = ("b.mkv", "libx264", B_FRAMES)


def stamped(source: Path, target: Path, stamp: Callable[[int], int]) -> Path:
    """Copy the packets of a file with `stamp` of their times in milliseconds."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copied: Any = new.add_stream_from_template(stream)
        for number, packet in enumerate(p for p in old.demux(stream) if p.size):
            shown = round(float(packet.pts * packet.time_base) * 1000)
            packet.stream, packet.time_base = copied, copied.time_base
            packet.pts, packet.dts = stamp(shown), number
            new.mux(packet)
    return target


def check(path: Path, right_ms: list[int], num_mended: int) -> None:
    with VideoReader(path) as reader:
        assert reader.info.num_mended == num_mended
        assert reader.times_s * 1000 == pytest.approx(np.array(right_ms), abs=2)
        read = reader.frames_at(range(NUM_FRAMES))
    assert numbers_of(read.pixels) == [*range(NUM_FRAMES)]
    assert read.num_lost == 0


@pytest.mark.parametrize(("name", "codec", "options"), [*IN_ORDER, REORDERED])
@pytest.mark.parametrize(
    ("wrong", "num_mended"),
    [
        ({25: 24}, 1),  # twice the time of frame 24
        ({25: 24, 26: 24, 70: 69}, 3),
        ({}, 0),
    ],
)
def test_repeated_times(
    name: str, codec: str, options: dict[str, str], wrong: dict[int, int], num_mended: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    whole = encode(tmp_path / f"whole-{name}", codec, options, times=PAUSED_MS, ticks=1000)
    given = {PAUSED_MS[number]: PAUSED_MS[other] for number, other in wrong.items()}
    path = stamped(whole, tmp_path / name, lambda ms: given.get(ms, ms))
    check(path, PAUSED_MS, num_mended)


@pytest.mark.parametrize(("name", "codec", "options"), IN_ORDER)
def test_single_steps_back(name: str, codec: str, options: dict[str, str], tmp_path: Path) -> None:
    """Frames 25 and 50 are stamped before their predecessors."""
    whole = encode(tmp_path / f"whole-{name}", codec, options, times=PAUSED_MS, ticks=1000)
    given = {PAUSED_MS[25]: PAUSED_MS[24] - 7, PAUSED_MS[50]: PAUSED_MS[44] - 5}
    path = stamped(whole, tmp_path / name, lambda ms: given.get(ms, ms))
    check(path, PAUSED_MS, 2)


@pytest.mark.parametrize("wild_ms", [28_715_864, 67])
@pytest.mark.parametrize(("name", "codec", "options"), [*IN_ORDER, REORDERED])
def test_one_wild_time(
    name: str, codec: str, options: dict[str, str], wild_ms: int, tmp_path: Path
) -> None:
    whole = encode(tmp_path / f"whole-{name}", codec, options, times=EVEN_MS, ticks=1000)
    path = stamped(whole, tmp_path / name, lambda ms: wild_ms if ms == EVEN_MS[60] else ms)
    check(path, EVEN_MS, 1)
    assert probe(path, max_seconds=60.0).duration_s == pytest.approx(3.6, abs=0.05)


def test_the_person_is_told(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mkv", "libx264", NO_B_FRAMES, times=PAUSED_MS, ticks=1000)
    given = {PAUSED_MS[25]: PAUSED_MS[24]}
    path = stamped(whole, tmp_path / "a.mkv", lambda ms: given.get(ms, ms))
    note = (
        "1 of 90 frames have a wrong time in the file; times between those of their neighbours "
        "are used."
    )
    with VideoReader(path) as reader:
        assert reader.info.notice == note
        assert note in plan_frames(reader, "digest", Part(max_frames=16)).notes
    assert probe(whole).notice == ""
    viclip = make_pipeline(make_golden_folder(tmp_path / "viclip"))
    assert note in viclip.match(path, ["a dog", "a cat"]).answer.notes
    assert note in viclip.moments([path], "a dog", SearchOptions(5.0, 5.0, 1)).notes
    assert note not in viclip.match(whole, ["a dog", "a cat"]).answer.notes


def test_times_that_mean_nothing_are_counted(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mkv", "libx264", NO_B_FRAMES, times=EVEN_MS, ticks=1000)
    path = stamped(whole, tmp_path / "a.mkv", lambda ms: 1000)
    with VideoReader(path) as reader:
        assert reader.info.num_mended == 0
        assert len(np.unique(np.round(np.diff(reader.times_s), 6))) == 1
    assert mended(np.array([5.0, 4.0, 3.0, 2.0, 1.0])) is None


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0.0, 1.0, 2.0], [0.0, 1.0, 2.0]),
        ([0.0, 1.0, 1.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0]),
        ([0.0, 1.0, 1.0, 1.3, 2.3, 3.3], [0.0, 1.0, 1.15, 1.3, 2.3, 3.3]),
        ([0.0, 1.0, 1.0, 60.0, 61.0], [0.0, 1.0, 2.0, 60.0, 61.0]),
        ([9.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]),
        ([0.0, 1.0, 2.0, 1.5], [0.0, 1.0, 2.0, 3.0]),
        ([7.0], [7.0]),
    ],
)
def test_which_times_are_kept(times: list[float], expected: list[float]) -> None:
    found = mended(np.array(times))
    assert found is not None
    assert found[0] == pytest.approx(expected)


def test_orders_that_no_encoder_writes() -> None:
    pyramid = np.array([0, 8, 4, 2, 1, 3, 6, 5, 7, 16, 12, 10, 9, 11, 14, 13, 15])
    assert not may_be_wrong(pyramid, reorders=True)
    assert may_be_wrong(pyramid, reorders=False)
    assert not may_be_wrong(np.arange(FPS), reorders=False)
    assert may_be_wrong(np.array([0, 900, *range(1, 30)]), reorders=True)
    assert not may_be_wrong(np.array([3]), reorders=False)
