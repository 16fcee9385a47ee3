"""Zips of folders named after classes, as the tests need them."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from demo_models.make_assets import make_zip


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def dot(shade: int, size: int = 8) -> bytes:
    """Return a small picture of one colour; no two shades are alike."""
    return png(Image.new("RGB", (size, size), (shade % 256, shade // 256, 90)))


def pack(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def drawn(seed: int = 7, num_each: int = 8) -> dict[str, bytes]:
    """Return drawn scenes in folders named after classes; see `make_assets`."""
    with zipfile.ZipFile(io.BytesIO(make_zip(seed, num_each))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
