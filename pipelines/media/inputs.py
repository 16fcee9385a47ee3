"""Inputs of a caption run: a folder or files."""

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

from pipelines.core.errors import InputError, MediaError
from pipelines.core.messages import Message
from pipelines.core.text import bounded_name

#: Suffixes of images in folders and archives.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".avif", ".ico", ".jp2"}
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def is_image_name(name: str) -> bool:
    """Return whether a file has the suffix of an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def printable(name: str) -> str:
    """Return a name as valid Unicode ("?" for other bytes) without control characters ("_")."""
    return _CONTROL.sub("_", name.encode("utf-8", "replace").decode("utf-8"))


def unique_names(names: Sequence[str]) -> list[str]:
    """Number the repetitions among names: "a.jpg", "a (2).jpg".

    Names that differ in case or Unicode form only count as equal, as on many file systems.
    """
    taken: set[str] = set()
    given = {_key(name) for name in names}
    counts: Counter[str] = Counter()  # counts on, so that many equal names take linear time
    result = []
    for name in names:
        path, key, unique = PurePosixPath(name), _key(name), name
        while _key(unique) in taken or (unique != name and _key(unique) in given):
            counts[key] += 1
            unique = str(path.with_name(f"{path.stem} ({counts[key] + 1}){path.suffix}"))
        taken.add(_key(unique))
        result.append(unique)
    return result


def caption_names(names: Sequence[str], *, exact: bool = False) -> list[str]:
    """Return unique names of caption files for unique image names with folders ("/").

    "a.txt" for "a.jpg"; "a.jpg.txt" and "a.png.txt" for "a.jpg" beside "a.png". A name that is too
    long for a disk is shortened. `exact` is for a file system that distinguishes case and Unicode
    forms.
    """
    key = str if exact else _key
    texts = [str(PurePosixPath(name).with_suffix(".txt")) for name in names]
    while True:
        counts = Counter(map(key, texts))
        clashes = [
            i
            for i, (name, text) in enumerate(zip(names, texts, strict=True))
            if counts[key(text)] > 1 and text != f"{name}.txt"
        ]
        if not clashes:
            return [_storable(text) for text in (texts if exact else unique_names(texts))]
        for i in clashes:
            texts[i] = f"{names[i]}.txt"


def _storable(name: str) -> str:
    """Return a path whose parts are no longer than file systems allow."""
    if len(name) * 4 <= MAX_PART_BYTES:
        return name
    return "/".join(bounded_name(part, MAX_PART_BYTES) for part in name.split("/"))


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


#: Longest file name of most file systems.
MAX_PART_BYTES = 255

#: Maximum size of an image file.
MAX_FILE_BYTES = 200_000_000

#: Maximum size of a caption file.
MAX_CAPTION_BYTES = 1_000_000

_UNPRINTABLE = (
    "Its name holds control characters, or bytes that are no text, so no table can name it. "
    "Rename it and start again."
)

#: Suffixes of files that are expected beside images: captions, and results of earlier runs.
COMPANION_SUFFIXES = frozenset({".txt", ".json", ".jsonl", ".csv"})


class Source(Protocol):
    """Source of an image and its caption file."""

    def read(self) -> bytes:
        """Return the bytes of the image file, or raise `MediaError`."""

    def read_caption(self) -> bytes:
        """Return the bytes of the caption file, empty if there is none, or raise `MediaError`."""

    @property
    def caption_path(self) -> Path | None:
        """Path of the caption file, which may not exist; None if it cannot be written."""


@dataclass(frozen=True)
class BatchInput:
    """One image of a caption run; its names, with folders ("/"), are unique."""

    name: str
    caption_name: str
    source: Source

    def existing_caption(self) -> str:
        """Return the stripped text of the caption file, "" if there is none.

        Raises `MediaError` if the file cannot be read or is not UTF-8.
        """
        try:
            return self.source.read_caption().decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise MediaError(
                "Its caption file is no UTF-8 text, so it is left alone. Convert or remove it."
            ) from error


@dataclass(frozen=True)
class Skipped:
    """A file in a folder or an archive that is not used, with the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Inputs:
    """Inputs of a run, and files that are none; to be closed, or used in a `with` block."""

    items: tuple[BatchInput, ...]
    skipped: tuple[Skipped, ...] = ()
    close: Callable[[], None] = field(default=lambda: None, repr=False)

    def __enter__(self) -> "Inputs":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class FileSource:
    """Image at `path` with its caption file, which may not exist."""

    path: Path
    caption_path: Path

    @property
    def shares_name(self) -> bool:
        """Return whether another image has this name but for the suffix.

        Then the caption file is not the one that trainers read for both.
        """
        return self.caption_path.name != self.path.with_suffix(".txt").name

    def read(self) -> bytes:
        """Return the bytes of the image file; see `Source`."""
        return _read_regular(self.path, MAX_FILE_BYTES, "The file")

    def read_caption(self) -> bytes:
        """Return the bytes of its caption file, or of the one that images of its name share."""
        for path in (self.caption_path, self.path.with_suffix(".txt")):
            if os.path.exists(path):  # noqa: PTH110 - False for a name that is too long
                return _read_regular(path, MAX_CAPTION_BYTES, "Its caption file")
        return b""


