"""Pictures of any mode -> RGB, strip by strip, so that no second copy of a large one is made."""

from collections.abc import Callable, Iterator
from functools import partial

from PIL import Image

#: Pixels that are converted at once.
_STRIP_PIXELS = 1_000_000


def to_rgb(image: Image.Image, shrink: int = 1) -> Image.Image:
    """Return `image` in RGB, 8 bits a channel, transparency laid on white.

    Greys of 16 and 32 bits and float greys are scaled to 0..255 by the range that their mode or
    their values call for (255, 65535, 1.0 for floats within 0..1, else the largest value).

    With `shrink`, each `shrink` x `shrink` pixels become their mean.
    """
    convert = _converter(image)
    size = (-(-image.width // shrink), -(-image.height // shrink))
    result = Image.new("RGB", size)
    for top, strip in _strips(image, shrink):
        part = convert(strip)
        result.paste(part.reduce(shrink) if shrink > 1 else part, (0, top // shrink))
    return result


def _strips(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield parts of whole rows, each with its first row; these are multiples of `multiple`."""
    rows = max(_STRIP_PIXELS // (image.width * multiple), 1) * multiple
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return what turns a strip of this image into RGB."""
    if image.mode in {"I", "I;16", "I;16L", "I;16B", "I;16N", "F"}:
        return partial(_wide_grey_to_rgb, full=_full_scale(image))
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        return _on_white
    return lambda strip: strip if strip.mode == "RGB" else strip.convert("RGB")


def _on_white(strip: Image.Image) -> Image.Image:
    strip = strip.convert("RGBA")
    page = Image.new("RGB", strip.size, "white")
    page.paste(strip, mask=strip)
    return page


def _full_scale(image: Image.Image) -> float:
    """Return the value of a wide grey that becomes 255."""
    import numpy as np

    parts = (np.asarray(strip) for _, strip in _strips(image))
    if image.mode == "F":
        top = max(float(part.max(where=np.isfinite(part), initial=0.0)) for part in parts)
        return next((limit for limit in (1.0, 255.0, 65535.0) if top <= limit), top)
    top = max(int(part.max(initial=0)) for part in parts)
    return 255 if image.mode == "I" and top <= 255 else max(top, 65535)


def _wide_grey_to_rgb(strip: Image.Image, full: float) -> Image.Image:
    import numpy as np

    values = np.nan_to_num(np.asarray(strip).astype(np.float32), posinf=full)
    grey = np.rint(np.clip(values * (255.0 / full), 0, 255)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
