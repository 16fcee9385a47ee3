"""Choice of the frames of a video, and their decoding as clips of pixels."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import MediaError
from pipelines.core.messages import Message
from pipelines.media.video.frames import Pixels, VideoFrames, VideoInfo, indices_at, indices_between
from pipelines.media.video.reader import VideoReader, num_cores
from pipelines.models.notes import PART_LOST, lost_frames_notes
from pipelines.models.video_chat import PREVIEW_PX, WHOLE, Part, SeenFrames, preview_size
from pipelines.models.videochat_flash.processing_videochat_flash import (
    FrameChoice,
    choose_frames,
    resize_frame,
    to_pixels,
    whole_clips,
)

#: Frames even of a short video, if as many are allowed; as in the training of the models.
LEAST_FRAMES = 64

#: Bytes of full-size frames that are decoded together; at least a frame for each core.
DECODED_BYTES = 4_000_000

#: Seconds between two frames from which the answer has a note.
COARSE_S = 2.5


@dataclass(frozen=True)
class FramePlan:
    """The chosen frames of one video, by the digest of its content, and notes on the choice.

    `choice` has their numbers and the time message of the prompt, `seen` their times.
    """

    digest: str
    choice: FrameChoice
    seen: SeenFrames
    clip_frames: int
    notes: tuple[str, ...]

    @property
    def clips(self) -> list[tuple[int, ...]]:
        """Numbers of the frames of each clip."""
        indices, step = self.choice.indices, self.clip_frames
        return [indices[start : start + step] for start in range(0, len(indices), step)]

    @property
    def keys(self) -> list[str]:
        """Cache key of each clip."""
        return [f"{self.digest}:{','.join(map(str, clip))}" for clip in self.clips]

    @property
    def key(self) -> str:
        """Cache key of these frames."""
        return (
            f"{self.digest}:{self.choice.duration_s:.3f}:{','.join(map(str, self.choice.indices))}"
        )


def plan_frames(
    reader: VideoReader,
    digest: str,
    part: Part = WHOLE,
    *,
    clip_frames: int = 4,
) -> FramePlan:
    """Choose the frames of a part of an open video, by the digest of its content.

    Their number is rounded down to whole clips of `clip_frames`.

    Raises:
        InputError: the part is not in the video.
    """
    most, start_s, end_s = whole_clips(part.max_frames), part.start_s, part.end_s
    info, times = reader.info, reader.times_s
    indices_between(times, start_s, end_s)  # raises for a part outside of the video
    whole = start_s <= info.start_s and not 0 < end_s < info.end_s
    rate = _rate(info)
    choice = choose_frames(
        info.num_frames,
        rate,
        max_num_frames=most,
        min_num_frames=min(LEAST_FRAMES, most),
        start_s=None if whole else start_s - info.start_s,
        end_s=None if whole or end_s == 0 else end_s - info.start_s,
    )
    if info.variable_rate:  # indices assume an even rate: convert them by time
        moments = info.start_s + (np.array(choice.indices) + 0.5) / rate
        choice = replace(choice, indices=tuple(indices_at(times, moments).tolist()))
    start = info.start_s if whole else max(start_s, info.start_s)
    seen = SeenFrames(
        times_s=tuple(times[list(choice.indices)].tolist()),
        start_s=start,
        end_s=start + choice.duration_s,
        video_end_s=info.end_s,
        counted_from_s=start,
    )
    return FramePlan(digest, choice, seen, clip_frames, tuple(_notes(info, seen, end_s)))


def read_clips(
    reader: VideoReader,
    clips: Sequence[Sequence[int]],
    side_px: int,
    *,
    lost: set[int],
    cancel: CancelToken = NEVER,
) -> Iterator[tuple[torch.Tensor, list[Pixels]]]:
    """Decode clips one by one; only a few full-size frames are in memory at once.

    An unreadable frame is replaced by the nearest of its clip, a clip without any by black.

    Args:
        reader: the video.
        clips: numbers of the frames of each, ascending from clip to clip.
        side_px: side S of the frames of the tower.
        lost: receives the numbers of unreadable frames.
        cancel: checked every 50 ms; raises `Cancelled`.

    Yields:
        (T, 3, S, S) float32, normalised; and thumbnails of the frames, (H, W, 3) uint8.
    """
    wanted = sorted({index for clip in clips for index in clip})
    frame_bytes = reader.info.height_px * reader.info.width_px * 3
    at_once = max(num_cores(), DECODED_BYTES // frame_bytes)
    parts = reader.frames_in_order(wanted, at_once=at_once, cancel=cancel)
    black = np.zeros((side_px, side_px, 3), np.uint8)
    held: dict[int, tuple[Pixels, Pixels]] = {}
    read = -1
    for clip in clips:
        while read < max(clip):
            frames = next(parts)
            read = frames.highest
            lost.update(frames.lost)
            held |= _resized(frames, side_px)
            del frames  # release full-size frames while the tower encodes
        there = [index for index in clip if index in held]
        nearest = [min(there, key=lambda at: abs(at - i), default=-1) for i in clip]
        shown = [held.get(index, (black, black[:PREVIEW_PX])) for index in nearest]
        yield to_pixels([square for square, _ in shown]), [small for _, small in shown]
        held = {index: each for index, each in held.items() if index >= max(clip)}


def lost_notes(plan: FramePlan, lost: set[int]) -> list[str]:
    """Return a note if frames of a plan could not be read.

    Raises:
        MediaError: none could.
    """
    asked = set(plan.choice.indices)
    missing = asked & lost
    if missing == asked:
        raise MediaError(PART_LOST)
    return lost_frames_notes(len(missing), len(asked))


def _resized(frames: VideoFrames, side_px: int) -> dict[int, tuple[Pixels, Pixels]]:
    """Return by number each frame as the tower reads it, and its thumbnail."""
    high, across = preview_size(*frames.pixels.shape[1:3])

    def both(frame: Pixels) -> tuple[Pixels, Pixels]:
        small = Image.fromarray(frame).resize((across, high), reducing_gap=2.0)
        return resize_frame(frame, side_px), np.asarray(small)

    with ThreadPoolExecutor(num_cores()) as pool:
        made = pool.map(both, frames.pixels)
        return {int(index): each for index, each in zip(frames.indices, made, strict=True)}


def _rate(info: VideoInfo) -> float:
    """Return frames per second, also for a single frame."""
    if info.average_fps > 0 and not info.variable_rate:
        return info.average_fps
    return info.num_frames / info.duration_s if info.duration_s > 0 else 1.0


def _notes(info: VideoInfo, seen: SeenFrames, end_s: float) -> Iterator[str]:
    if info.notice:
        yield info.notice
    if end_s > seen.video_end_s + 0.5:
        yield Message("The video ends at {end:.1f} s: the part ends there.", end=seen.video_end_s)
    number = len(set(seen.times_s))
    if number == 1:
        yield "There is only one frame here, so no motion can be seen."
    elif seen.every_s >= COARSE_S:
        yield (
            Message(
                "The model looked at one frame every {seconds:.0f} s: what happens between "
                "them it did not see. For more, ask about a part of the video or allow more "
                "frames.",
                seconds=seen.every_s,
            )
        )
