"""Encoding of the images of an archive, a few at a time, each content once."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pipelines.core.errors import MediaError
from pipelines.core.messages import Message
from pipelines.evaluation.dataset import LabelledImage, LabelledImages

#: Most images, and bytes of their files, of one turn at the device.
PICTURES_PER_TURN = 8
BYTES_PER_TURN = 64_000_000

#: (name, content) of image files -> (M, D) vectors of the readable ones, and the errors of the
#: others by position.
Encode = Callable[[list[tuple[str, bytes]]], tuple[NDArray[np.float32], dict[int, str]]]


@dataclass(frozen=True)
class Embedded:
    """The N images that count, in the archive's order, without repeated contents.

    `vectors` are (N, D) float32, unit length, (0, 0) for none; `left_out` are (file, reason).
    """

    pictures: tuple[LabelledImage, ...]
    vectors: NDArray[np.float32]
    left_out: tuple[tuple[str, str], ...]


@dataclass
class _Reading:
    """Results so far, by position in the archive."""

    pictures: Sequence[LabelledImage]
    check: Callable[[], None]
    contents: dict[str, list[int]] = field(default_factory=dict)
    vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)

    def batches(self) -> Iterator[list[tuple[int, bytes]]]:
        """Yield (position, content) of new contents, as many as are encoded in one turn."""
        batch: list[tuple[int, bytes]] = []
        size = 0
        for index, picture in enumerate(self.pictures):
            self.check()  # repeated ones make no batch
            try:
                data = picture.item.source.read()
            except MediaError as error:
                self.errors[index] = error.message
                continue
            same = self.contents.setdefault(hashlib.sha256(data).hexdigest(), [])
            same.append(index)
            if len(same) > 1:
                continue
            if len(batch) == PICTURES_PER_TURN or (batch and size + len(data) > BYTES_PER_TURN):
                yield batch
                batch, size = [], 0
            batch.append((index, data))
            size += len(data)
        if batch:
            yield batch

    def take(
        self, positions: Sequence[int], vectors: NDArray[np.float32], bad: dict[int, str]
    ) -> None:
        good = iter(vectors)
        for number, index in enumerate(positions):
            if number in bad:
                self.errors[index] = bad[number]
            else:
                self.vectors[index] = next(good)

    def reject_repeated(self) -> None:
        """Add the reasons why repeated contents do not count again, or not at all."""
        for same in self.contents.values():
            first = self.pictures[same[0]]
            labels = {self.pictures[index].label for index in same}
            for index in same[1:]:
                reason = Message(
                    "It is the same picture as {name}, which counts once.", name=first.item.name
                )
                self.errors[index] = self.errors.get(same[0], reason)
            if len(labels) > 1 and same[0] not in self.errors:
                for index in same:
                    others = sorted(labels - {self.pictures[index].label})
                    self.errors[index] = Message(
                        "The same picture lies among {name!r} too, so its class is not "
                        "clear and it does not count.",
                        name=others[0],
                    )


def embed_all(
    archive: LabelledImages,
    encode: Encode,
    report: Callable[[int], None] = lambda done: None,
    check: Callable[[], None] = lambda: None,
) -> Embedded:
    """Encode all images of an open archive; unreadable and repeated ones are left out.

    `report` is called after each batch with the number of finished images; `check` before each
    image, and may raise to end the work.
    """
    reading = _Reading(archive.pictures, check)
    for batch in reading.batches():
        names = [PurePosixPath(archive.pictures[index].item.name).name for index, _ in batch]
        files = list(zip(names, (data for _, data in batch), strict=True))
        reading.take([index for index, _ in batch], *encode(files))
        report(batch[-1][0] + 1)
    reading.reject_repeated()
    kept = [index for index in sorted(reading.vectors) if index not in reading.errors]
    rows = [reading.vectors[index] for index in kept]
    return Embedded(
        tuple(archive.pictures[index] for index in kept),
        np.stack(rows) if rows else np.empty((0, 0), np.float32),
        (
            *archive.left_out,
            *((archive.pictures[i].item.name, reading.errors[i]) for i in sorted(reading.errors)),
        ),
    )
