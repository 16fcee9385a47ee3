"""Colours are converted from the profile of a file to sRGB."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipelines.media.images import decode_image
from tests.fakes.images import saved

#: Adobe RGB (1998) to XYZ relative to D50, by columns, and its gamma: from its specification.
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
GAMMA = 2.19921875

#: XYZ relative to D50 to linear sRGB (Lindbloom).
TO_SRGB = (
    (3.1338561, -1.6168667, -0.4906146),
    (-0.9787684, 1.9161415, 0.0334540),
    (0.0719453, -0.2289914, 1.4052427),
)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
COLOURS = np.random.default_rng(2).integers(60, 200, (24, 32, 3), dtype=np.uint8)


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))


def _tag(kind: bytes, body: bytes) -> bytes:
    data = kind + bytes(4) + body
    return data + bytes(-len(data) % 4)


def adobe_profile() -> bytes:
    """A matrix profile with the primaries and the gamma of Adobe RGB."""
    curve = _tag(b"curv", struct.pack(">IH", 1, round(GAMMA * 256)))
    white = _tag(b"XYZ ", _fixed(0.9642, 1.0, 0.8249))
    colours = [_tag(b"XYZ ", _fixed(*column)) for column in ADOBE]
    title = _tag(b"desc", struct.pack(">I", 2) + b"a\0" + bytes(79))
    tags = [(b"desc", title), (b"wtpt", white), (b"cprt", _tag(b"text", b"none\0"))]
    tags += list(zip((b"rXYZ", b"gXYZ", b"bXYZ"), colours, strict=True))
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    at = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags:
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x2100000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + _fixed(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + table + body


def computed(colours: np.ndarray) -> np.ndarray:
    """The colours in sRGB, from the published definitions."""
    linear = (colours / 255.0) ** GAMMA @ np.array(ADOBE) @ np.array(TO_SRGB).T
    linear = np.clip(linear, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(curved * 255)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_a_wide_gamut_photo_is_converted(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    data = saved(Image.fromarray(COLOURS), form, icc_profile=adobe_profile(), **options)
    found = np.asarray(decode_image(data)).astype(float)
    assert np.abs(found - computed(COLOURS)).max() <= 2
    assert np.abs(found - COLOURS).max() > 15


def test_transparent_and_palette_images_are_converted() -> None:
    flat = Image.new("RGB", (8, 8), (100, 180, 90))
    expected = computed(np.array([100, 180, 90]))
    for image in (flat.convert("RGBA"), flat.quantize(2)):
        found = decode_image(saved(image, "PNG", icc_profile=adobe_profile())).getpixel((4, 4))
        assert np.abs(np.asarray(found) - expected).max() <= 2


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_srgb_and_no_profile_give_the_same_bits(form: str) -> None:
    image = Image.fromarray(np.random.default_rng(4).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    plain = saved(image, form)
    expected = Image.open(io.BytesIO(plain)).convert("RGB").tobytes()
    assert decode_image(plain).tobytes() == expected
    assert decode_image(saved(image, form, icc_profile=SRGB)).tobytes() == expected


def test_a_profile_of_other_colours_is_ignored() -> None:
    grey = Image.new("L", (8, 8), 90)
    data = saved(grey, "PNG", icc_profile=adobe_profile())
    assert decode_image(data).getpixel((4, 4)) == (90, 90, 90)
