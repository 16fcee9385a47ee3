"""How far a download is, and whether it still moves."""

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class FetchProgress:
    """How far a download is.

    Attributes:
        done_bytes: bytes on disk, those of an earlier, interrupted download included; never less
            than before.
        total_bytes: bytes in all as far as known; 0 when unknown.
    """

    done_bytes: int
    total_bytes: int


class Abandoned(Exception):
    """Nobody waits for this download any more; raised inside it so that it ends."""


class DownloadMeter:
    """Counts the bytes of one download, and tells its thread when it is given up."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._lock = threading.Lock()
        self._done = 0
        self._shown = 0
        self._total = 0
        self._moved = time.monotonic()
        self._abandoned = threading.Event()

    def expect(self, total: int) -> None:
        """Say how many bytes there will be."""
        with self._lock:
            self._total = total
            self._moved = time.monotonic()

    def add(self, count: int) -> None:
        """Say that `count` more bytes are there; 0 for a sign of life, less where some are lost.

        Raises:
            Abandoned: the download was given up.
        """
        self.check()
        with self._lock:
            self._done += count
            self._moved = time.monotonic()

    def check(self, wait_s: float = 0.0) -> None:
        """Wait, and end the download if it is given up meanwhile.

        Raises:
            Abandoned: it was.
        """
        if self._abandoned.wait(wait_s):
            raise Abandoned

    def abandon(self) -> None:
        """Make the next `add` or `check` raise."""
        self._abandoned.set()

    def finish(self) -> None:
        """Say that everything is there."""
        with self._lock:
            self._total = self._done = self._total or self._done

    def progress(self) -> FetchProgress:
        """Return how far it is."""
        with self._lock:
            done = min(self._done, self._total) if self._total else self._done
            self._shown = max(self._shown, done)
            return FetchProgress(self._shown, self._total)

    def still_for_s(self) -> float:
        """Return for how many seconds nothing has moved."""
        with self._lock:
            return time.monotonic() - self._moved
