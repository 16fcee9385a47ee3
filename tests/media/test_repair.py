"""Files with side damage or a lost end, whose pixels are all there, are read."""

import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from pipelines.core.errors import MediaError
from pipelines.media.images import decode_image
from tests.fakes.images import chunk, saved

NOISE = np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)
BLOCKS = Image.fromarray(np.repeat(np.repeat(NOISE[::12, ::12], 12, 0), 12, 1)[:48, :64])


def _with_chunk(part: bytes) -> bytes:
    """A PNG of the noise with a chunk after its header."""
    data = saved(Image.fromarray(NOISE), "PNG")
    return data[:33] + part + data[33:]


def _bad_sum(name: bytes, data: bytes) -> bytes:
    return chunk(name, data)[:-4] + b"\0\1\2\3"


LONG = zlib.compress(b"x" * 2_000_000)


@pytest.mark.parametrize(
    "part",
    [
        chunk(b"zTXt", b"workflow\0\0" + LONG),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + LONG),
        chunk(b"iCCP", b"profile\0\0" + LONG),
        _bad_sum(b"tEXt", b"Comment\0a word"),
        _bad_sum(b"pHYs", b"\0" * 9),
        _bad_sum(b"iCCP", b"profile\0\0" + LONG),
    ],
)
def test_side_data_of_a_png_does_not_cost_its_pixels(part: bytes) -> None:
    assert np.array_equal(np.asarray(decode_image(_with_chunk(part))), NOISE)


def test_transparency_and_orientation_are_kept() -> None:
    grey = Image.fromarray(NOISE[..., 0])
    exif = Image.Exif()
    exif[0x112] = 3
    data = saved(grey, "PNG", transparency=int(NOISE[0, 0, 0]), exif=exif)
    broken = data[:33] + _bad_sum(b"tEXt", b"a\0b") + data[33:]
    expected = decode_image(data)
    assert expected.getpixel((63, 47)) == (255, 255, 255)
    assert decode_image(broken).tobytes() == expected.tobytes()


def test_a_png_with_damaged_pixels_stays_refused() -> None:
    data = bytearray(_with_chunk(_bad_sum(b"tEXt", b"a\0b")))
    data[-200] ^= 0xFF
    with pytest.raises(MediaError, match="damaged or cut off"):
        decode_image(bytes(data))


@pytest.mark.parametrize("picture", [Image.fromarray(NOISE), BLOCKS, BLOCKS.convert("L")])
@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_last_marker_is_read(
    picture: Image.Image, lost: int, progressive: bool
) -> None:
    data = saved(picture, "JPEG", quality=80, progressive=progressive)
    assert decode_image(data[:-lost]).tobytes() == decode_image(data).tobytes()


@pytest.mark.parametrize("kind", [lambda: Image.fromarray(NOISE), lambda: BLOCKS])
def test_a_jpeg_without_pixels_stays_refused(kind: Callable[[], Image.Image]) -> None:
    data = saved(kind(), "JPEG", quality=80)
    for lost in (6, 10, 30, len(data) // 4):
        with pytest.raises(MediaError, match="damaged or cut off"):
            decode_image(data[:-lost])
