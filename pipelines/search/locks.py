"""One writer at a time, over all threads and all processes of this machine. Torch-free."""

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

from filelock import BaseFileLock, FileLock, Timeout

from pipelines.serving.device_queue import LOOK_S, BrokenOff

#: Seconds that a writer waits for another one; it may be sorting the vectors of a large index.
WAIT_S = 300.0

#: Locks that all names share, so that there are never more files than these.
_LOCKS = 64


class WriterLocks:
    """Locks by name. Each is a small file that the system lets go of when its process ends."""

    def __init__(self, folder: Path | None) -> None:
        """Remember where the files are; None for locks of this process only."""
        self._folder = folder
        self._threads = [threading.RLock() for _ in range(_LOCKS)]
        self._files: dict[int, BaseFileLock] = {}

    @contextmanager
    def held(
        self,
        name: str,
        given_up: Callable[[], bool] = lambda: False,
        wait_s: float | None = None,
    ) -> Iterator[None]:
        """Be the only one who holds the lock of a name; a thread may enter it again.

        Args:
            name: whose lock.
            given_up: asked a few times a second while another one holds it.
            wait_s: seconds to wait; `WAIT_S` where not given.

        Raises:
            BrokenOff: given up.
            OSError: its file cannot be written, or another one holds it for longer.
        """
        number = zlib.crc32(name.encode()) % _LOCKS  # the same in every process
        until = monotonic() + (WAIT_S if wait_s is None else wait_s)
        _enter(self._threads[number], given_up, until)
        try:
            if self._folder is None:
                yield
                return
            lock = self._file(number, self._folder)
            try:
                lock.acquire(timeout=max(0.0, until - monotonic()), cancel_check=given_up)
            except Timeout:
                if given_up():
                    raise BrokenOff from None
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
            # whoever holds the lock of the threads may hold this one, in whichever thread
            self._files[number] = FileLock(folder / f"{number:02}.lock", thread_local=False)
        return self._files[number]


def _enter(lock: threading.RLock, given_up: Callable[[], bool], until: float) -> None:
    """Take the lock of the threads; a free one even where the wait was given up before."""
    while not lock.acquire(timeout=max(0.0, min(LOOK_S, until - monotonic()))):
        if given_up():
            raise BrokenOff
        if monotonic() >= until:
            raise TimeoutError


def _make_private(folder: Path) -> None:
    """Make a folder for locks within one for an index; others of this machine read neither.

    An index of an earlier version, known by its locks, may be open to them; it is closed.
    """
    index = folder.parent
    index.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_dir() and index.stat().st_mode & 0o077:
        with suppress(OSError):  # it belongs to somebody else
            index.chmod(0o700)
    folder.mkdir(mode=0o700, exist_ok=True)
