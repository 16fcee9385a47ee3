"""Times of AVI files, which store decoding times only, and files that end early."""

from pathlib import Path

import numpy as np

from pipelines.media.video.frames import Numbers


def delays_of(packets: Numbers) -> Numbers:
    """Return by how many frames each packet is decoded after its turn in presentation order."""
    delays: Numbers = np.argsort(np.argsort(packets)) - np.arange(len(packets))
    return delays


def undelayed(ticks: Numbers, delay: int) -> Numbers:
    """Return presentation times by ascending decoding times.

    An encoder that reorders pictures gives each packet the presentation time of the picture that is
    `delay` places before it in presentation order.
    """
    step = int(np.median(np.diff(ticks))) if len(ticks) > 1 else 1
    return np.append(ticks[delay:], ticks[-1] + step * np.arange(1, delay + 1))


def is_cut(path: Path) -> bool:
    """Return whether an AVI file ends early, by the sizes of its RIFF chunks.

    The chunk of an unfinished recording has the size 0. Some programs count its head, 8 bytes, too.
    """
    end = 0
    with path.open("rb") as file:
        while (head := file.read(8))[:4] == b"RIFF":
            size = int.from_bytes(head[4:], "little")
            end = file.seek(size + size % 2, 1)
            if not size:
                return True
        return end > file.seek(0, 2) + 8
