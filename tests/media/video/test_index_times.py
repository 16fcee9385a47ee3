"""Times are those of a player's clock, also where the picture does not start with it.

What Chromium 156 shows was read off it once for each kind of file here: at `currentTime` 2.0 it
shows the picture that was made for second 2, wherever the first one is.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from components.render.video import moments_srt
from pipelines.core.errors import InputError, MediaError
from pipelines.media.video.open import key_frames, open_video, probe
from pipelines.media.video.reader import VideoReader
from pipelines.media.video.writer import write_clip
from pipelines.models.viclip.pipeline import ViClipPipeline
from pipelines.models.viclip.results import Moment, SearchedVideo
from pipelines.models.viclip.windows import SearchOptions
from pipelines.models.video_chat import Part
from pipelines.models.videochat_flash.frames import FramePlan, plan_frames
from tests.fakes.videos import FPS, NUM_FRAMES, VFR_TIMES, encode, number_of, numbers_of
from tests.support.viclip_golden import make_golden_folder, make_pipeline

LATE_S = 1.5
LATE = [round(LATE_S * FPS) + number for number in range(NUM_FRAMES)]
H264, VP9 = {"g": "20", "bf": "2"}, {"g": "40", "deadline": "realtime", "cpu-used": "8"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("times")


@pytest.fixture(
    scope="module", params=["late.mp4", "late.mkv", "late.mov", "alone.mp4", "vp9.webm"]
)
def late(request: pytest.FixtureRequest, folder: Path) -> Iterator[Path]:
    """A video whose picture starts after 1.5 s, most with sound from 0 on."""
    name: str = request.param
    codec, options = ("libvpx-vp9", VP9) if name.endswith("webm") else ("libx264", H264)
    yield encode(folder / name, codec, options, times=LATE, sound=name.startswith("late"))


@pytest.fixture(scope="module")
def prompt(folder: Path) -> Path:
    """The same pictures from 0 on."""
    return encode(folder / "prompt.mp4", "libx264", H264)


def test_times_are_those_of_a_player(late: Path) -> None:
    info = probe(late)
    assert info.start_s == pytest.approx(LATE_S, abs=0.002)
    assert info.duration_s == pytest.approx(NUM_FRAMES / FPS, abs=0.04)
    assert info.end_s == info.start_s + info.duration_s
    assert (info.variable_rate, info.average_fps) == (False, pytest.approx(FPS, rel=0.002))
    with VideoReader(late) as reader:
        assert reader.times_s == pytest.approx(np.array(LATE) / FPS, abs=0.002)
        shown = reader.frames_at_times([0.0, 1.4, 2.0, 3.0, 9.0])
    assert numbers_of(shown.pixels) == [0, 0, 15, 45, NUM_FRAMES - 1]


def test_a_clock_that_starts_anywhere_counts_from_the_first_picture_or_sound(folder: Path) -> None:
    alone = encode(folder / "alone.ts", "libx264", H264, times=LATE)
    assert probe(alone).start_s == 0
    late = encode(folder / "late.ts", "libx264", H264, times=LATE, sound=True)
    assert probe(late).start_s == pytest.approx(LATE_S, abs=0.05)
    counted = encode(folder / "late.avi", "mpeg4", {"g": "20"}, times=LATE, sound=True)
    assert probe(counted).start_s == 0


@pytest.mark.parametrize("name", ["far.mp4", "far.mkv"])
def test_a_long_wait_for_the_first_picture_is_no_length(name: str, folder: Path) -> None:
    far = [3600 * FPS + number for number in range(NUM_FRAMES)]
    path = encode(folder / name, "libx264", H264, times=far)
    with VideoReader(path, max_seconds=10.0) as reader:
        assert reader.info.end_s == pytest.approx(3603.0, abs=0.1)
    with pytest.raises(MediaError, match="is 3 s long; the limit is 2 s"):
        probe(path, max_seconds=2.0)


def test_what_is_cut_out_is_what_is_shown_then(late: Path, tmp_path: Path) -> None:
    write_clip(late, 2.5, 3.5, tmp_path / "clip.mp4")
    with VideoReader(tmp_path / "clip.mp4") as clip:
        assert numbers_of(clip.frames_at(range(clip.info.num_frames)).pixels) == [*range(30, 60)]
        assert clip.info.start_s == 0
    (small,) = key_frames(late, [2.5], height_px=96)
    assert number_of(small) == 30
    with pytest.raises(InputError, match=r"after the end of the video \(4\.5. s\)"):
        write_clip(late, 4.8, 0.0, tmp_path / "none.mp4")


@pytest.fixture(scope="module")
def viclip(folder: Path) -> ViClipPipeline:
    return make_pipeline(make_golden_folder(folder / "viclip"))


def test_a_match_tells_a_player_s_times(viclip: ViClipPipeline, late: Path, prompt: Path) -> None:
    whole, before = (viclip.match(path, ["a dog", "a cat"]) for path in (late, prompt))
    moved = np.array(before.frame_times_s) + LATE_S  # the very same pictures are looked at
    assert whole.frame_times_s == pytest.approx(moved, abs=0.002)
    assert (whole.start_s, whole.end_s) == pytest.approx((1.5, 4.5), abs=0.04)
    part = viclip.match(late, ["a dog", "a cat"], start_s=2.5, end_s=3.5)
    same = viclip.match(prompt, ["a dog", "a cat"], start_s=1.0, end_s=2.0)
    assert part.frame_times_s == pytest.approx(np.array(same.frame_times_s) + LATE_S, abs=0.002)
    early = viclip.match(late, ["a dog"], end_s=1.0)  # when a player shows the first one
    assert early.frame_times_s == pytest.approx((LATE_S,), abs=0.002)


def test_windows_lie_where_the_picture_is(viclip: ViClipPipeline, late: Path, prompt: Path) -> None:
    options = SearchOptions(1.0, 0.5, 3)
    plan, before = (viclip.videos.plan(path, options) for path in (late, prompt))
    assert np.array_equal(plan.indices, before.indices)
    assert plan.starts_s == pytest.approx(before.starts_s + LATE_S, abs=0.04)
    (found,) = viclip.moments([late], "a dog", options).videos
    assert all(LATE_S - 0.002 <= m.start_s < m.end_s <= 4.54 for m in found.moments)
    assert found.end_s == pytest.approx(4.5, abs=0.04)
    assert all(1.5 < time_s < 4.54 for time_s, _ in found.curve)


def test_subtitles_come_when_the_moment_is_shown() -> None:
    moment = Moment(start_s=2.5, end_s=3.5, score=0.9, cosine=0.3, evidence=2.0, verdict="match",
                    key_s=3.0)  # fmt: skip
    video = SearchedVideo(index=0, moments=(moment,), end_s=4.5)
    assert "00:00:02,500 --> 00:00:03,500" in moments_srt(video, "a dog")


def chosen(path: Path, **part: float) -> FramePlan:
    with open_video(path) as reader:
        return plan_frames(reader, "digest", Part(**part))  # type: ignore[arg-type]


def test_a_conversation_is_about_the_pictures_shown_then(late: Path, prompt: Path) -> None:
    plan, before = chosen(late, max_frames=16), chosen(prompt, max_frames=16)
    assert plan.choice.indices == before.choice.indices
    assert plan.choice.message == before.choice.message
    assert plan.seen.times_s == pytest.approx(np.array(before.seen.times_s) + LATE_S, abs=0.002)
    assert plan.seen.counted_from_s == plan.seen.start_s == pytest.approx(LATE_S, abs=0.002)
    assert plan.seen.video_end_s == pytest.approx(4.5, abs=0.04)
    part = chosen(late, start_s=2.5, end_s=3.5, max_frames=16)
    assert part.seen.times_s[0] == pytest.approx(2.5, abs=1.5 / FPS)
    assert 3.3 < part.seen.times_s[-1] < 3.51
    assert part.seen.counted_from_s == 2.5
    assert chosen(late, end_s=60.0, max_frames=16).notes == (
        "The video ends at 4.5 s: the part ends there.",
    )
    with pytest.raises(InputError, match="no frame in this part"):
        chosen(late, end_s=1.0)


def test_uneven_frames_that_start_late(folder: Path) -> None:
    times = [1500 + time for time in VFR_TIMES]
    late = encode(folder / "uneven.mp4", "libx264", H264, times=times, ticks=1000)
    first = VFR_TIMES[0] / 1000
    prompt = encode(folder / "even.mp4", "libx264", H264, times=VFR_TIMES, ticks=1000)
    plan, before = chosen(late, max_frames=16), chosen(prompt, max_frames=16)
    assert probe(late).start_s == pytest.approx(1.5 + first, abs=0.002)
    assert plan.choice.indices == before.choice.indices
