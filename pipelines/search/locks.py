"""One writer at a time, over all threads and all processes of this machine. Torch-free."""

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock

#: Seconds that a process waits for another one; it may be sorting the vectors of a large index.
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
    def held(self, name: str) -> Iterator[None]:
        """Be the only one who holds the lock of a name; a thread may enter it again.

        Raises:
            OSError: its file cannot be written, or another process holds it for long.
        """
        number = zlib.crc32(name.encode()) % _LOCKS  # the same in every process
        with self._threads[number]:
            if self._folder is None:
                yield
                return
            with self._file(number, self._folder):
                yield

    def _file(self, number: int, folder: Path) -> BaseFileLock:
        if number not in self._files:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # whoever holds the lock of the threads may hold this one, in whichever thread
            self._files[number] = FileLock(
                folder / f"{number:02}.lock", timeout=WAIT_S, thread_local=False
            )
        return self._files[number]
