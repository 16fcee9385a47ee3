"""Atomic writes of small files, and the messages of a full disk."""

import errno
import os
import platform
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.core.errors import PipelineError
from pipelines.core.messages import Message

#: Disk full, quota exceeded, file too large.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: Name of an unfinished small file, and age in seconds at which its process must have been killed:
#: it exists for milliseconds.
_PART_PREFIX, _PART_SUFFIX = ".seesay-caption-", ".part"
_PART_STALE_S = 60.0


class DiskError(PipelineError):
    """Results cannot be written: the disk is full, or does not take them."""

    title = "Cannot save results"


def is_full(error: OSError) -> bool:
    """Return whether an error means that the disk is full."""
    return error.errno in _FULL


def disk_error(error: OSError, what: str) -> DiskError:
    """Return the error for a failed write of `what`."""
    if is_full(error):
        return DiskError(
            "The disk is full, so {what} could not be written. What was saved before is safe: "
            "free some space and start again, and only what is missing is done.",
            what=Message(what),
            title="Disk full",
        )
    return DiskError(
        "Could not write {what}: {reason}. Choose another folder, or make this one writable, and "
        "start again; what was saved before is safe.",
        what=Message(what),
        reason=error.strerror or Message("no reason given"),
    )


@contextmanager
def saving(what: str) -> Iterator[None]:
    """Turn an `OSError` of the block into a `DiskError` about `what`."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, what) from error


def replace_text(path: Path, text: str) -> None:
    """Write a small file atomically: readers see the old text or the new one.

    Raises:
        OSError: it cannot be written; the old file is unchanged.
    """
    # one for each process and thread: other runs may write into the same folder
    writer = f"{platform.node()[:60]}-{os.getpid()}-{threading.get_ident()}".replace("/", "_")
    part = path.with_name(f"{_PART_PREFIX}{writer}{_PART_SUFFIX}")
    try:
        part.write_bytes(text.encode("utf-8", "replace"))
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def remove_stale_parts(folders: Iterable[Path]) -> None:
    """Delete the unfinished files in these folders whose process was killed."""
    oldest = time.time() - _PART_STALE_S
    for folder in folders:
        for part in folder.glob(f"{_PART_PREFIX}*{_PART_SUFFIX}"):
            with suppress(OSError):  # another run deletes it too, or it cannot be deleted
                if _is_dead(part.name) or part.stat().st_mtime < oldest:
                    part.unlink()


def _is_dead(part: str) -> bool:
    """Return whether the process of a part ran on this machine and is known to have ended."""
    named = re.fullmatch(r"(.*)-(\d+)-\d+", part[len(_PART_PREFIX) : -len(_PART_SUFFIX)])
    here = platform.node()[:60].replace("/", "_")
    if named is None or named[1] != here or os.name == "nt":
        return False
    try:
        os.kill(int(named[2]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it lives and is another user's
        return False
    return False
