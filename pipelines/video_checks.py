"""What is refused before frames of a video are read, and what is said when none is left."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.core.errors import InputError, MediaError, MemoryLimitError
from pipelines.media.video.container import shown
from pipelines.media.video.frames import Numbers

#: Most memory that the frames of one call may take; 1 GB = 1e9 bytes.
MAX_FRAMES_GB = 4.0


def check_length(path: Path, seconds: float, limit: float) -> None:
    """Check that a video is not longer than a limit; a limit of 0.0 is none.

    Raises:
        MediaError: it is.
    """
    if limit and seconds > limit:
        raise MediaError(
            f"{shown(path)} is {seconds:.0f} s long; the limit is {limit:.0f} s. "
            "Trim it and try again."
        )


def checked_numbers(indices: Sequence[int] | Numbers, num_frames: int) -> Numbers:
    """Return frame numbers as an array (N,).

    Raises:
        InputError: there is none, or one that the video does not have.
    """
    asked = np.asarray(indices, np.int64)
    if asked.ndim != 1 or not len(asked):
        raise InputError("No frames were asked for. Ask for at least one.")
    if asked.min() < 0 or asked.max() >= num_frames:
        raise InputError(
            f"Frame numbers must be within 0..{num_frames - 1} "
            f"but got {asked.min()}..{asked.max()}. Choose others."
        )
    return asked


def checked_order(asked: Numbers, at_once: int) -> Numbers:
    """Return frame numbers that are to be read one after the other.

    Raises:
        InputError: one does not come after the one before it, or none is to be held at once.
    """
    if at_once < 1:
        raise InputError(f"The frames held at once must be 1 or more but got {at_once}.")
    late = np.flatnonzero(np.diff(asked) <= 0)
    if len(late):
        before, after = asked[late[0] : late[0] + 2]
        raise InputError(
            f"Frame numbers must ascend but got {after} after {before}. Sort them, each once."
        )
    return asked


def checked_size(size: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return the (height, width) that frames are to have.

    Raises:
        InputError: a side is too short or too long.
    """
    if size is not None and not all(1 <= each <= 8192 for each in size):
        raise InputError(
            f"A frame's height and width must be within 1..8192 but got {size[0]} x {size[1]}."
        )
    return size


def check_memory(num_frames: int, size: tuple[int, int]) -> None:
    """Check that frames of a (height, width) fit into memory.

    Raises:
        MemoryLimitError: they would take more than `MAX_FRAMES_GB`.
    """
    needed = num_frames * size[0] * size[1] * 3 / 1e9
    if needed > MAX_FRAMES_GB:
        raise MemoryLimitError(
            f"{num_frames} frames of {size[1]} x {size[0]} need {needed:.1f} GB; the limit is "
            f"{MAX_FRAMES_GB:.0f} GB. Ask for fewer frames or a smaller size."
        )


def nothing_left(path: Path, num_frames: int) -> MediaError:
    """Return the error for a video of which not one of so many frames can be read."""
    what = f"none of its {num_frames} frames" if num_frames != 1 else "not even its only frame"
    if not num_frames:
        what = "not one frame"
    return MediaError(
        f"{shown(path)} is damaged: {what} could be read. "
        "Save or upload it again, or choose another video."
    )
