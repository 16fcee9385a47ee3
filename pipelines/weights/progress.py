"""Progress of a download."""

import threading
import time
from dataclasses import dataclass

from pipelines.core.cancel import CancelToken
from pipelines.core.messages import Message


@dataclass(frozen=True)
class FetchProgress:
    """Progress of a download; bytes on disk never decrease, a total of 0 is unknown."""

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
    """Counts the bytes of one download; `cancel` ends it at its next `add`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._shown = 0
        self._total = 0
        self._moved = time.monotonic()
        self.cancel = CancelToken()

    def expect(self, total: int) -> None:
        """Set the total size."""
        with self._lock:
            self._total = total
            self._moved = time.monotonic()

    def add(self, count: int) -> None:
        """Add received bytes; 0 is a heartbeat, a negative number means discarded bytes.

        Raises:
            Cancelled: `cancel` is cancelled.
        """
        self.cancel.check()
        with self._lock:
            self._done += count
            self._moved = time.monotonic()

    def finish(self) -> None:
        """Set the download as complete."""
        with self._lock:
            self._total = self._done = self._total or self._done

    def progress(self) -> FetchProgress:
        """Return the progress."""
        with self._lock:
            done = min(self._done, self._total) if self._total else self._done
            self._shown = max(self._shown, done)
            return FetchProgress(self._shown, self._total)

    def still_for_s(self) -> float:
        """Return the seconds since the last call of `add` or `expect`."""
        with self._lock:
            return time.monotonic() - self._moved
