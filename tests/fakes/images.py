"""Image files made for tests: halves of two colours in every form, and raw PNG bytes."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

RED, BLUE = (220, 30, 40), (20, 40, 200)


def halves(width: int = 64, height: int = 48) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height))
    return image


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def near(pixel: object, colour: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool(np.abs(np.asarray(pixel, int) - np.asarray(colour, int)).max() <= tolerance)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, bits: int, colour_type: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG with these raw rows (each with its filter byte) and extra chunks after the header."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(extra) + body


def deep_png(colour_type: int, left: tuple[int, ...], right: tuple[int, ...]) -> bytes:
    """A PNG of 64 x 48 with 16 bits a channel."""
    row = b"\0" + struct.pack(f">{len(left)}H", *left) * 32 + struct.pack(
        f">{len(right)}H", *right
    ) * 32  # fmt: skip
    return png(64, 48, 16, colour_type, row * 48)


def _lab() -> Image.Image:
    from PIL import ImageCms

    change = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    made = ImageCms.applyTransform(halves(), change)
    assert made is not None
    return made


def _see_through_palette() -> bytes:
    return saved(halves().quantize(8), "PNG", transparency=bytes([255] * 8))


#: Name -> a file of 64 x 48 pixels, its left half red, its right half blue.
FILES: dict[str, Callable[[], bytes]] = {
    "RGB png": lambda: saved(halves(), "PNG"),
    "RGB jpeg": lambda: saved(halves(), "JPEG", quality=95),
    "progressive jpeg": lambda: saved(halves(), "JPEG", quality=95, progressive=True),
    "RGB webp": lambda: saved(halves(), "WEBP", quality=95),
    "RGB bmp": lambda: saved(halves(), "BMP"),
    "RGB tiff": lambda: saved(halves(), "TIFF"),
    "LZW tiff": lambda: saved(halves(), "TIFF", compression="tiff_lzw"),
    "RGB ppm": lambda: saved(halves(), "PPM"),
    "RGB avif": lambda: saved(halves(), "AVIF", quality=90),
    "jpeg 2000": lambda: saved(halves(), "JPEG2000"),
    "mpo": lambda: saved(
        halves(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48))], quality=95
    ),
    "palette png": lambda: saved(halves().quantize(8), "PNG"),
    "palette and alpha png": _see_through_palette,
    "palette gif": lambda: saved(halves(), "GIF"),
    "palette tiff": lambda: saved(halves().quantize(8), "TIFF"),
    "RGBA png": lambda: saved(halves().convert("RGBA"), "PNG"),
    "RGBA webp": lambda: saved(halves().convert("RGBA"), "WEBP", lossless=True),
    "RGBA tiff": lambda: saved(halves().convert("RGBA"), "TIFF"),
    "16 bit png": lambda: deep_png(2, tuple(v * 257 for v in RED), tuple(v * 257 for v in BLUE)),
    "16 bit alpha png": lambda: deep_png(
        6, (*(v * 257 for v in RED), 65535), (*(v * 257 for v in BLUE), 65535)
    ),
    "YCbCr tiff": lambda: saved(halves(), "TIFF", compression="jpeg"),
    "CMYK jpeg": lambda: saved(halves().convert("CMYK"), "JPEG", quality=95),
    "CMYK tiff": lambda: saved(halves().convert("CMYK"), "TIFF"),
    "LAB tiff": lambda: saved(_lab(), "TIFF"),
}
