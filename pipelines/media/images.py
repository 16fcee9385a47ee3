"""Open any picture a person may have: upright, RGB, bounded, first frame."""

import io
import struct
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from pipelines.core.errors import MediaError, MemoryLimitError
from pipelines.core.messages import Message
from pipelines.media import isolation
from pipelines.media.isolation import BUDGET, SMALL_BYTES

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

#: EXIF orientation -> how the stored picture is turned upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: Most pixels of an image, unless the caller says otherwise.
MAX_PIXELS = 120_000_000

#: From this size on a picture of which a small one is wanted is shrunk while it is converted.
LARGE_PIXELS = 4_000_000

#: Bytes that PIL keeps for a pixel of any mode, at most.
_STORED_BYTES = 4

#: Format -> bytes a pixel that its decoder takes at its peak, as measured; a plain JPEG, PNG, BMP
#: or GIF takes no more than what is stored.
_DECODER_BYTES = {"WEBP": 16, "AVIF": 10, "JPEG2000": 20, "TIFF": 8}
_PROGRESSIVE_BYTES = 6

#: Most characters of a file's name that a message repeats.
_MAX_NAME = 60

#: Bytes that tell what a file looks like.
_HEAD_BYTES = 300

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
    (0, b"Rar!", "an archive, of which only zip is opened"),
    (0, b"7z\xbc\xaf", "an archive, of which only zip is opened"),
    (0, b"\x1f\x8b", "an archive, of which only zip is opened"),
    (257, b"ustar", "an archive, of which only zip is opened"),
)

#: How files begin that were images once, whatever came after.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")

# A warning is no use to a visitor, and `catch_warnings` at each call is not safe among threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

# A large picture is one piece of memory, which goes back to the system when it is freed; blocks of
# 16 MB, PIL's own choice, stay with the thread that made them: 32 threads, 32 times the memory.
Image.core.set_block_size(512 * 2**20)  # type: ignore[attr-defined]


def open_image(path: Path, *, max_pixels: int = MAX_PIXELS, draft_px: int = 0) -> Image.Image:
    """Open an image file, upright, in RGB.

    Any mode is taken: palette, CMYK, 16-bit, alpha (laid on white), EXIF rotation (applied), an
    animation (its first frame).

    Args:
        path: the file.
        max_pixels: most pixels that are decoded.
        draft_px: if not 0, a picture may come at a fraction of its size as long as its short
            side keeps at least this many pixels: a JPEG decoded at 1/2, 1/4 or 1/8, which is
            several times cheaper, a large one of another kind shrunk by a whole number.

    Returns:
        An image of mode "RGB", 8 bits a channel.

    Raises:
        MediaError: not an image, damaged, empty, or larger than `max_pixels`.
        MemoryLimitError: other pictures took the memory for too long.
        MemoryError: there is no memory for it.
    """
    if isolation.is_enabled():
        options = {"max_pixels": max_pixels, "draft_px": draft_px}
        return isolation.open_isolated(_shown(path.name), open_image, path, **options)
    try:
        file = path.open("rb")
    except OSError as error:
        shown = _shown(path.name)
        raise MediaError(
            "The file {name} could not be read. Upload it again.", name=shown
        ) from error
    with file:
        return _decode(file, path.name, max_pixels, draft_px)


def decode_image(
    data: bytes, name: str = "the image", *, max_pixels: int = MAX_PIXELS, draft_px: int = 0
) -> Image.Image:
    """Decode the bytes of an image file as `open_image` does; `name` is used in messages."""
    if isolation.is_enabled():
        options = {"max_pixels": max_pixels, "draft_px": draft_px}
        return isolation.open_isolated(_shown(name), decode_image, data, name, **options)
    return _decode(io.BytesIO(data), name, max_pixels, draft_px)


