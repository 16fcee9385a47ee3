"""Locks between processes: files that the system unlocks when their process ends."""

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

from filelock import BaseFileLock, FileLock, Timeout

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import InputError
from pipelines.serving.device_queue import POLL_S

#: Seconds that a writer waits for another one, which may be building a large index.
WAIT_S = 300.0

#: Locks that all names share, so that there are never more files than these.
_LOCKS = 64


def lock_file(path: Path) -> BaseFileLock:
    """Lock a file without waiting, until `release()` or the end of the process.

    Raises:
        InputError: another run, in this process or another, holds the lock.
        OSError: the file cannot be created, or its file system has no locks.
    """
    # another thread may release it; a mere marker file would outlive a killed process
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(
            "Another run is writing these results just now. Wait until it ends, or stop it.",
            title="Already running",
        ) from error
    return lock


class WriterLocks:
    """Locks by name between threads and, with a folder for their files, between processes."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._threads = [threading.RLock() for _ in range(_LOCKS)]
        self._files: dict[int, BaseFileLock] = {}

    @contextmanager
    def held(
        self,
        name: str,
        cancel: CancelToken = NEVER,
        wait_s: float | None = None,
    ) -> Iterator[None]:
        """Hold the lock of a name in the block; a thread may enter it again.

        Raises:
            Cancelled: `cancel` is cancelled while another holder keeps it.
            OSError: its file cannot be written, or it is held for longer than `wait_s`.
        """
        number = zlib.crc32(name.encode()) % _LOCKS  # the same in every process
        until = monotonic() + (WAIT_S if wait_s is None else wait_s)
        _enter(self._threads[number], cancel, until)
        try:
            if self._folder is None:
                yield
                return
            lock = self._file(number, self._folder)
            try:
                lock.acquire(
                    timeout=max(0.0, until - monotonic()), cancel_check=lambda: cancel.is_cancelled
                )
            except Timeout:
                cancel.check()
                raise
            try:
                yield
            finally:
                lock.release()
        finally:
            self._threads[number].release()

    def _file(self, number: int, folder: Path) -> BaseFileLock:
        if number not in self._files:
            _make_private(folder)
            # the lock of the threads guards it
            self._files[number] = FileLock(folder / f"{number:02}.lock", thread_local=False)
        return self._files[number]


def _enter(lock: threading.RLock, cancel: CancelToken, until: float) -> None:
    """Acquire the lock of the threads; a free one even if `cancel` is cancelled."""
    while not lock.acquire(timeout=max(0.0, min(POLL_S, until - monotonic()))):
        cancel.check()
        if monotonic() >= until:
            raise TimeoutError


def _make_private(folder: Path) -> None:
    """Create a folder for locks in that of an index; other users of the machine can read neither.

    The folder of an index of an earlier version, known by its locks, may be readable: close it.
    """
    index = folder.parent
    index.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_dir() and index.stat().st_mode & 0o077:
        with suppress(OSError):  # it belongs to another user
            index.chmod(0o700)
    folder.mkdir(mode=0o700, exist_ok=True)
