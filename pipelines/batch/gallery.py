"""Small copies of the last pictures of a run, for whoever watches."""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from pipelines.batch.inputs import Inputs
from pipelines.batch.results import BatchResult
from pipelines.core.errors import PipelineError
from pipelines.media.images import decode_image

#: Seconds between two rounds of new pictures, and their longest side.
_EVERY_S = 1.0
_SIDE_PX = 240


@dataclass(frozen=True)
class Picture:
    """A small copy of a picture with its caption; `jpeg` is a whole file."""

    file: str
    caption: str
    jpeg: bytes


class Gallery:
    """Makes small copies of pictures, each once, now and then."""

    num_pictures = 6

    def __init__(self, inputs: Inputs, max_pixels: int) -> None:
        """Read them from `inputs`, which must stay open; `max_pixels` is the most of one."""
        self._items = inputs.items
        self._max_pixels = max_pixels
        self._made: dict[int, bytes] = {}
        self._next = 0.0

    def is_due(self) -> bool:
        """Return whether it is time for new ones."""
        return time.monotonic() >= self._next

    def show(self, results: Sequence[BatchResult]) -> tuple[Picture, ...]:
        """Return the pictures of these results, the newest first."""
        self._made = {r.index: self._made.get(r.index) or self._small(r.index) for r in results}
        self._next = time.monotonic() + _EVERY_S
        return tuple(Picture(r.file, r.caption, self._made[r.index]) for r in reversed(results))

    def _small(self, index: int) -> bytes:
        item = self._items[index]
        try:
            image = decode_image(
                item.source.read(), item.name, max_pixels=self._max_pixels, draft_px=_SIDE_PX
            )
        except (PipelineError, MemoryError):
            return b""  # it was there a moment ago; its caption stands all the same
        image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80)
        return buffer.getvalue()
