"""What there is to caption: a folder, a list of files, or one zip."""

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Protocol

from pipelines.core.errors import InputError, MediaError
from pipelines.core.messages import Message

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


#: Most bytes of one image file.
MAX_FILE_BYTES = 200_000_000

#: Most bytes of a caption file.
MAX_CAPTION_BYTES = 1_000_000

_UNPRINTABLE = (
    "Its name holds control characters, or bytes that are no text, so no table can name it. "
    "Rename it and start again."
)

#: What lies beside images as a matter of course: captions, and what runs before this one wrote.
COMPANION_SUFFIXES = frozenset({".txt", ".json", ".jsonl", ".csv"})


class Source(Protocol):
    """Where one input's bytes come from."""

    def read(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            MediaError: it cannot be read, or must not be.
        """

    def read_caption(self) -> bytes:
        """Return the bytes of the caption file beside it, empty where there is none.

        Raises:
            MediaError: there is one that cannot be read.
        """

    @property
    def caption_path(self) -> Path | None:
        """Where its caption file lies, there or not; None where none can be written."""


@dataclass(frozen=True)
class BatchInput:
    """One image to caption.

    Attributes:
        name: unique in the run; its folders within the input with "/" between.
        caption_name: name of its caption file in exports, unique in the run.
        source: where its bytes come from.
    """

    name: str
    caption_name: str
    source: Source

    def existing_caption(self) -> str:
        """Return the text of the caption file beside it, stripped; "" where there is none.

        Raises:
            MediaError: there is one that cannot be read, or is no UTF-8 text.
        """
        try:
            return self.source.read_caption().decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise MediaError(
                "Its caption file is no UTF-8 text, so it is left alone. Convert or remove it."
            ) from error


@dataclass(frozen=True)
class Skipped:
    """Something in a folder or an archive that is not taken for an image, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Inputs:
    """The inputs of a run; close it, or use it in a `with` block.

    Attributes:
        items: in the order in which they are captioned.
        skipped: what is no input.
        close: closes what is open.
    """

    items: tuple[BatchInput, ...]
    skipped: tuple[Skipped, ...] = ()
    close: Callable[[], None] = field(default=lambda: None, repr=False)

    def __enter__(self) -> "Inputs":
        """Return this."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what is open."""
        self.close()


@dataclass(frozen=True)
class FileSource:
    """A file on this machine.

    Attributes:
        path: the image.
        caption_path: the caption file beside it, there or not.
    """

    path: Path
    caption_path: Path | None

    def read(self) -> bytes:
        """Return the bytes of the file; see `Source`."""
        return _read_regular(self.path, MAX_FILE_BYTES, "The file")

    def read_caption(self) -> bytes:
        """Return the bytes of the caption file; see `Source`."""
        if self.caption_path is None or not self.caption_path.exists():
            return b""
        return _read_regular(self.caption_path, MAX_CAPTION_BYTES, "Its caption file")


@dataclass(frozen=True)
class UnreadableSource:
    """What must not be read.

    Attributes:
        reason: why, and what to do.
    """

    reason: str

    @property
    def caption_path(self) -> Path | None:
        """None: nothing is written beside it."""
        return None

    def read(self) -> bytes:
        """Raise the reason; see `Source`."""
        raise MediaError(self.reason)

    def read_caption(self) -> bytes:
        """Return nothing; see `Source`."""
        return b""


def name_all(found: Sequence[tuple[str, Source]]) -> tuple[BatchInput, ...]:
    """Return inputs under unique names, made from the names that are wanted for them."""
    names = unique_names([name for name, _ in found])
    texts = caption_names(names)
    return tuple(
        BatchInput(name, text, source)
        for name, text, (_, source) in zip(names, texts, found, strict=True)
    )


def from_folder(folder: Path, *, recursive: bool = True) -> Inputs:
    """Take every image of a folder, by name, a folder's own before those of the folders in it.

    Hidden files and folders are left out, and folders that are symbolic links are not entered;
    links to files are followed. Names are those on the disk, so that tables find the files again;
    an image whose name no table can hold gets an error. Files that are no images by their names
    are in `skipped`, except for those with `COMPANION_SUFFIXES`.

    Raises:
        InputError: no such folder, or no image in it.
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
    return Inputs(_in_place(folder, paths), tuple(skipped))


def from_files(paths: Sequence[Path], names: Sequence[str] | None = None) -> Inputs:
    """Take files as they are given, each of which becomes one result whatever it is.

    Args:
        paths: the files, in order.
        names: what people call them, if not by their file names.

    Raises:
        InputError: there are none.
        ValueError: not as many names as paths.
    """
    if not paths:
        raise InputError("No files were given. Choose some images, or one zip of images.")
    shown = [path.name for path in paths] if names is None else list(names)
    if len(shown) != len(paths):
        raise ValueError(f"names must be as many as paths, {len(paths)}, but got {len(shown)}")
    return Inputs(_beside(paths, [printable(Path(name).name or "image") for name in shown]))


def _beside(paths: Sequence[Path], names: Sequence[str]) -> tuple[BatchInput, ...]:
    return name_all(list(zip(names, _sources(paths), strict=True)))


def _sources(paths: Sequence[Path]) -> list[FileSource]:
    distinct = list(dict.fromkeys(path.absolute().as_posix() for path in paths))
    beside = dict(zip(distinct, map(Path, caption_names(distinct)), strict=True))
    return [FileSource(path, beside[path.absolute().as_posix()]) for path in paths]


def _in_place(folder: Path, paths: Sequence[Path]) -> tuple[BatchInput, ...]:
    """Return the images of a folder under the names that they have on the disk."""
    real = [path.relative_to(folder).as_posix() for path in paths]
    names, taken = [], set(real)
    for name in real:
        shown = printable(name)
        while shown != name and shown in taken:
            shown = f"{shown}?"  # only to be told apart: it is not read
        taken.add(shown)
        names.append(shown)
    sources: list[Source] = [
        source if shown == name else UnreadableSource(_UNPRINTABLE)
        for shown, name, source in zip(names, real, _sources(paths), strict=True)
    ]
    texts = caption_names(names)
    return tuple(BatchInput(*one) for one in zip(names, texts, sources, strict=True))


def _walk(folder: Path, recursive: bool, skipped: list[Skipped]) -> Iterator[Path]:
    """Yield the files of a folder, those of one folder together, by name."""

    def unreadable(error: OSError) -> None:
        name = Path(str(error.filename)).relative_to(folder).as_posix()
        skipped.append(Skipped(printable(name), "the folder cannot be read"))

    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and recursive)
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _read_regular(path: Path, max_bytes: int, what: str) -> bytes:
    """Read a file that is a file (a pipe would keep us waiting), up to `max_bytes`."""
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
