"""Progress of a run, from any thread."""

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

State = Literal["running", "cancelled", "done"]

#: Seconds of the rate; long enough for a few batches of a slow model.
RATE_WINDOW_S = 60.0

#: Results of a snapshot.
NUM_RECENT = 5


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """Progress of a run.

    Attributes:
        done: results so far, those with an error included.
        total: inputs.
        errors: results with an error.
        from_model: results of the model in this run; the others were known.
        rate_per_s: images through the model per second of the last minute; None until the first
            batch is done.
        time_left_s: at that rate, if every remaining image needs the model; None without a rate.
        batch_size: images of a batch; halved when memory is short.
        recent: (name, caption or error) of the last few results, the newest last.
    """

    state: State
    done: int
    total: int
    errors: int
    from_model: int
    rate_per_s: float | None
    time_left_s: float | None
    batch_size: int
    recent: tuple[tuple[str, str], ...]


class RateMeter:
    """Counter of results; any thread may request a snapshot."""

    def __init__(self, total: int, batch_size: int) -> None:
        self._lock = threading.Lock()
        self._total = total
        self._done = self._errors = self._from_model = 0
        self._marks: deque[tuple[float, int]] = deque()
        self._recent: deque[tuple[str, str]] = deque(maxlen=NUM_RECENT)
        self.batch_size = batch_size

    def start(self) -> None:
        """Start the clock of the rate."""
        with self._lock:
            self._marks.append((time.monotonic(), self._from_model))

    def batch(self, size: int) -> None:
        """Count images that went through the model."""
        with self._lock:
            self._from_model += size
            now = time.monotonic()
            self._marks.append((now, self._from_model))
            while len(self._marks) > 2 and self._marks[1][0] < now - RATE_WINDOW_S:
                self._marks.popleft()

    def result(self, name: str, text: str, failed: bool) -> None:
        """Count one result."""
        with self._lock:
            self._done += 1
            self._errors += failed
            self._recent.append((name, text))

    def snapshot(self, cancelled: bool) -> RunProgress:
        """Return the current progress of a run that is `cancelled` or not."""
        with self._lock:
            rate = self._rate()
            left = self._total - self._done
            return RunProgress(
                state="done" if not left else "cancelled" if cancelled else "running",
                done=self._done,
                total=self._total,
                errors=self._errors,
                from_model=self._from_model,
                rate_per_s=rate,
                time_left_s=left / rate if rate else None,
                batch_size=self.batch_size,
                recent=tuple(self._recent),
            )

    def _rate(self) -> float | None:
        if len(self._marks) < 2:
            return None
        (first_s, first), (last_s, last) = self._marks[0], self._marks[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else None
