"""Names within a run: unique, printable, and safe to write as a file."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

#: File names that are taken for images where nobody chose the files one by one.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".avif", ".ico", ".jp2"}
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def is_image_name(name: str) -> bool:
    """Return whether a file's name ends as an image's does."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def printable(name: str) -> str:
    """Return `name` as text that any encoding and any terminal takes.

    What is no Unicode becomes "?", control characters become "_".
    """
    return _CONTROL.sub("_", name.encode("utf-8", "replace").decode("utf-8"))


def unique_names(names: Sequence[str]) -> list[str]:
    """Number the repetitions among `names`: "a.jpg", "a (2).jpg".

    Names that differ in case only count as one, since they do on many a disk.
    """
    taken: set[str] = set()
    plain = {_key(name) for name in names}
    following: Counter[str] = Counter()  # ten thousand of one name must not be counted from 2 each
    result = []
    for name in names:
        path, key, made = PurePosixPath(name), _key(name), name
        while _key(made) in taken or (made != name and _key(made) in plain):
            following[key] += 1
            made = str(path.with_name(f"{path.stem} ({following[key] + 1}){path.suffix}"))
        taken.add(_key(made))
        result.append(made)
    return result


def caption_names(names: Sequence[str]) -> list[str]:
    """Return the name of each image's caption file, no two alike.

    "a.txt" beside "a.jpg"; where "a.png" lies there too, "a.jpg.txt" and "a.png.txt".

    Args:
        names: images' names with their folders, "/" between, no two alike.
    """
    made = [str(PurePosixPath(name).with_suffix(".txt")) for name in names]
    while True:
        count = Counter(map(_key, made))
        clashes = [
            i
            for i, name in enumerate(names)
            if count[_key(made[i])] > 1 and made[i] != f"{name}.txt"
        ]
        if not clashes:
            return unique_names(made)
        for i in clashes:
            made[i] = f"{names[i]}.txt"


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
