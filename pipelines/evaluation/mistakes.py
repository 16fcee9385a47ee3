"""Small copies of the pictures that were taken for another class."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from pipelines.core.errors import PipelineError
from pipelines.evaluation.dataset import Labelled
from pipelines.evaluation.results import Measured, Prediction
from pipelines.media.images import decode_image

#: Mistakes that are shown, and the longest side of the copies in pixels.
MOST_SHOWN = 12
_SIDE_PX = 200


@dataclass(frozen=True)
class Mistake:
    """A picture that was taken for another class; `jpeg` is a small copy of it, a whole file."""

    prediction: Prediction
    jpeg: bytes


def show_mistakes(
    pictures: Sequence[Labelled], found: Measured, max_pixels: int
) -> Iterator[Mistake]:
    """Yield the surest mistakes, one by one.

    Args:
        pictures: of an archive that is open.
        found: what they were taken for.
        max_pixels: most pixels of one picture.
    """
    by_name = {picture.item.name: picture for picture in pictures}
    for one in found.mistakes[:MOST_SHOWN]:
        yield Mistake(one, _small(by_name[one.file], max_pixels))


def _small(picture: Labelled, max_pixels: int) -> bytes:
    item = picture.item
    try:
        image = decode_image(
            item.source.read(), item.name, max_pixels=max_pixels, draft_px=_SIDE_PX
        )
    except PipelineError:
        return b""  # it was there a moment ago; what it was taken for stands all the same
    image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
