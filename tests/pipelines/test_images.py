"""Any picture comes out upright in RGB; anything else is one clear sentence."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gradio.media import get_image
from PIL import ExifTags, Image

from pipelines.clip.preprocessing import PixelRecipe
from pipelines.errors import MediaError
from pipelines.images import MAX_PIXELS, decode_image, open_image, true_box

RED, BLUE = (220, 30, 40), (20, 40, 200)
CLIP_RECIPE = PixelRecipe(
    shortest_edge=224,
    fixed_height=224,
    fixed_width=224,
    height=224,
    width=224,
    crop=True,
    resample=int(Image.Resampling.BICUBIC),
    scale=1.0,
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
)


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


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG that claims a size, with hardly any data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + chunk(b"IDAT", body) + chunk(b"IEND", b"")


MODES: dict[str, Callable[[], bytes]] = {
    "RGB png": lambda: saved(halves(), "PNG"),
    "RGB jpeg": lambda: saved(halves(), "JPEG", quality=95),
    "RGB webp": lambda: saved(halves(), "WEBP", quality=95),
    "RGB bmp": lambda: saved(halves(), "BMP"),
    "RGB tiff": lambda: saved(halves(), "TIFF"),
    "palette png": lambda: saved(halves().quantize(8), "PNG"),
    "palette gif": lambda: saved(halves(), "GIF"),
    "RGBA png": lambda: saved(halves().convert("RGBA"), "PNG"),
    "CMYK jpeg": lambda: saved(halves().convert("CMYK"), "JPEG", quality=95),
    "CMYK tiff": lambda: saved(halves().convert("CMYK"), "TIFF"),
    "LAB tiff": lambda: saved(_lab(), "TIFF"),
}


def _lab() -> Image.Image:
    from PIL import ImageCms

    change = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    made = ImageCms.applyTransform(halves(), change)
    assert made is not None
    return made


@pytest.mark.parametrize("name", MODES)
def test_colours_of_every_mode(name: str) -> None:
    image = decode_image(MODES[name](), name)
    assert (image.mode, image.size) == ("RGB", (64, 48))
    tolerance = 40 if "LAB" in name or "CMYK" in name else 12
    assert near(image.getpixel((8, 24)), RED, tolerance)
    assert near(image.getpixel((56, 24)), BLUE, tolerance)


def _grey(mode: str, low: float, high: float) -> Image.Image:
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32, "L": np.uint8}[mode]
    values = np.full((48, 64), high, dtype=kind)
    values[:, :32] = low
    return Image.fromarray(values)


@pytest.mark.parametrize(
    ("data", "left", "right"),
    [
        (lambda: saved(_grey("L", 0, 255), "PNG"), 0, 255),
        (lambda: saved(halves().convert("1"), "PNG"), None, None),
        (lambda: saved(_grey("I;16", 0, 65535), "PNG"), 0, 255),
        (lambda: saved(_grey("I;16", 13107, 39321), "TIFF"), 51, 153),
        (lambda: saved(_grey("I", 0, 65535), "TIFF"), 0, 255),
        (lambda: saved(_grey("F", 0.0, 1.0), "TIFF"), 0, 255),
        (lambda: saved(_grey("F", 0.0, 200.0), "TIFF"), 0, 200),
        (lambda: saved(_grey("L", 10, 240).convert("LA"), "PNG"), 10, 240),
    ],
)
def test_greys_of_every_depth(data: Callable[[], bytes], left: int | None, right: int) -> None:
    image = decode_image(data())
    assert (image.mode, image.size) == ("RGB", (64, 48))
    if left is not None:
        assert near(image.getpixel((8, 24)), (left,) * 3, 2)
        assert near(image.getpixel((56, 24)), (right,) * 3, 2)


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert decode_image(saved(clear, "PNG")).getpixel((4, 4)) == (255, 255, 255)
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert near(decode_image(saved(half, "PNG")).getpixel((4, 4)), (127, 127, 127), 2)
    palette = halves().quantize(4)
    corner = palette.getpixel((0, 0))
    found = decode_image(saved(palette, "PNG", transparency=corner))
    assert found.getpixel((0, 0)) == (255, 255, 255)
    assert near(found.getpixel((60, 0)), BLUE)


@pytest.mark.parametrize("draft_px", [0, 448])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, draft_px: int) -> None:
    """Upright, the picture's top left corner is red, whatever way it was stored."""
    upright = Image.new("RGB", (2407, 1811), BLUE)
    upright.paste(RED, (0, 0, 1200, 900))
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = saved(stored, "JPEG", exif=exif, quality=95)
    image = decode_image(data, draft_px=draft_px)
    if not draft_px:
        assert image.size == (2407, 1811)
    left, top, right, bottom = true_box(image)
    assert (right - left) / (bottom - top) == pytest.approx(2407 / 1811)
    width, height = image.size
    assert near(image.getpixel((width // 8, height // 8)), RED)
    assert near(image.getpixel((width - 9, height // 8)), BLUE)
    assert near(image.getpixel((width // 8, height - 9)), BLUE)
    full = CLIP_RECIPE.pixels(decode_image(data))
    difference = (CLIP_RECIPE.pixels(image) - full).abs()
    assert difference.max() <= 12, "edges lie where they lay; a shift of 3/4 px moves them by 20"
    assert difference.mean() < 0.2


@pytest.mark.parametrize("name", ["cheetah1.jpg", "lion.jpg", "bus.png", "tower.jpg", "groot.jpeg"])
def test_a_draft_is_within_two_grey_levels_on_photos(name: str) -> None:
    """12 megapixels: 99.9 % of the values that the model sees move by two levels at most."""
    with Image.open(get_image(name)) as photo:
        scale = (12e6 / (photo.width * photo.height)) ** 0.5
        size = (int(photo.width * scale), int(photo.height * scale))
        data = saved(
            photo.convert("RGB").resize(size, Image.Resampling.LANCZOS), "JPEG", quality=90
        )
    full = CLIP_RECIPE.pixels(decode_image(data))
    small = decode_image(data, draft_px=CLIP_RECIPE.draft_px)
    assert small.width < size[0]
    difference = (CLIP_RECIPE.pixels(small) - full).abs()
    assert difference.flatten().sort().values[int(difference.numel() * 0.999)] <= 2
    assert difference.mean() < 0.5


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_its_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE, (0, 200, 0))]
    data = saved(
        frames[0], form, save_all=True, append_images=frames[1:], duration=50, lossless=True
    )
    assert near(decode_image(data).getpixel((8, 8)), RED)


NOT_IMAGES = {
    "text.png": b"just some words",
    "page.jpg": b"<html><body>hi</body></html>",
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "archive.png": b"PK\x03\x04" + b"\0" * 64,
    "film.png": b"\0\0\0\x20ftypisom" + b"\0" * 64,
    "paper.pdf": b"%PDF-1.7\n" + b"\0" * 64,
    "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "phone.heic": b"\0\0\0\x18ftypheic" + b"\0" * 64,
    "noise.png": bytes(range(256)) * 4,
}


@pytest.mark.parametrize("name", NOT_IMAGES)
def test_what_is_no_image_is_said_so(name: str) -> None:
    with pytest.raises(MediaError) as caught:
        decode_image(NOT_IMAGES[name], name)
    message = caught.value.message
    assert name in message
    assert "PNG" in message or "again" in message


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_a_file_that_is_cut_off_is_said_so(form: str) -> None:
    data = saved(halves(300, 200), form)
    with pytest.raises(MediaError, match="damaged or cut off|not an image"):
        decode_image(data[: len(data) // 2])


def test_an_empty_file() -> None:
    with pytest.raises(MediaError, match="0 bytes"):
        decode_image(b"", "nothing.png")


@pytest.mark.parametrize("size", [(50_000, 50_000), (20_000, 7_000), (2_000_000, 2_000_000)])
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    with pytest.raises(MediaError, match="megapixels"):
        decode_image(png_header(*size), "bomb.png")


def test_the_limit_is_the_caller_s() -> None:
    with pytest.raises(MediaError, match=r"64 x 48 .* the limit is"):
        decode_image(saved(halves(), "PNG"), max_pixels=1000)
    assert MAX_PIXELS >= 100_000_000


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (1, 1)])
def test_extreme_proportions_are_read(size: tuple[int, int]) -> None:
    image = decode_image(saved(Image.new("RGB", size, RED), "PNG"))
    assert image.size == size
    assert CLIP_RECIPE.pixels(image).shape == (3, 224, 224)


def test_damaged_side_data_does_not_cost_the_picture() -> None:
    good = saved(halves(), "JPEG", quality=95)
    broken = b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\x99" * 40
    segment = b"\xff\xe1" + struct.pack(">H", len(broken) + 2) + broken
    image = decode_image(good[:2] + segment + good[2:])
    assert near(image.getpixel((8, 24)), RED)
    assert decode_image(saved(halves(), "PNG", icc_profile=b"no profile")).size == (64, 48)


def test_mutations_end_in_a_picture_or_a_media_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    made = [MODES[name]() for name in MODES]
    outcomes = {"picture": 0, "error": 0}
    for index in range(200):
        data = bytearray(made[index % len(made)])
        for _ in range(int(rng.integers(1, 12))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        path = tmp_path / f"{index}.img"
        keep = int(rng.integers(len(data) // 2, len(data))) if index % 3 == 0 else len(data)
        path.write_bytes(bytes(data[:keep]))
        try:
            assert open_image(path, max_pixels=1_000_000).mode == "RGB"
            outcomes["picture"] += 1
        except MediaError as error:
            assert str(tmp_path) not in error.message
            outcomes["error"] += 1
    assert min(outcomes.values()) > 10


def test_a_file_that_is_gone_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="Upload it again") as caught:
        open_image(tmp_path / "gone.png")
    assert str(tmp_path) not in caught.value.message
