"""Deletion of uploads and results by age, including those of earlier runs."""

import logging
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pipelines.core.messages import Message
from pipelines.core.settings import Settings

log = logging.getLogger(__name__)

#: Age in seconds at which uploads and results are deleted, and seconds between two sweeps.
KEEP_FILES_S = 3600.0
SWEEP_EVERY_S = 600.0

#: Marks a folder for uploads: nothing in it is a person's own file.
MARK = ".seesay-work"

#: Entries that gradio and SeeSay write; a folder with only these needs no mark.
_OURS = re.compile(r"[0-9a-f]{40,64}|tmp\w+|results|vibe_edit_history")

#: Names and sizes of public files: the images of the page itself.
Public = frozenset[tuple[str, int]]


def start_sweeping(folder: Path, public_folders: Iterable[Path] = ()) -> None:
    """Sweep `folder` now and every few minutes, in a thread that ends with the process.

    Copies of files in `public_folders` stay: the page shows its examples from them.
    """
    if not claim(folder):
        log.warning("The work folder holds other files: old uploads in it are not deleted")
        return
    public = frozenset(
        (file.name, file.stat().st_size)
        for root in public_folders
        for file in root.rglob("*")
        if file.is_file()
    )
    sweep(folder, KEEP_FILES_S, public)

    def work() -> None:
        while True:
            time.sleep(min(SWEEP_EVERY_S, KEEP_FILES_S))
            sweep(folder, KEEP_FILES_S, public)

    threading.Thread(target=work, name="sweep", daemon=True).start()


def claim(folder: Path) -> bool:
    """Create `folder` if needed; return whether its files may be deleted.

    They may not if it holds a person's own files or belongs to another user.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return False
    mark = folder / MARK
    if mark.is_file() and not mark.is_symlink():
        return True
    if not all(_OURS.fullmatch(entry.name) for entry in folder.iterdir()):
        return False
    mark.touch()
    return True


def sweep(folder: Path, keep_s: float, public: Public = frozenset(), now: float = 0.0) -> int:
    """Delete files and empty folders that are older than `keep_s` seconds; return how many files.

    Never follows a link; an old link itself is deleted. `public` files are kept. Files that cannot
    be deleted, or that another process deletes meanwhile, are skipped. `now` is Unix time, if not
    the present.
    """
    oldest, deleted = (now or time.time()) - keep_s, 0
    for root, folders, files in os.walk(folder.resolve(), topdown=False, followlinks=False):
        here = Path(root)
        was_old = here != folder.resolve() and _is_old(here, oldest)
        links = [name for name in folders if (here / name).is_symlink()]
        for path in (here / name for name in files + links):
            if path.name != MARK and _is_old(path, oldest) and not _is_public(path, public):
                deleted += _delete(path)
        if was_old:
            _delete_if_empty(here)
    if deleted:
        log.info("%d old files of visitors were deleted", deleted)
    return deleted


def _is_old(path: Path, oldest: float) -> bool:
    """Compare the later of both times: a copy keeps the modification time of its original."""
    with suppress(OSError):
        status = path.lstat()
        return max(status.st_mtime, status.st_ctime) < oldest
    return False


def _is_public(path: Path, public: Public) -> bool:
    with suppress(OSError):
        status = path.lstat()
        return stat.S_ISREG(status.st_mode) and (path.name, status.st_size) in public
    return False


def _delete(path: Path) -> int:
    try:
        path.unlink()
    except OSError as error:
        log.info("An old file cannot be deleted: %s", type(error).__name__)
        return 0
    return 1


def _delete_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def no_uploads_because(settings: Settings) -> str:
    """Return the reason why uploads are refused, "" if they are not; names no server path."""
    try:
        settings.work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = settings.work_dir / f"tmp{time.monotonic_ns()}"
        probe.touch()
        probe.unlink()
        free_mb = shutil.disk_usage(settings.work_dir).free / 1e6
    except OSError as error:
        return unwritable(error)
    if free_mb < settings.max_upload_mb:
        return Message(
            "The disk for uploads has {free:,.0f} MB free, less than the largest upload "
            "({limit:,.0f} MB).",
            free=free_mb,
            limit=settings.max_upload_mb,
        )
    return ""


def with_advice(problem: str) -> Message:
    """Return a problem of the disk with what a visitor can do about it."""
    return Message(
        "{problem} Try again later, or tell the operator of this server.", problem=Message(problem)
    )


def unwritable(error: OSError) -> str:
    """Return a sentence, without a path, about a failed write."""
    return Message("The folder for uploads cannot be written: {reason}.", reason=error.strerror)
