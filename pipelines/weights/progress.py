"""Progress of a download."""

import threading
import time
from dataclasses import dataclass

from pipelines.core.cancel import CancelToken
from pipelines.core.messages import Message


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

    def message(self, title: str) -> Message:
        """Return it as a line about the model of this title."""
        return Message(
            "Downloading {model}: {done:,.0f} of {total:,.0f} MB",
            model=Message(title),
            done=self.done_bytes / 1e6,
            total=self.total_bytes / 1e6,
        )


class DownloadMeter:
    """Counts the bytes of one download.

    Attributes:
        cancel: ends the download at its next `add`.
    """

    def __init__(self) -> None:
        """Start at nothing."""
        self._lock = threading.Lock()
        self._done = 0
        self._shown = 0
        self._total = 0
        self._moved = time.monotonic()
        self.cancel = CancelToken()

    def expect(self, total: int) -> None:
        """Say how many bytes there will be."""
        with self._lock:
            self._total = total
            self._moved = time.monotonic()

    def add(self, count: int) -> None:
        """Say that `count` more bytes are there; 0 for a sign of life, less where some are lost.

        Raises:
            Cancelled: `cancel` is cancelled.
        """
        self.cancel.check()
        with self._lock:
            self._done += count
            self._moved = time.monotonic()

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
