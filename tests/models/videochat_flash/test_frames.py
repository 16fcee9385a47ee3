"""Which frames a model looks at: the reference's, whatever the file and the part."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.core.cancel import NEVER
from pipelines.core.errors import InputError, MediaError
from pipelines.media.video.open import open_video
from pipelines.models.video_chat import Part
from pipelines.models.videochat_flash.frames import FramePlan, lost_notes, plan_frames, read_clips
from pipelines.models.videochat_flash.processing_videochat_flash import choose_frames
from tests.fakes.videos import FPS, NUM_FRAMES, encode
from tests.support.videochat_golden import clips_of


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("frames") / "a.mp4", "libx264")


def plan(path: Path, **part: float) -> FramePlan:
    with open_video(path) as reader:
        return plan_frames(reader, "digest", Part(**part))  # type: ignore[arg-type]


def test_the_frames_of_the_reference(video: Path) -> None:
    found = plan(video)
    assert found.choice == choose_frames(NUM_FRAMES, FPS, max_num_frames=64)
    assert found.choice.message.startswith("The video lasts for 3.00 seconds, and 64 frames")
    assert len(found.clips) == len(found.keys) == len(set(found.keys)) == 16
    assert found.notes == ()
    part = plan(video, start_s=1.0, end_s=2.0, max_frames=512)
    assert part.choice == choose_frames(NUM_FRAMES, FPS, start_s=1.0, end_s=2.0)
    assert part.seen.start_s == 1.0
    assert all(1.0 <= time < 2.0 for time in part.seen.times_s)


@pytest.mark.parametrize(("asked", "given"), [(4, 4), (7, 4), (30, 28), (64, 64), (1000, 64)])
def test_fewer_frames_where_fewer_are_allowed(video: Path, asked: int, given: int) -> None:
    assert len(plan(video, max_frames=asked).choice.indices) == given


def test_a_part_that_is_the_whole_is_the_whole(video: Path) -> None:
    assert plan(video, end_s=3.0).choice == plan(video).choice
    late = plan(video, end_s=60.0)
    assert late.choice == plan(video).choice
    assert late.notes == ("The video ends at 3.0 s: the part ends there.",)


@pytest.mark.parametrize(
    "part",
    [{"start_s": 9.0}, {"start_s": 2.0, "end_s": 1.0}, {"start_s": -1.0}, {"end_s": float("nan")}],
)
def test_a_part_that_is_not_there_is_refused(video: Path, part: dict[str, float]) -> None:
    with pytest.raises(InputError):
        plan(video, **part)


@pytest.mark.parametrize("frames", [0, 3, 1025, 8.5, "many", None, True])
def test_an_impossible_number_of_frames_is_refused(frames: object) -> None:
    with pytest.raises(InputError, match="max_frames must be a whole number from 4 to 1024"):
        Part(max_frames=frames)  # type: ignore[arg-type]


def test_a_single_frame(tmp_path: Path) -> None:
    found = plan(encode(tmp_path / "one.mp4", "libx264", num_frames=1))
    assert found.choice.indices == (0,) * 8
    assert "only one frame" in found.notes[0]


def test_uneven_frames_are_spread_over_time(tmp_path: Path) -> None:
    """A second of ten frames, then nine seconds of one: by number nearly all were of the first."""
    times = [*range(0, 300, 30), *range(300, 3000, 300)]
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=19, times=times, ticks=300)
    found = plan(path, max_frames=8)
    assert sum(time < 1.0 for time in found.seen.times_s) <= 2
    assert max(np.diff(found.seen.times_s)) <= 2.0


def test_a_coarse_look_is_told(tmp_path: Path) -> None:
    times = [number * 300 for number in range(60)]
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=60, times=times, ticks=30)
    assert "one frame every 75 s" in plan(path, max_frames=8).notes[0]


def test_clips_are_the_reference_s_pixels(video: Path) -> None:
    found, lost = plan(video, max_frames=16), set[int]()
    with open_video(video) as reader:
        read = list(read_clips(reader, found.clips, 96, lost=lost, cancel=NEVER))
        frames = reader.frames_at(found.choice.indices).pixels
    for (pixels, pictures), clip in zip(read, clips_of(torch.from_numpy(frames), 96), strict=True):
        assert pixels.equal(clip)
        assert {picture.shape for picture in pictures} == {(90, 150, 3)}
    assert lost == set()
    assert lost_notes(found, lost) == []


def test_lost_frames_are_told(video: Path) -> None:
    found = plan(video, max_frames=8)
    asked = found.choice.indices
    assert lost_notes(found, {asked[0], 10_000})[0].startswith("1 of 8 frames could not be read")
    with pytest.raises(MediaError, match="Not one of the frames"):
        lost_notes(found, set(asked))
