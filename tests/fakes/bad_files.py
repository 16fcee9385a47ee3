"""Files that are not the pictures that their names promise."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from gradio.media import get_video
from PIL import Image

from tests.conftest import draw_circle


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return the bytes of a picture file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    """Return a PNG file of raw rows, each with its filter byte, as PIL could not write it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    packed = zlib.compress(rows, 1)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def bomb(side: int = 25_000) -> bytes:
    """Return a PNG of a few hundred kilobytes that unpacks to `side` x `side` pixels."""
    return png(side, side, 1, 0, bytes((side + 7) // 8 + 1) * side)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("readme.txt", "no picture " * 100)
    return buffer.getvalue()


#: File name -> what is in it, made when asked for.
NOT_IMAGES: dict[str, Callable[[], bytes]] = {
    "text.png": lambda: b"hello, this is text\n" * 50,
    "film.png": lambda: Path(get_video("a.mp4")).read_bytes(),
    "archive.png": archive,
    "page.jpg": lambda: b"<!doctype html><script>alert(1)</script>",
    "drawing.svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "program.eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "noise.webp": lambda: bytes(range(256)) * 8,
}

DAMAGED: dict[str, Callable[[], bytes]] = {
    "half.png": lambda: encoded(draw_circle(), "PNG")[:400],
    "half.jpg": lambda: encoded(draw_circle(), "JPEG")[:1500],
    "half.webp": lambda: encoded(draw_circle(), "WEBP")[:300],
    "half.gif": lambda: encoded(draw_circle(), "GIF")[:200],
    "head.png": lambda: encoded(draw_circle(), "PNG")[:20],
}
