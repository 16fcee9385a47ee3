"""Reading of image files of any common kind: upright, RGB, of limited size, first frame."""

import io
import struct
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from pipelines.core.errors import MediaError, MemoryLimitError, shown_name
from pipelines.core.messages import Message
from pipelines.media import isolation
from pipelines.media.isolation import BUDGET, SMALL_BYTES

#: Modes of PIL without colours.
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})

#: Pixels of one step of a conversion.
_STRIP_PIXELS = 1_000_000


@dataclass(frozen=True)
class NamedImage:
    """An image file with its display name."""

    path: Path
    name: str


def to_rgb(image: Image.Image, shrink: int = 1) -> Image.Image:
    """Return `image` in RGB, 8 bits per channel, with transparency on white.

    16-bit, 32-bit and float grey values are scaled to 0..255 from the range of their mode or
    values: 255, 65535, 1.0 for floats within 0..1, else the maximum. With `shrink`, blocks of
    `shrink` x `shrink` pixels are averaged.
    """
    convert = _converter(image)
    size = (-(-image.width // shrink), -(-image.height // shrink))
    result = Image.new("RGB", size)
    for top, strip in _strips(image, shrink):
        part = convert(strip)
        result.paste(part.reduce(shrink) if shrink > 1 else part, (0, top // shrink))
    return result


def _strips(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield strips of rows, each with its first row, a multiple of `multiple`."""
    rows = max(_STRIP_PIXELS // (image.width * multiple), 1) * multiple
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    plain = _plain_converter(image)
    profile = image.info.get("icc_profile")
    if not profile or not isinstance(profile, bytes):
        return plain
    from pipelines.media.colours import to_srgb

    mode, change = to_srgb(profile) or ("", plain)
    if (mode == "CMYK") != (image.mode == "CMYK") or not mode:
        return plain
    if mode == "CMYK":
        return change
    is_grey = image.mode in _GREY_MODES
    return (lambda strip: change(plain(strip).convert(mode))) if is_grey == (mode == "L") else plain


def _plain_converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    if image.mode in {"I", "I;16", "I;16L", "I;16B", "I;16N", "F"}:
        read = _sample_reader(image)
        return partial(_wide_grey_to_rgb, read=read, full=_full_scale(image, read))
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        return _on_white
    return lambda strip: strip if strip.mode == "RGB" else strip.convert("RGB")


def _on_white(strip: Image.Image) -> Image.Image:
    strip = strip.convert("RGBA")
    page = Image.new("RGB", strip.size, "white")
    page.paste(strip, mask=strip)
    return page


def _sample_reader(image: Image.Image) -> Callable[[Image.Image], Any]:
    """Return what turns a strip into its samples; PIL gives some samples of TIFF as others."""
    import numpy as np

    tags = getattr(image, "tag_v2", {})
    bits, kind = (tags.get(tag, (0,))[0] for tag in (258, 339))
    if image.mode == "I" and bits == 32 and kind in {0, 1}:
        return lambda strip: np.asarray(strip).view(np.uint32)
    if image.mode == "I" and bits == 16 and image.getextrema()[0] < 0:  # type: ignore[operator]
        return lambda strip: np.asarray(strip) + 32768
    if image.mode.startswith("I;16") and tags.get(262) == 0:  # 0 is white
        return lambda strip: 65535 - np.asarray(strip)
    return np.asarray


def _full_scale(image: Image.Image, read: Callable[[Image.Image], Any]) -> float:
    import numpy as np

    parts = (read(strip) for _, strip in _strips(image))
    if image.mode == "F":
        top = max(float(part.max(where=np.isfinite(part), initial=0.0)) for part in parts)
        return next((limit for limit in (1.0, 255.0, 65535.0) if top <= limit), top)
    top = max(int(part.max(initial=0)) for part in parts)
    return 255 if image.mode == "I" and top <= 255 else max(top, 65535)


def _wide_grey_to_rgb(
    strip: Image.Image, read: Callable[[Image.Image], Any], full: float
) -> Image.Image:
    import numpy as np

    values = np.nan_to_num(read(strip).astype(np.float32), posinf=full)
    grey = np.rint(np.clip(values * (255.0 / full), 0, 255)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


#: Allowed formats; others are unsafe (PostScript runs a program). JPEG includes MPO.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "ICO", "JPEG2000")

#: Key in `Image.info` of an image decoded at a fraction of its size: exact box (left, top, right,
#: bottom) of the content in pixels. 2745 px at 1/4 are 686.25 px, decoded as 687.
TRUE_BOX = "true_box"

Box = tuple[float, float, float, float]

#: Errors of PIL on damaged EXIF data.
_BAD_EXIF = (ValueError, TypeError, KeyError, SyntaxError, struct.error, OSError)

#: EXIF orientation -> transposition that makes the image upright.
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: Default limit of the image size.
MAX_PIXELS = 120_000_000

#: Images above this size are shrunk during the conversion if a draft is requested.
LARGE_PIXELS = 4_000_000

#: Maximum number of bytes of a pixel in PIL.
_STORED_BYTES = 4

#: Format -> measured peak of the decoder in bytes per pixel; a plain JPEG, PNG, BMP or GIF takes
#: no more than the stored bytes.
_DECODER_BYTES = {"WEBP": 16, "AVIF": 10, "JPEG2000": 20, "TIFF": 8}
_PROGRESSIVE_BYTES = 6

#: Number of bytes that identify a file.
_HEAD_BYTES = 300

#: Signatures of other kinds of files: (offset, bytes, name).
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

#: First bytes of image files, also of damaged ones.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")

# `catch_warnings` at each call is not thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")

# A large image is one block of memory, returned to the system when freed. PIL's default blocks of
# 16 MB stay with their thread.
Image.core.set_block_size(512 * 2**20)  # type: ignore[attr-defined]


def open_image(path: Path, *, max_pixels: int = MAX_PIXELS, draft_px: int = 0) -> Image.Image:
    """Open an image file of any mode as an upright "RGB" image; the first frame of an animation.

    Args:
        path: the file.
        max_pixels: maximum size in pixels.
        draft_px: if not 0, the image may be smaller than the file's, with a short side of at least
            `draft_px`: JPEG is decoded at 1/2, 1/4 or 1/8, other large images are shrunk by an
            integer factor.

    Raises:
        MediaError: not an image, damaged, empty, or larger than `max_pixels`.
        MemoryLimitError: other images use the decode budget.
        MemoryError: the machine is out of memory.
    """
    if isolation.is_enabled():
        options = {"max_pixels": max_pixels, "draft_px": draft_px}
        return isolation.open_isolated(shown_name(path.name), open_image, path, **options)
    try:
        file = path.open("rb")
    except OSError as error:
        raise MediaError(
            "The file {name} could not be read. Upload it again.", name=shown_name(path.name)
        ) from error
    with file:
        return _decode(file, path.read_bytes, path.name, max_pixels, draft_px)


def decode_image(
    data: bytes, name: str = "the image", *, max_pixels: int = MAX_PIXELS, draft_px: int = 0
) -> Image.Image:
    """Decode the bytes of an image file as `open_image` does; `name` is used in messages."""
    if isolation.is_enabled():
        options = {"max_pixels": max_pixels, "draft_px": draft_px}
        return isolation.open_isolated(shown_name(name), decode_image, data, name, **options)
    return _decode(io.BytesIO(data), lambda: data, name, max_pixels, draft_px)


def _decode(
    file: BinaryIO, content: Callable[[], bytes], name: str, max_pixels: int, draft_px: int
) -> Image.Image:
    """Decode an opened file, or a repaired copy of its `content`."""
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if not head:
        raise MediaError(
            "{name} is empty (0 bytes). Choose an image such as a PNG or JPEG.",
            name=shown_name(name),
        )
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2  # PIL refuses more than twice this
    try:
        try:
            return _read(file, name, max_pixels, draft_px)
        except (OSError, ValueError, SyntaxError) as error:
            read = partial(_read, name=name, max_pixels=max_pixels, draft_px=draft_px)
            return _read_repaired(content(), error, read)
    except (MediaError, MemoryLimitError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(
            "{name} unpacks to far more pixels than an image should have; the limit is "
            "{limit:.0f} megapixels. Shrink it and try again.",
            name=shown_name(name),
            limit=max_pixels / 1e6,
        ) from error
    except Exception as error:  # PIL's decoders raise errors of any type for damaged files
        looks = _looks(head)
        unknown = isinstance(error, UnidentifiedImageError)
        if unknown and (looks or not head.startswith(_SIGNATURES)):
            raise MediaError(
                "{name} is not an image that can be read{looks}. Expected a PNG, JPEG, WebP, "
                "GIF, BMP, TIFF or AVIF file; convert it and try again.",
                name=shown_name(name),
                looks=Message(looks),
            ) from error
        raise MediaError(
            "{name} is damaged or cut off: it starts like an image but cannot be decoded. "
            "Save or upload it again.",
            name=shown_name(name),
        ) from error


def _read(file: BinaryIO, name: str, max_pixels: int, draft_px: int) -> Image.Image:
    with Image.open(file, formats=FORMATS) as image:
        _check_size(image, name, max_pixels)
        return _within_budget(image, draft_px)


def _read_repaired(
    data: bytes, error: Exception, read: Callable[[BinaryIO], Image.Image]
) -> Image.Image:
    """Read a file that PIL refuses with `error`, if all of its pixels are sound."""
    from pipelines.media import repair

    versions = repair.versions(data)
    if not versions:
        raise error
    image = read(io.BytesIO(versions[0]))
    for version in versions[1:]:
        if read(io.BytesIO(version)).tobytes() != image.tobytes():
            raise error
    return image


def _within_budget(image: Image.Image, draft_px: int) -> Image.Image:
    """Decode an opened file within the decode budget; a large image counts while it exists."""
    pixels = image.width * image.height
    progressive = bool(image.info.get("progressive"))  # decoded at full size, even for a draft
    box = _draft(image, draft_px) if draft_px else None
    shrink = 1 if box else _shrink(image.size, draft_px)
    drawn = image.width * image.height * _STORED_BYTES
    peak = max(drawn, _DECODER_BYTES.get(image.format or "", 0) * pixels)
    peak += drawn // shrink**2 + progressive * _PROGRESSIVE_BYTES * pixels
    reservation = BUDGET.reserve(peak)
    try:
        upright = _load(image, shrink, box)
    except BaseException:
        image.close()
        reservation.release()
        raise
    image.close()  # frees the pixels now, not at the next garbage collection
    num_bytes = upright.width * upright.height * _STORED_BYTES
    if num_bytes > SMALL_BYTES:
        reservation.shrink(num_bytes)
        weakref.finalize(upright, reservation.release)
    else:
        reservation.release()
    return upright


def _load(image: Image.Image, shrink: int, box: Box | None) -> Image.Image:
    image.load()
    orientation = _orientation(image)
    if shrink > 1:
        box = (0.0, 0.0, image.width / shrink, image.height / shrink)
    flat = to_rgb(image, shrink)
    transposition = _TRANSPOSITIONS.get(orientation)
    upright = flat if transposition is None else flat.transpose(transposition)
    if box is not None:
        upright.info[TRUE_BOX] = _turned(box, flat.size, orientation)
    return upright


def _looks(data: bytes) -> str:
    """Return the end of a message that names the kind of a file that is no image, or ""."""
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for offset, magic, kind in _KNOWN:
        if data.startswith(magic, offset):
            return Message(": it looks like {kind}", kind=Message(kind))
    if b"<svg" in start:
        return ": it looks like an SVG drawing"
    if start.startswith((b"<!doctype html", b"<html")):
        return ": it looks like a web page"
    return ": it looks like a text" if looks_like_text(data) else ""


def looks_like_text(start: bytes) -> bool:
    """Return whether the first bytes of a file are printable UTF-8 text."""
    text = start.decode("utf-8", "replace").rstrip("\ufffd")  # the last character may be cut
    return bool(text) and "\ufffd" not in text and all(c.isprintable() or c.isspace() for c in text)


def true_box(image: Image.Image) -> Box:
    """Return the exact box of the content of an opened image in pixels, see `TRUE_BOX`."""
    box: Box = image.info.get(TRUE_BOX, (0.0, 0.0, float(image.width), float(image.height)))
    return box


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BAD_EXIF:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Return the position of a box at the top left corner after applying the orientation."""
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
            name=shown_name(name),
            width=width,
            height=height,
            megapixels=width * height / 1e6,
            limit=max_pixels / 1e6,
        )
    if width < 1 or height < 1:
        raise MediaError(
            "{name} has no pixels ({width} x {height}). Choose another image.",
            name=shown_name(name),
            width=width,
            height=height,
        )


def _draft(image: Image.Image, draft_px: int) -> Box | None:
    """Let the JPEG decoder shrink by a power of two; return the exact box of the content."""
    if image.format not in {"JPEG", "MPO"}:
        return None
    width, height = image.size
    shrink = min(width, height) / draft_px
    if shrink < 2:
        return None
    draft = image.draft(None, (int(width / shrink), int(height / shrink)))
    return draft[1] if draft else None


def _shrink(size: tuple[int, int], draft_px: int) -> int:
    """Return the shrink factor of a large image, with a short side >= `draft_px`."""
    if not draft_px or size[0] * size[1] <= LARGE_PIXELS:
        return 1
    return max(min(size) // draft_px, 1)