def _decode(file: BinaryIO, name: str, max_pixels: int, draft_px: int) -> Image.Image:
    shown = _shown(name)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if not head:
        raise MediaError(
            "{name} is empty (0 bytes). Choose an image such as a PNG or JPEG.", name=shown
        )
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2  # PIL itself refuses more than twice this
    try:
        with Image.open(file, formats=FORMATS) as image:
            _check_size(image, shown, max_pixels)
            return _within_budget(image, draft_px)
    except (MediaError, MemoryLimitError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(
            "{name} unpacks to far more pixels than an image should have; the limit is "
            "{limit:.0f} megapixels. Shrink it and try again.",
            name=shown,
            limit=max_pixels / 1e6,
        ) from error
    except Exception as error:  # PIL's decoders raise whatever they meet in damaged files
        looks = _looks(head)
        unknown = isinstance(error, UnidentifiedImageError)
        if unknown and (looks or not head.startswith(_SIGNATURES)):
            raise MediaError(
                "{name} is not an image that can be read{looks}. Expected a PNG, JPEG, WebP, "
                "GIF, BMP, TIFF or AVIF file; convert it and try again.",
                name=shown,
                looks=Message(looks),
            ) from error
        raise MediaError(
            "{name} is damaged or cut off: it starts like an image but cannot be decoded. "
            "Save or upload it again.",
            name=shown,
        ) from error


def _within_budget(image: Image.Image, draft_px: int) -> Image.Image:
    """Decode an opened file, within the budget that all share.

    A picture that comes out large counts until nobody holds it any more.
    """
    pixels = image.width * image.height
    progressive = bool(image.info.get("progressive"))  # all of it, also where a draft is taken
    box = _draft(image, draft_px) if draft_px else None
    shrink = 1 if box else _shrink(image.size, draft_px)
    drawn = image.width * image.height * _STORED_BYTES
    peak = max(drawn, _DECODER_BYTES.get(image.format or "", 0) * pixels)
    peak += drawn // shrink**2 + progressive * _PROGRESSIVE_BYTES * pixels
    hold = BUDGET.take(peak)
    try:
        upright = _load(image, shrink, box)
    except BaseException:
        image.close()
        hold.release()
        raise
    image.close()  # frees its pixels at once, which would else wait for the garbage collector
    left = upright.width * upright.height * _STORED_BYTES
    if left > SMALL_BYTES:
        hold.keep(left)
        weakref.finalize(upright, hold.release)
    else:
        hold.release()
    return upright


def _load(image: Image.Image, shrink: int, box: Box | None) -> Image.Image:
    """Decode; upright in RGB, shrunk by `shrink`, with the box of a draft if it is one."""
    image.load()
    orientation = _orientation(image)
    if shrink > 1:
        box = (0.0, 0.0, image.width / shrink, image.height / shrink)
    flat = to_rgb(image, shrink)
    turn = _TURNS.get(orientation)
    upright = flat if turn is None else flat.transpose(turn)
    if box is not None:
        upright.info[TRUE_BOX] = _turned(box, flat.size, orientation)
    return upright


def _shown(name: str) -> str:
    """Return a file's name as messages repeat it: quoted, printable, not too long."""
    return repr(name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…")


def _looks(data: bytes) -> str:
    """Return what a file that is no image looks like, as the end of a sentence, or ""."""
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    text = data.decode("utf-8", "replace").rstrip("\ufffd")  # perhaps half a character
    for offset, magic, kind in _KNOWN:
        if data.startswith(magic, offset):
            return Message(": it looks like {kind}", kind=Message(kind))
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


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise MediaError(
            "{name} has {width} x {height} = {megapixels:.0f} megapixels; the limit is "
            "{limit:.0f}. Shrink it and try again.",
            name=name,
            width=width,
            height=height,
            megapixels=width * height / 1e6,
            limit=max_pixels / 1e6,
        )
    if width < 1 or height < 1:
        raise MediaError(
            "{name} has no pixels ({width} x {height}). Choose another image.",
            name=name,
            width=width,
            height=height,
        )


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


def _shrink(size: tuple[int, int], draft_px: int) -> int:
    """Return by how much a large picture may be shrunk, keeping its short side >= `draft_px`."""
    if not draft_px or size[0] * size[1] <= LARGE_PIXELS:
        return 1
    return max(min(size) // draft_px, 1)
