"""Good files, harmed in ways that happen to files: a seed gives the same harm every time."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fakes.videos import make

EXAMPLES = Path(__file__).parent.parent.parent / "assets" / "examples"

#: Formats of pictures, with the options that their encoder takes.
PICTURES = {
    "png": {}, "jpg": {"quality": 85}, "webp": {}, "gif": {}, "bmp": {}, 
    "tiff": {"compression": "tiff_lzw"}, "avif": {}, "jp2": {}, "ico": {},
}  # fmt: skip

VIDEOS = (
    "h264-b-frames.mp4",
    "h264-open-groups.mkv",
    "hevc.mp4",
    "vp9.webm",
    "h264.ts",
    "h264-fragments.mp4",
    "h264.flv",
)


def harmed(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a file cut off, with bits turned, a part blanked, moved, doubled or made random."""
    array = np.frombuffer(data, np.uint8).copy()
    start, end = sorted(int(at) for at in rng.integers(0, len(array) + 1, 2))
    match int(rng.integers(7)):
        case 0:
            return data[: max(1, end)]
        case 1:
            places = rng.integers(0, len(array), int(rng.integers(1, 40)))
            array[places] ^= rng.integers(1, 256, len(places)).astype(np.uint8)
        case 2:
            array[start:end] = 0
        case 3:
            array[start:end] = rng.integers(0, 256, end - start)
        case 4:
            return data[start:end] + data[:start] + data[end:]
        case 5:
            return data[:end] + data[start:]
        case _:  # the head, where sizes are told
            places = rng.integers(0, min(64, len(array)), 4)
            array[places] = rng.choice(np.array([0, 1, 127, 128, 255], np.uint8), 4)
    return array.tobytes()


def damaged_pictures(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of damaged pictures."""
    rng = np.random.default_rng([seed, 1])
    files = sorted(EXAMPLES.glob("*.png"))
    for number in range(count):
        kind = list(PICTURES)[number % len(PICTURES)]
        with Image.open(files[number % len(files)]) as image:
            buffer = io.BytesIO()
            image.convert("RGB").resize((96, 96)).save(
                buffer, Image.registered_extensions()[f".{kind}"], **PICTURES[kind]
            )
        yield f"damaged-{number}.{kind}", harmed(buffer.getvalue(), rng)


def damaged_videos(count: int, seed: int, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of damaged videos; `folder` keeps the good ones meanwhile."""
    rng = np.random.default_rng([seed, 2])
    good = [make(kind, folder) for kind in VIDEOS]
    for number in range(count):
        file = good[number % len(good)]
        yield f"damaged-{number}{file.suffix}", harmed(file.read_bytes(), rng)
