"""Labelled images: a zip of folders named after classes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipelines.core.errors import InputError
from pipelines.core.messages import Message
from pipelines.media.archive import from_zip
from pipelines.media.inputs import BatchInput, UnreadableSource
from pipelines.models.linear_probe import MAX_CLASSES

#: Most pictures, and classes, of one evaluation.
MAX_PICTURES = 20_000

HOW = (
    "Put the pictures of each class into a folder of its name, such as one folder cat and one "
    "folder dog, and pack the folders as one .zip."
)


@dataclass(frozen=True)
class LabelledImage:
    """An image of an archive and the class that its folder names."""

    item: BatchInput
    label: str


@dataclass(frozen=True)
class LabelledImages:
    """The images of an open archive, of at least two classes; `left_out` are (file, reason)."""

    pictures: tuple[LabelledImage, ...]
    left_out: tuple[tuple[str, str], ...]


@contextmanager
def open_labelled(path: Path) -> Iterator[LabelledImages]:
    """Open a zip of folders named after classes for the duration of the block.

    The outermost folders name the classes, below folders that hold all others: "pets/cat/1.jpg" and
    "pets/dog/old/1.jpg" are of "cat" and "dog". Underscores in a name are read as spaces.

    Raises:
        InputError: no usable zip, or fewer than two classes.
    """
    with from_zip(path) as inputs:
        left_out = [(one.name, _sentence(one.reason)) for one in inputs.skipped]
        good = []
        for item in inputs.items:
            if isinstance(item.source, UnreadableSource):
                left_out.append((item.name, item.source.reason))
            else:
                good.append(item)
        pictures = []
        for item, folder in zip(good, _folders([item.name for item in good]), strict=True):
            if folder:
                pictures.append(LabelledImage(item, _label(folder)))
            else:
                left_out.append((item.name, "It lies in no folder that names a class."))
        _check([picture.label for picture in pictures], len(inputs.items))
        yield LabelledImages(tuple(pictures), tuple(left_out))


def check_classes(labels: list[str]) -> None:
    """Raise `InputError` if there are fewer than two classes."""
    title = "Too few classes"
    if not labels:
        raise InputError(
            "Expected at least two classes with pictures that can be read, but found none. {hint}",
            hint=Message(HOW),
            title=title,
        )
    if len(labels) == 1:
        raise InputError(
            "Expected at least two classes with pictures that can be read, but found only "
            "{name!r}. {hint}",
            name=labels[0][:60],
            hint=Message(HOW),
            title=title,
        )


def _check(labels: list[str], num_images: int) -> None:
    if not labels:
        raise InputError(
            "Expected a zip of folders named after classes, but none of the {count:,} "
            "pictures in it lies in a folder. {hint}",
            count=num_images,
            hint=Message(HOW),
            title="No folders",
        )
    classes = list(dict.fromkeys(labels))
    check_classes(classes)
    if len(classes) > MAX_CLASSES:
        raise InputError(
            "At most {limit:,} classes are compared but the zip has {count:,}. Leave some out.",
            limit=MAX_CLASSES,
            count=len(classes),
        )
    if len(labels) > MAX_PICTURES:
        raise InputError(
            "At most {limit:,} pictures are evaluated at once but the zip has {count:,}. "
            "Leave some out.",
            limit=MAX_PICTURES,
            count=len(labels),
        )


def _folders(names: list[str]) -> list[str]:
    """Return the folder of each name that names its class, "" if there is none."""
    inside = [PurePosixPath(name).parts[:-1] for name in names]
    depth = 0
    while len({parts[depth] for parts in inside if len(parts) > depth}) == 1:
        if all(len(parts) <= depth + 1 for parts in inside):
            break
        depth += 1
    return [parts[depth] if len(parts) > depth else "" for parts in inside]


def _label(folder: str) -> str:
    return " ".join(folder.replace("_", " ").split()) or folder


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}."
