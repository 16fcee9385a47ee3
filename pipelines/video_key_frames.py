"""Small frames that stand for moments of a video. Torch-free."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipelines.core.errors import DecoderLost, MediaError
from pipelines.media.video.frames import indices_at
from pipelines.media.video.open import open_video
from pipelines.video_pixels import Pixels

#: Widest frame, in pixels.
_MAX_WIDTH = 640


def key_frames(
    path: Path,
    times_s: Sequence[float],
    *,
    height_px: int = 120,
    should_stop: Callable[[], bool] | None = None,
) -> list[Pixels]:
    """Return the small upright frames on show at some times, (H, W, 3) uint8, one each, in order.

    One that cannot be read is black.

    Raises:
        MediaError: the file is not a video that can be read.
        DecoderLost: reading it made a decoder crash or hang.
        ReadingStopped: `should_stop`, asked now and then, said so.
    """
    if not times_s:
        return []
    with open_video(path, should_stop=should_stop) as reader:
        info = reader.info
        width = min(max(2, round(info.width_px * height_px / info.height_px)), _MAX_WIDTH)
        asked = indices_at(reader.times_s, list(times_s))
        frames: dict[int, Pixels] = {}
        try:
            read = reader.frames_at(np.unique(asked), (height_px, width), should_stop=should_stop)
        except DecoderLost:
            raise
        except MediaError:  # none of them: the video is damaged just there
            read = None
        if read is not None:
            frames = dict(zip(read.indices.tolist(), read.pixels, strict=True))
    black = np.zeros((height_px, width, 3), np.uint8)
    return [frames.get(int(index), black) for index in asked]
