"""Places at which the structure of a Matroska or WebM file is broken.

Bytes between two packets are often no missing pictures: additions to a block such as an alpha
channel, metadata, an index. They are damage only where the structure does not continue, or where
a block is passed over.
"""

from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np

from pipelines.media.video.frames import Numbers

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675

#: Elements of Matroska whose children are checked: segment, cluster, block group and additions.
_PARENTS = frozenset({_SEGMENT, _CLUSTER, 0xA0, 0x75A1, 0xA6})

#: SimpleBlock, Block and EncryptedBlock.
_BLOCKS = frozenset({0xA3, 0xA1, 0xAF})

#: Other elements that such parents have.
_OTHERS = frozenset(
    {
        0x1A45DFA3, 0xEC, 0xBF, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469,
        0x1043A770, 0x1254C367, 0xE7, 0xA7, 0xAB, 0x5854, 0x9B, 0xFB, 0xFD, 0xFA, 0xA4, 0xA2,
        0x75A2, 0x8E, 0xC8, 0xEE, 0xA5,
    }
)  # fmt: skip

#: Maximum bytes of a header before the position of a packet.
_HEADER_BYTES = 16


class Structure:
    """Positions of broken elements of a file, and of the data of its blocks, ascending."""

    def __init__(self, broken: list[int], blocks: list[int]) -> None:
        self._broken, self._blocks = np.array(broken, np.int64), np.array(blocks, np.int64)

    @classmethod
    def of(cls, path: Path) -> "Structure":
        """Read the structure of a file."""
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            found = [*_elements(data)]
        blocks = [place for place, is_block in found if is_block]
        return cls([place for place, is_block in found if not is_block], blocks)

    def is_broken(self, last: int, end: int, next_one: int) -> bool:
        """Return whether data are missing before a packet at `next_one`.

        `last` is the position of the picture before it, `end` the end of the packet before it.
        """
        broken = _has(self._broken, last - _HEADER_BYTES, next_one)
        return broken or _has(self._blocks, end + 1, next_one)


def _has(places: Numbers, start: int, end: int) -> bool:
    first, last = np.searchsorted(places, [start, end])
    return bool(first < last)


def _elements(data: mmap) -> Iterator[tuple[int, bool]]:
    """Yield (position of the data, True) of each block, (position, False) of broken elements.

    After a broken element the structure continues at the next cluster.
    """
    place, ends = 0, [len(data)]
    while 0 <= place < len(data):
        while len(ends) > 1 and place >= ends[-1]:
            ends.pop()
        kind, after = _number(data, place)
        length, start = _number(data, after)
        most = (1 << 7 * (start - after)) - 1
        size, unknown = length & most, length & most == most and kind in _PARENTS
        if kind == _CLUSTER:  # it ends a cluster of unknown size
            del ends[1:]
        end = ends[-1] if unknown or kind == _SEGMENT else start + size
        if start == after or end > ends[-1] or kind not in _PARENTS | _BLOCKS | _OTHERS:
            yield place, False
            place, ends = data.find(_CLUSTER.to_bytes(4, "big"), place + 1), [len(data)]
            continue
        if kind in _BLOCKS:
            yield start, True
        if kind in _PARENTS:
            ends.append(end)
        place = start if kind in _PARENTS else end


def _number(data: mmap, place: int) -> tuple[int, int]:
    """Return a number of variable length with its length marker, and the place after it.

    The place stays if there is none.
    """
    first = data[place] if place < len(data) else 0
    end = place + 9 - first.bit_length()
    if not first or end > len(data):
        return 0, place
    return int.from_bytes(data[place:end], "big"), end
