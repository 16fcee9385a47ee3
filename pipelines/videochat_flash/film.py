"""Small pictures of frames that a model looked at, decoded anew for those who want to see them.

A model keeps what it encoded longer than what it showed; this needs no model. Torch-free.
"""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TypeVar

from pipelines.compute.background import stoppable
from pipelines.media.video.open import open_video
from pipelines.video_pixels import Pixels

Sign = TypeVar("Sign")

#: Height of the small pictures that show people what was looked at, and most of their width.
PICTURE_PX = 90
WIDEST_PX = 4 * PICTURE_PX


def picture_size(height_px: int, width_px: int) -> tuple[int, int]:
    """Return (height, width) of the small picture of a frame."""
    return PICTURE_PX, min(max(2, round(width_px * PICTURE_PX / height_px)), WIDEST_PX)


def decode_film(
    video: Path, times_s: Sequence[float], *, max_seconds: float, sign: Sign
) -> Generator[Sign, None, dict[float, Pixels]]:
    """Return small pictures, (H, W, 3) uint8 RGB, by the times that are asked for.

    Those that cannot be read are left out. Closing the generator ends the reading.

    Args:
        video: a video file.
        times_s: when the frames are on show.
        max_seconds: longest video that is taken; 0 for any.
        sign: yielded a few times a second.

    Raises:
        MediaError: the file is not a video that can be read, or too long.
    """
    return (yield from stoppable(lambda stop: _decoded(video, times_s, max_seconds, stop), sign))


def _decoded(
    video: Path, times_s: Sequence[float], max_seconds: float, stop: Callable[[], bool]
) -> dict[float, Pixels]:
    with open_video(video, max_seconds=max_seconds, should_stop=stop) as reader:
        size = picture_size(reader.info.height_px, reader.info.width_px)
        frames = reader.frames_at_times(times_s, size, should_stop=stop)
        return dict(zip(frames.times_s.tolist(), frames.pixels, strict=True))
