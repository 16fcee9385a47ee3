"""Open any picture a person may have: upright, RGB, bounded, first frame."""

import io
import struct
import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from pipelines.errors import MediaError

#: What is opened; anything else (PostScript runs a program, for one) is refused.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "PPM", "AVIF", "ICO", "JPEG2000")

#: Most pixels of an image, unless the caller says otherwise.
MAX_PIXELS = 120_000_000


def open_image(path: Path, *, max_pixels: int = MAX_PIXELS, draft_px: int = 0) -> Image.Image:
    """Open an image file, upright, in RGB.

    Any mode is taken: palette, CMYK, 16-bit, alpha (laid on white), EXIF rotation (applied), an
    animation (its first frame).

    Args:
        path: the file.
        max_pixels: most pixels that are decoded.
        draft_px: if not 0, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its
            short side keeps at least this many pixels; several times cheaper for a large photo.

    Returns:
        An image of mode "RGB", 8 bits a channel.

    Raises:
        MediaError: not an image, damaged, empty, or larger than `max_pixels`.
    """
    name = path.name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MediaError(f"The file {name!r} could not be read. Upload it again.") from error
    return decode_image(data, name, max_pixels=max_pixels, draft_px=draft_px)


def decode_image(
    data: bytes, name: str = "the image", *, max_pixels: int = MAX_PIXELS, draft_px: int = 0
) -> Image.Image:
    """Decode the bytes of an image file as `open_image` does; `name` is used in messages."""
    if not data:
        raise MediaError(f"{name!r} is empty (0 bytes). Choose an image such as a PNG or JPEG.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns of sizes that max_pixels judges
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image, name, max_pixels)
                if draft_px:
                    _draft(image, draft_px)
                image.load()
                return to_rgb(_upright(image))
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(
            f"{name!r} unpacks to far more pixels than an image should have; "
            f"the limit is {max_pixels / 1e6:.0f} megapixels. Shrink it and try again."
        ) from error
    except UnidentifiedImageError as error:
        raise MediaError(
            f"{name!r} is not an image that can be read. Expected a PNG, JPEG, WebP, GIF, BMP, "
            "TIFF or AVIF file; convert it and try again."
        ) from error
    except Exception as error:  # PIL's decoders raise whatever they meet in damaged files
        raise MediaError(
            f"{name!r} is damaged or cut off: it starts like an image but cannot be decoded. "
            "Save or upload it again."
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a picture whose EXIF data is damaged is taken as it lies."""
    try:
        return ImageOps.exif_transpose(image)
    except (ValueError, TypeError, KeyError, SyntaxError, struct.error):
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return `image` in RGB, 8 bits a channel, transparency laid on white.

    16-bit and 32-bit integer greys and float greys are scaled to 0..255 by the range that their
    mode holds (65535, or 1.0 for floats within 0..1), never clipped.
    """
    if image.mode == "RGB":
        return image
    if image.mode in {"I", "I;16", "I;16L", "I;16B", "I;16N", "F"}:
        return _wide_grey_to_rgb(image)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image).convert("RGB")
    return image.convert("RGB")


def _wide_grey_to_rgb(image: Image.Image) -> Image.Image:
    import numpy as np

    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    top = float(values.max(initial=0.0))
    scale = 255.0 if image.mode == "F" and top <= 1.0 else 1.0 if top <= 255.0 else 255.0 / 65535.0
    if image.mode.startswith("I;16"):
        scale = 255.0 / 65535.0
    grey = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise MediaError(
            f"{name!r} has {width} x {height} = {width * height / 1e6:.0f} megapixels; "
            f"the limit is {max_pixels / 1e6:.0f}. Shrink it and try again."
        )
    if width < 1 or height < 1:
        raise MediaError(f"{name!r} has no pixels ({width} x {height}). Choose another image.")


def _draft(image: Image.Image, draft_px: int) -> None:
    """Let the JPEG decoder shrink by a power of two, keeping the short side >= `draft_px`."""
    if image.format not in {"JPEG", "MPO"}:
        return
    width, height = image.size
    shrink = min(width, height) / draft_px
    if shrink >= 2:
        image.draft(None, (int(width / shrink), int(height / shrink)))
