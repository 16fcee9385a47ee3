"""Thumbnails of images and of video frames."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pipelines.core.errors import PipelineError
from pipelines.core.results import FileKind
from pipelines.media.images import decode_image, open_image
from pipelines.media.inputs import BatchInput
from pipelines.media.video.open import key_frames

#: Longest side and maximum size of a thumbnail; an index holds one for each file. A larger one is
#: saved at a lower quality, then at a smaller size.
SIDE_PX = 240
MAX_BYTES = 20_000
_QUALITIES, _SMALLER_PX = (80, 60, 40), 120

#: Time of the frame that represents a video, in seconds.
_POSTER_S = 0.5


def thumbnail(path: Path, kind: FileKind, *, max_pixels: int) -> bytes:
    """Return a small JPEG of an image or of the start of a video; empty if it is unreadable."""
    if kind == "video":
        return video_thumbnails(path, [_POSTER_S])[0]
    try:
        return _jpeg(open_image(path, max_pixels=max_pixels, draft_px=SIDE_PX))
    except (PipelineError, MemoryError):
        return b""


def video_thumbnails(path: Path, times_s: Sequence[float]) -> list[bytes]:
    """Return small JPEGs of the frames at some times; empty if the video is unreadable."""
    try:
        frames = key_frames(path, times_s, height_px=SIDE_PX * 3 // 4)
    except (PipelineError, MemoryError):
        return [b""] * len(times_s)
    return [_jpeg(Image.fromarray(frame)) for frame in frames]


def input_thumbnail(item: BatchInput, side_px: int, *, max_pixels: int) -> bytes:
    """Return a small JPEG of an input of a batch; empty if it cannot be read any more."""
    try:
        image = decode_image(item.source.read(), item.name, max_pixels=max_pixels, draft_px=side_px)
    except (PipelineError, MemoryError):
        return b""
    image.thumbnail((side_px, side_px), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _jpeg(image: Image.Image) -> bytes:
    for side in (SIDE_PX, _SMALLER_PX):
        image.thumbnail((side, side), Image.Resampling.BILINEAR)
        image.info.clear()  # a JPEG comment of any length would be copied
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality)
            if buffer.tell() <= MAX_BYTES:
                return buffer.getvalue()
    return b""
