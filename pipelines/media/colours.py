"""Conversion of colours by the ICC profile of an image file to sRGB."""

import io
from collections.abc import Callable
from functools import lru_cache

from PIL import Image, ImageCms

#: Largest difference, in grey levels, of a conversion that is left out.
_SAME = 2

#: Colour space of a profile -> the mode of the pixels that it converts.
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}

Conversion = Callable[[Image.Image], Image.Image]


@lru_cache(maxsize=16)
def to_srgb(profile: bytes) -> tuple[str, Conversion] | None:
    """Return the mode that a profile applies to, and the conversion of such an image to sRGB.

    None for a profile that is damaged or of another colour space, and for sRGB itself.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES[source.profile.xcolor_space]
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        samples = _samples(mode)
        changed = ImageCms.applyTransform(samples, transform)
    except (ImageCms.PyCMSError, KeyError, OSError, ValueError, TypeError):
        return None
    if changed is None or (mode != "CMYK" and _is_same(samples.convert("RGB"), changed)):
        return None
    return mode, transform.apply


def _samples(mode: str) -> Image.Image:
    """Return an image with colours from all parts of the colour space."""
    if mode == "L":
        return Image.linear_gradient("L")
    steps = range(0, 256, 17)
    cube = bytes(v for r in steps for g in steps for b in steps for v in (r, g, b))
    image = Image.frombytes("RGB", (256, 16), cube)
    return image if mode == "RGB" else image.convert(mode)


def _is_same(first: Image.Image, second: Image.Image) -> bool:
    import numpy as np

    difference = np.asarray(first).astype(int) - np.asarray(second).astype(int)
    return int(np.abs(difference).max()) <= _SAME
