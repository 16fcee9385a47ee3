"""Open any picture a person may have: upright, RGB, bounded, first frame."""

import io
import struct
import warnings
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pipelines.errors import MediaError

#: What is opened; anything else (PostScript runs a program, for one) is refused. JPEG opens MPO
#: as well, which PIL does not know as a format to open.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "ICO", "JPEG2000")

#: Key in `Image.info` of a picture decoded at a fraction of its size: the exact part (left, top,
#: right, bottom), in pixels, that holds the picture. 2745 px at 1/4 are 686.25 px, of which
#: the decoder makes 687; without this, edges shift by up to 3/4 px.
TRUE_BOX = "true_box"

Box = tuple[float, float, float, float]

#: What PIL raises on EXIF data that is damaged.
_BAD_EXIF = (ValueError, TypeError, KeyError, SyntaxError, struct.error, OSError)

#: Most pixels of an image, unless the caller says otherwise.
MAX_PIXELS = 120_000_000

#: Most characters of a file's name that a message repeats.
_MAX_NAME = 60

#: What people take for an image, or hope is one: (offset, bytes there, what to call it).
_KNOWN = (
    (4, b"ftyphei", "a HEIC photo"),
    (4, b"ftyphev", "a HEIC photo"),
    (4, b"ftypmif1", "a HEIF photo"),
    (4, b"ftypmsf1", "a HEIF photo"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (8, b"AVI ", "a video"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (0, b"PK", "a zip archive or an office document"),
    (0, b"8BPS", "a Photoshop file"),
)

#: How files begin that were images once, whatever came after.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")

# A warning is no use to a visitor, and `catch_warnings` at each call is not safe among threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


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
        MemoryError: there is no memory for it.
    """
    name = path.name
    try:
        data = path.read_bytes()
    except OSError as error:
        shown = _shown(name)
        raise MediaError(f"The file {shown} could not be read. Upload it again.") from error
    return decode_image(data, name, max_pixels=max_pixels, draft_px=draft_px)


def decode_image(
    data: bytes, name: str = "the image", *, max_pixels: int = MAX_PIXELS, draft_px: int = 0
) -> Image.Image:
    """Decode the bytes of an image file as `open_image` does; `name` is used in messages."""
    shown = _shown(name)
    if not data:
        raise MediaError(f"{shown} is empty (0 bytes). Choose an image such as a PNG or JPEG.")
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2  # PIL itself refuses more than twice this
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, shown, max_pixels)
            box = _draft(image, draft_px) if draft_px else None
            image.load()
            upright = to_rgb(_upright(image))
            if box is not None:
                upright.info[TRUE_BOX] = _turned(box, image.size, _orientation(image))
            return upright
    except (MediaError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(
            f"{shown} unpacks to far more pixels than an image should have; "
            f"the limit is {max_pixels / 1e6:.0f} megapixels. Shrink it and try again."
        ) from error
    except Exception as error:  # PIL's decoders raise whatever they meet in damaged files
        looks = _looks(data)
        unknown = isinstance(error, UnidentifiedImageError)
        if unknown and (looks or not data.startswith(_SIGNATURES)):
            raise MediaError(
                f"{shown} is not an image that can be read{looks}. Expected a PNG, JPEG, WebP, "
                "GIF, BMP, TIFF or AVIF file; convert it and try again."
            ) from error
        raise MediaError(
            f"{shown} is damaged or cut off: it starts like an image but cannot be decoded. "
            "Save or upload it again."
        ) from error


def _shown(name: str) -> str:
    """Return a file's name as messages repeat it: quoted, printable, not too long."""
    return repr(name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…")


def _looks(data: bytes) -> str:
    """Return what a file that is no image looks like, as the end of a sentence, or ""."""
    start = data[:300].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    text = data[:300].decode("utf-8", "replace").rstrip("\ufffd")  # perhaps half a character
    for offset, magic, kind in _KNOWN:
        if data.startswith(magic, offset):
            return f": it looks like {kind}"
    if b"<svg" in start:
        return ": it looks like an SVG drawing"
    if start.startswith((b"<!doctype html", b"<html")):
        return ": it looks like a web page"
    readable = all(char.isprintable() or char.isspace() for char in text)
    if text and readable and "\ufffd" not in text:
        return ": it looks like a text"
    return ""


def true_box(image: Image.Image) -> Box:
    """Return the part of an opened image, in its pixels, that holds the picture."""
    found: Box = image.info.get(TRUE_BOX, (0.0, 0.0, float(image.width), float(image.height)))
    return found


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1..8; 1 where there is none or the data is damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BAD_EXIF:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a picture whose EXIF data is damaged is taken as it lies."""
    try:
        return ImageOps.exif_transpose(image)
    except _BAD_EXIF:
        return image


def _turned(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Return where `box`, from the top left corner, lies once the orientation is applied."""
    (_, _, right, bottom), (width, height) = box, size
    from_left, from_right = (0.0, right), (width - right, float(width))
    from_top, from_bottom = (0.0, bottom), (height - bottom, float(height))
    across, down = {
        1: (from_left, from_top),
        2: (from_right, from_top),
        3: (from_right, from_bottom),
        4: (from_left, from_bottom),
        5: (from_top, from_left),
        6: (from_bottom, from_left),
        7: (from_bottom, from_right),
        8: (from_top, from_right),
    }[orientation]
    return across[0], down[0], across[1], down[1]


def to_rgb(image: Image.Image) -> Image.Image:
    """Return `image` in RGB, 8 bits a channel, transparency laid on white.

    Greys of 16 and 32 bits and float greys are scaled to 0..255 by the range that their mode or
    their values call for (255, 65535, 1.0 for floats within 0..1, else the largest value).
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in {"I", "I;16", "I;16L", "I;16B", "I;16N", "F"}:
        return _wide_grey_to_rgb(image)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        image = image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(image, mask=image)
        return page
    return image.convert("RGB")


def _wide_grey_to_rgb(image: Image.Image) -> Image.Image:
    import numpy as np

    values = np.asarray(image)
    if image.mode == "F":
        finite = np.isfinite(values)
        top = float(values.max(where=finite, initial=0.0))
        full = next((limit for limit in (1.0, 255.0, 65535.0) if top <= limit), top)
    else:
        top = int(values.max(initial=0))
        full = 255 if image.mode == "I" and top <= 255 else max(top, 65535)
    grey = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 256):  # by strips: floats of a whole large scan take much
        strip = np.nan_to_num(values[start : start + 256].astype(np.float32), posinf=full)
        grey[start : start + 256] = np.rint(np.clip(strip * (255.0 / full), 0, 255))
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


def _draft(image: Image.Image, draft_px: int) -> Box | None:
    """Let the JPEG decoder shrink by a power of two, keeping the short side >= `draft_px`.

    Returns the exact part of the smaller picture that holds the image, or None.
    """
    if image.format not in {"JPEG", "MPO"}:
        return None
    width, height = image.size
    shrink = min(width, height) / draft_px
    if shrink < 2:
        return None
    made = image.draft(None, (int(width / shrink), int(height / shrink)))
    return made[1] if made else None
