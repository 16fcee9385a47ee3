"""What is no readable image ends in one clear sentence: expected, came, what to do."""

import io
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.core.errors import MediaError
from pipelines.media import images
from pipelines.media.images import MAX_PIXELS, decode_image, open_image
from tests.fakes.images import FILES, RED, chunk, halves, near, png, saved

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

ROOT = Path(__file__).parents[2]


def _archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("cat.png", FILES["RGB png"]())
    return buffer.getvalue()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"

#: Name -> bytes and what the message says that they look like.
NOT_IMAGES = {
    "text.png": (b"just some words,\nin two lines", "a text"),
    "chinese.jpg": ("一张图片。" * 50).encode(), "notes.csv": b"a,b\n1,2\n",
    "page.jpg": (b"<!DOCTYPE html>\n<html><body>hi</body></html>", "a web page"),
    "drawing.svg": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
    "archive.png": (_archive(), "a zip archive"),
    "film.png": (b"\0\0\0\x20ftypisom" + b"\0" * 64, "a video"),
    "film.avi": (b"RIFF\0\0\0\x20AVI LIST" + b"\0" * 64, "a video"),
    "bytes.png": (b"\x80\x90" * 50, ""),
    "film.webm": (b"\x1aE\xdf\xa3" + b"\0" * 64, "a video"),
    "paper.pdf": (b"%PDF-1.7\n" + b"\0" * 64, "a PDF"),
    "script.eps": (POSTSCRIPT, "a PostScript file"),
    "phone.heic": (b"\0\0\0\x18ftypheic" + b"\0" * 64, "a HEIC photo"),
    "phone.jpg": (b"\0\0\0\x18ftypmif1" + b"\0" * 64, "a HEIF photo"),
    "noise.png": (bytes(range(256)) * 4, ""),
    "zeros.png": (b"\0" * 5000, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_IMAGES)
def test_what_is_no_image_is_said_so(name: str) -> None:
    entry = NOT_IMAGES[name]
    data, looks = entry if isinstance(entry, tuple) else (entry, "a text")
    with pytest.raises(MediaError) as caught:
        decode_image(data, name)
    message = caught.value.message
    assert message.startswith(f"{name!r} is not an image that can be read")
    assert looks in message
    assert ("it looks like" in message) == bool(looks)
    assert "Expected a PNG, JPEG" in message
    assert "convert it and try again" in message


def test_a_real_video_is_named() -> None:
    from gradio.media import get_video

    with pytest.raises(MediaError, match="looks like a video"):
        decode_image(Path(get_video("world.mp4")).read_bytes()[:4096])


def test_postscript_is_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", run)
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", run)
    binary = b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(POSTSCRIPT)) + b"\0" * 18
    for data in (POSTSCRIPT, saved(halves(), "EPS"), binary + POSTSCRIPT):
        with pytest.raises(MediaError, match="a PostScript file"):
            decode_image(data)


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.split()[-1] not in {"2000", "mpo"}]
)
def test_a_file_that_is_cut_off_is_said_so(name: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    form = {"jpeg": "JPEG"}.get(name.split()[-1], name.split()[-1].upper())
    data = saved(Image.fromarray(noise), form)
    for part in (0.5, 0.9):
        with pytest.raises(MediaError, match="damaged or cut off|not an image"):
            decode_image(data[: int(len(data) * part)])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("length", [12, 20, 40])
def test_hardly_more_than_a_signature(form: str, length: int) -> None:
    with pytest.raises(MediaError, match="damaged or cut off"):
        decode_image(saved(halves(), form)[:length])


def test_an_empty_file() -> None:
    with pytest.raises(MediaError, match=r"'nothing.png' is empty \(0 bytes\)\. Choose an image"):
        decode_image(b"", "nothing.png")


def test_a_file_that_is_gone_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="Upload it again") as caught:
        open_image(tmp_path / "gone.png")
    assert str(tmp_path) not in caught.value.message


def test_a_long_name_is_shortened() -> None:
    with pytest.raises(MediaError) as caught:
        decode_image(b"x", "n" * 4000 + ".png")
    assert len(caught.value.message) < 300


def claims(width: int, height: int, bits: int = 8, colour_type: int = 2) -> bytes:
    """A PNG that claims a size, with hardly any data."""
    return png(width, height, bits, colour_type, b"\0" * 1000)


