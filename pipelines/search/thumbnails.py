"""Small copies of pictures, and of a video's frames. Torch-free."""

import io
from pathlib import Path

from PIL import Image

from pipelines.errors import PipelineError
from pipelines.images import open_image
from pipelines.search.results import FileKind
from pipelines.video_key_frames import key_frames

#: Longest side of a small copy.
SIDE_PX = 240

#: When in a video the frame appears that stands for it, in seconds.
_POSTER_S = 0.5


def thumbnail(path: Path, kind: FileKind, *, at_s: float = _POSTER_S, max_pixels: int) -> bytes:
    """Return a small JPEG of a picture, or of a video at a time; empty where it cannot be made."""
    try:
        if kind == "picture":
            image = open_image(path, max_pixels=max_pixels, draft_px=SIDE_PX)
        else:
            image = Image.fromarray(key_frames(path, [at_s], height_px=SIDE_PX * 3 // 4)[0])
    except (PipelineError, MemoryError):
        return b""
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
