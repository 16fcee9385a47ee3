"""Pictures of any mode are answered as the plain RGB file of the same picture is."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image, ImageDraw

from tests.conftest import draw_circle
from tests.fakes.bad_files import encoded, png
from tests.support.app_process import RunningApp
from tests.support.raw_http import press, upload

Save = Callable[..., Path]
LABELS = "red circle\nblack circle\nred square\nblue star"


def cosines(client: Client, path: Path) -> dict[str, float]:
    image = handle_file(path)
    _, scores = client.predict(image=image, labels=LABELS, api_name="/classify_image")
    return {row["label"]: row["cosine"] for row in scores}


def plain(colour: str = "#e4202c") -> Image.Image:
    """Return a disc off the centre, so that a turned picture is another one."""
    image = Image.new("RGB", (224, 160), "white")
    ImageDraw.Draw(image).ellipse((20, 20, 110, 110), fill=colour)
    return image


def cut_out(image: Image.Image, mode: str) -> Image.Image:
    """Return the picture with its white made transparent, black underneath."""
    opaque = np.asarray(image.convert("L")) < 250
    grey_or_rgb = np.asarray(image.convert("L" if mode == "LA" else "RGB"))
    pixels = np.where(opaque if mode == "LA" else opaque[..., None], grey_or_rgb, 0)
    alpha = (opaque * 255).astype(np.uint8)
    result = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
    result.putalpha(Image.fromarray(alpha))
    return result


def transparent_palette(image: Image.Image) -> bytes:
    palette = image.quantize(4)
    white = palette.getpixel((image.width - 1, image.height - 1))
    return encoded(palette, "PNG", transparency=white)


def sixteen_bits_a_channel(image: Image.Image) -> bytes:
    values = np.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(image.width, image.height, 16, 2, rows)


def turned(image: Image.Image, orientation: int, kind: str) -> bytes:
    """Return a file that is stored turned and says so in its EXIF data."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image.transpose(back[orientation]), kind, exif=exif.tobytes())


def animated(image: Image.Image) -> bytes:
    other = Image.new("RGB", image.size, "black")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", save_all=True, append_images=[other], duration=100)
    return buffer.getvalue()


#: Name -> (the file, the picture that it shows).
RED, BLACK = plain(), plain("black")
SAME: dict[str, tuple[Callable[[], bytes], Image.Image]] = {
    "palette.png": (lambda: encoded(RED.quantize(4), "PNG"), RED),
    "palette.gif": (lambda: encoded(RED.quantize(4), "GIF"), RED),
    "cmyk.tiff": (lambda: encoded(RED.convert("CMYK"), "TIFF"), RED),
    "rgba.png": (lambda: encoded(cut_out(RED, "RGBA"), "PNG"), RED),
    "rgba.webp": (lambda: encoded(cut_out(RED, "RGBA"), "WEBP", lossless=True), RED),
    "transparent-palette.png": (lambda: transparent_palette(RED), RED),
    "16-bit-colour.png": (lambda: sixteen_bits_a_channel(RED), RED),
    "animated.png": (lambda: animated(RED), RED),
    "lossless.webp": (lambda: encoded(RED, "WEBP", lossless=True), RED),
    "bitmap.bmp": (lambda: encoded(RED, "BMP"), RED),
    "turned-6.png": (lambda: turned(RED, 6, "PNG"), RED),
    "turned-3.tiff": (lambda: turned(RED, 3, "TIFF"), RED),
    "mirrored.png": (lambda: turned(RED, 2, "PNG"), RED),
    "grey-alpha.png": (lambda: encoded(cut_out(BLACK, "LA"), "PNG"), BLACK),
    "grey.png": (lambda: encoded(BLACK.convert("L"), "PNG"), BLACK),
    "one-bit.png": (lambda: encoded(BLACK.convert("1"), "PNG"), BLACK),
    "16-bit-grey.png": (
        lambda: encoded(
            Image.fromarray(np.asarray(BLACK.convert("L")).astype(np.uint16) * 257), "PNG"
        ),
        BLACK,
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_picture_in_another_mode(client: Client, save: Save, name: str) -> None:
    make, shown = SAME[name]
    expected = cosines(client, save("plain.png", shown))
    assert cosines(client, save(name, make())) == pytest.approx(expected, abs=2e-3)
    best = "red circle" if shown is RED else "black circle"
    assert max(expected, key=expected.__getitem__) == best


def test_the_comparison_can_tell_pictures_apart(client: Client, save: Save) -> None:
    upright = cosines(client, save("a.png", RED))
    for other in (
        RED.transpose(Image.Transpose.ROTATE_90),
        BLACK,
        cut_out(RED, "RGBA").convert("RGB"),
    ):
        difference = cosines(client, save("b.png", other))
        assert max(abs(difference[label] - upright[label]) for label in upright) > 0.01


@pytest.mark.parametrize("name", ["photo-cmyk.jpg", "photo-turned.jpg"])
def test_photos_with_losses(client: Client, save: Save, name: str) -> None:
    content = {
        "photo-cmyk.jpg": lambda: encoded(RED.convert("CMYK"), "JPEG", quality=95),
        "photo-turned.jpg": lambda: turned(RED, 8, "JPEG"),
    }[name]()
    found = cosines(client, save(name, content))
    assert max(found, key=found.__getitem__) == "red circle"


def test_the_page_answers_as_the_endpoint_does(running_app: RunningApp, save: Save) -> None:
    """The picture component once turned what is transparent black before we saw the file."""
    shown = {}
    for name, image in (("plain.png", draw_circle()), ("rgba.png", cut_out(draw_circle(), "RGBA"))):
        file = {
            "path": upload(running_app.url, save(name, image)),
            "meta": {"_type": "gradio.FileData"},
        }
        data = [file, None, LABELS, "demo-clip", "", None, "picture"]
        output = press(running_app.url, "classify", data)
        shown[name] = output["data"][2]
    assert "<table" in shown["plain.png"]
    assert shown["rgba.png"] == shown["plain.png"]