@pytest.mark.parametrize("size", [(50_000, 50_000), (20_000, 7_000), (2_000_000, 2_000_000)])
@pytest.mark.parametrize(("bits", "colour_type"), [(8, 2), (1, 0), (16, 6)])
def test_a_bomb_is_refused_by_its_header(
    size: tuple[int, int], bits: int, colour_type: int
) -> None:
    with pytest.raises(MediaError, match="megapixels.*Shrink it") as caught:
        decode_image(claims(*size, bits, colour_type), "bomb.png")
    assert "the limit is 120" in caught.value.message
    width, height = size
    start = f"'bomb.png' has {width} x {height}", "'bomb.png' unpacks to far more pixels"
    assert caught.value.message.startswith(start), "the name stood in quotes of quotes"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_bombs_take_no_memory() -> None:
    """In a process of its own that may have little: PIL's memory is not Python's to count."""
    code = """
import resource
from pathlib import Path
from pipelines.core.errors import MediaError
from pipelines.media.images import decode_image
from tests.media.test_images_bad import bombs
from tests.fakes.images import halves, saved
made = bombs()
decode_image(saved(halves(), "PNG"))
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 50_000_000,) * 2)
for name, data in made.items():
    try:
        small = decode_image(data, name).size == (4, 4)
    except MediaError:
        continue
    if not small or name not in {"text.png", "profile.png"}:
        raise SystemExit(name + " was decoded")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def bombs() -> dict[str, bytes]:
    rows = zlib.compress(b"\0" * 90_000_000, 9)  # 26,800 x 26,800 in one bit each
    head = struct.pack(">IIBBBBB", 26_800, 26_800, 1, 0, 0, 0, 0)
    bits = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    claim = claims(50_000, 50_000)
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(claim), 22) + claim
    gif = bytearray(FILES["palette gif"]())
    gif[6:10] = b"\xff\xff\xff\xff"
    bitmap = bytearray(FILES["RGB bmp"]())
    bitmap[18:26] = struct.pack("<II", 60_000, 60_000)
    return {
        "bits.png": bits,
        "claim.png": claim,
        "icon.ico": icon,
        "screen.gif": bytes(gif),
        "bitmap.bmp": bytes(bitmap),
        "grey.pgm": b"P5\n60000 60000\n255\n" + b"\0" * 100,
        "text.png": png(4, 4, 8, 0, b"\0" * 20, _text(200_000_000)),
        "profile.png": png(4, 4, 8, 0, b"\0" * 20, _profile(200_000_000)),
    }


def _text(size: int) -> bytes:
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * size, 9))


def _profile(size: int) -> bytes:
    return chunk(b"iCCP", b"p\0\0" + zlib.compress(b"\0" * size, 9))


def test_a_long_text_beside_the_picture_is_no_harm() -> None:
    """Tools write their whole workflow into a PNG."""
    data = png(4, 4, 8, 0, b"\0" * 20, chunk(b"tEXt", b"workflow\0" + b"x" * 3_000_000))
    assert decode_image(data).size == (4, 4)
    assert decode_image(png(4, 4, 8, 0, b"\0" * 20, _text(900_000))).size == (4, 4)


def test_the_limit_is_the_caller_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """PIL has a limit of its own, that refused what `--max-pixels-mp` allowed."""
    data = saved(halves(), "PNG")
    with pytest.raises(MediaError, match=r"64 x 48 .* the limit is"):
        decode_image(data, max_pixels=1000)
    assert MAX_PIXELS >= 100_000_000
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert decode_image(data, max_pixels=4000).size == (64, 48)


def test_no_memory_is_not_called_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*args: Any, **kwargs: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(images, "to_rgb", decode)
    with pytest.raises(MemoryError):
        decode_image(saved(halves(), "PNG"))


def _with_segment(marker: int, body: bytes) -> bytes:
    good = saved(halves(), "JPEG", quality=95)
    return good[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + good[2:]


def _exif(*entries: bytes) -> bytes:
    """An EXIF segment with these 12-byte directory entries."""
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries)


DAMAGED_SIDE_DATA = {
    "exif that points nowhere": _with_segment(
        0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\x99" * 40
    ),
    "exif cut off": _with_segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"),
    "exif of no bytes": _with_segment(0xE1, b"Exif\0\0"),
    "exif orientation as text": _with_segment(
        0xE1, _exif(struct.pack("<HHI", 0x112, 2, 4) + b"six\0")
    ),
    "exif orientation as a fraction": _with_segment(
        0xE1, _exif(struct.pack("<HHII", 0x112, 5, 1, 26)) + struct.pack("<III", 0, 6, 0)
    ),
    "exif of another type": _with_segment(0xE1, _exif(struct.pack("<HHII", 0x112, 99, 1, 6))),
    "xmp that is no xml": _with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta <<<&"),
    "icc profile of noise": _with_segment(0xE2, b"ICC_PROFILE\0\x01\x01" + b"\x77" * 300),
    "icc part 9 of 3": _with_segment(0xE2, b"ICC_PROFILE\0\x09\x03" + b"\x77" * 30),
    "mpo index of noise": _with_segment(0xE2, b"MPF\0" + b"\x77" * 40),
    "resources of noise": _with_segment(0xED, b"Photoshop 3.0\x008BIM" + b"\xff" * 20),
}


@pytest.mark.parametrize("name", DAMAGED_SIDE_DATA)
@pytest.mark.parametrize("draft_px", [0, 16])
def test_damaged_side_data_does_not_cost_the_picture(name: str, draft_px: int) -> None:
    image = decode_image(DAMAGED_SIDE_DATA[name], draft_px=draft_px)
    assert near(image.getpixel((image.width // 8, image.height // 2)), RED)


def test_a_damaged_profile_does_not_cost_a_png() -> None:
    image = decode_image(saved(halves(), "PNG", icc_profile=b"no profile"))
    assert near(image.getpixel((8, 24)), RED)


def test_mutations_end_in_a_picture_or_a_media_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    made = [FILES[name]() for name in FILES]
    outcomes = {"picture": 0, "error": 0}
    for index in range(400):
        data = bytearray(made[index % len(made)])
        for _ in range(int(rng.integers(1, 12))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        path = tmp_path / f"{index}.img"
        keep = int(rng.integers(len(data) // 2, len(data))) if index % 3 == 0 else len(data)
        path.write_bytes(bytes(data[:keep]))
        try:
            opened = open_image(path, max_pixels=1_000_000, draft_px=16 * (index % 2))
        except MediaError as error:
            assert str(tmp_path) not in error.message
            outcomes["error"] += 1
        else:
            assert opened.mode == "RGB"
            outcomes["picture"] += 1
    assert min(outcomes.values()) > 50