@dataclass(frozen=True)
class UnreadableSource:
    """Source whose `read` raises `MediaError(reason)`."""

    reason: str
    caption_path: None = None

    def read(self) -> bytes:
        """Raise the reason; see `Source`."""
        raise MediaError(self.reason)

    def read_caption(self) -> bytes:
        """Return no bytes; see `Source`."""
        return b""


def make_inputs(
    names: Sequence[str], sources: Sequence[Source], captions: Sequence[str] | None = None
) -> tuple[BatchInput, ...]:
    """Return inputs; names without `captions` (names of caption files) are made unique."""
    if captions is None:
        names = unique_names(names)
        captions = caption_names(names)
    rows = zip(names, captions, sources, strict=True)
    return tuple(BatchInput(*row) for row in rows)


def from_folder(folder: Path, *, recursive: bool = True) -> Inputs:
    """Return the images of a folder, sorted by name, before those of its folders.

    Hidden files, hidden folders and linked folders are ignored; linked files are read. An image
    keeps its name on disk; one with an unprintable name is unreadable. Other files, except for
    `COMPANION_SUFFIXES`, are in `skipped`. Raises `InputError` if there is no such folder, or no
    image in it.
    """
    if not folder.is_dir():
        raise InputError("Expected a folder of images but {name!r} is none.", name=folder.name)
    skipped: list[Skipped] = []
    paths: list[Path] = []
    for path in _walk(folder, recursive, skipped):
        if is_image_name(path.name):
            paths.append(path)
        elif path.suffix.lower() not in COMPANION_SUFFIXES:
            reason = "not an image by its name"
            skipped.append(Skipped(printable(path.relative_to(folder).as_posix()), reason))
    if not paths:
        raise InputError(
            "There is no image in the folder. Expected files such as .jpg, .png or .webp."
        )
    return Inputs(_named_on_disk(folder, paths), tuple(skipped))


def from_files(paths: Sequence[Path], names: Sequence[str] | None = None) -> Inputs:
    """Return one input for each file of any kind; `names` are display names, or None.

    Raises:
        InputError: there are no files.
        ValueError: the numbers of names and paths differ.
    """
    if not paths:
        raise InputError("No files were given. Choose some images, or one zip of images.")
    shown = [path.name for path in paths] if names is None else list(names)
    if len(shown) != len(paths):
        raise ValueError(f"names must be as many as paths, {len(paths)}, but got {len(shown)}")
    labels = [printable(Path(name).name or "image") for name in shown]
    return Inputs(make_inputs(labels, _sources(paths)))


def _sources(paths: Sequence[Path], *, exact: bool = False) -> list[FileSource]:
    distinct = list(dict.fromkeys(path.absolute().as_posix() for path in paths))
    names = caption_names(distinct, exact=exact)
    captions = dict(zip(distinct, map(Path, names), strict=True))
    return [FileSource(path, captions[path.absolute().as_posix()]) for path in paths]


def _named_on_disk(folder: Path, paths: Sequence[Path]) -> tuple[BatchInput, ...]:
    exact = _is_exact(paths)
    real = [path.relative_to(folder).as_posix() for path in paths]
    names, taken = [], set(real)
    for name in real:
        shown = printable(name)
        while shown != name and shown in taken:
            shown = f"{shown}?"  # unique only: the file is not read
        taken.add(shown)
        names.append(shown)
    sources: list[Source] = [
        source if shown == name else UnreadableSource(_UNPRINTABLE)
        for shown, name, source in zip(names, real, _sources(paths, exact=exact), strict=True)
    ]
    return make_inputs(names, sources, caption_names(names, exact=exact))


_VARIANTS: tuple[Callable[[str], str], ...] = (
    str.swapcase,
    partial(unicodedata.normalize, "NFC"),
    partial(unicodedata.normalize, "NFD"),
)


def _is_exact(paths: Sequence[Path]) -> bool:
    """Return whether the file system of these files distinguishes case and Unicode forms."""
    given = set(paths)
    for variant in _VARIANTS:
        others = (path.with_name(variant(path.name)) for path in paths)
        unlisted = next((path for path in others if path not in given), None)
        if unlisted is not None and os.path.exists(unlisted):  # noqa: PTH110
            return False
    return True


def _walk(folder: Path, recursive: bool, skipped: list[Skipped]) -> Iterator[Path]:

    def unreadable(error: OSError) -> None:
        name = Path(str(error.filename)).relative_to(folder).as_posix()
        skipped.append(Skipped(printable(name), "the folder cannot be read"))

    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and recursive)
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _read_regular(path: Path, max_bytes: int, what: str) -> bytes:
    """Read a regular file (a pipe would block) of at most `max_bytes`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise MediaError(
                "{name} is a folder, a device or a pipe, not a file.", name=Message(what)
            )
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise MediaError(
            "{name} cannot be read: {reason}.",
            name=Message(what),
            reason=error.strerror or Message("no reason given"),
        ) from error
    if len(data) > max_bytes:
        raise MediaError(
            "{name} is larger than the limit of {limit:.0f} MB.",
            name=Message(what),
            limit=max_bytes / 1e6,
        )
    return data


def touch(paths: Iterable[Path]) -> None:
    """Make files count as new, so that the sweep spares them; files that are gone are skipped."""
    for path in paths:
        with suppress(OSError):
            os.utime(path)
