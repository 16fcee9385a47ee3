"""Greys of TIFF files in every kind of 16 and 32 bit sample."""

import struct

import numpy as np
import pytest

from pipelines.media.images import decode_image

GREYS = np.arange(0, 256, dtype=np.int64).reshape(8, 32)


def _tiff(samples: np.ndarray, kind: int, white: bool) -> bytes:
    """An uncompressed little-endian TIFF; `kind` is its SampleFormat."""
    pixels, bits = samples.tobytes(), samples.itemsize * 8
    tags = {256: 32, 257: 8, 258: bits, 259: 1, 262: 1 - white, 273: 8}
    tags |= {277: 1, 278: 8, 279: len(pixels), 339: kind}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(pixels))
    return head + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("samples", "kind", "white"),
    [
        (((255 - GREYS) * 257).astype("<u2"), 1, True),
        ((GREYS * 257).astype("<u2"), 1, False),
        ((GREYS * 257 - 32768).astype("<i2"), 2, False),
        ((GREYS * 16843009).astype("<u4"), 1, False),
    ],
)
def test_greys_of_tiff_samples(samples: np.ndarray, kind: int, white: bool) -> None:
    found = np.asarray(decode_image(_tiff(samples, kind, white)))
    assert np.array_equal(found, np.repeat(GREYS[..., None], 3, 2))
