"""How often models are used and how it ends: counts only, nothing of what was asked. Torch-free."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipelines.core.errors import PipelineError


@dataclass(frozen=True)
class Use:
    """The uses of one model so far.

    Attributes:
        now: requests that use it at this moment.
        seconds: how long those that ended held it, together.
        ended: (outcome, how many): "ok", "left" (the visitor stopped or went away), "refused"
            (an error of the family, such as bad input) or "failed".
    """

    now: int
    seconds: float
    ended: tuple[tuple[str, int], ...]


@dataclass
class _Tally:
    now: int = 0
    seconds: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)


class Metrics:
    """Counts uses of models; any number of threads may call it."""

    def __init__(self) -> None:
        """Nothing was used yet."""
        self._lock = threading.Lock()
        self._models: dict[str, _Tally] = {}

    @contextmanager
    def counted(self, key: str) -> Iterator[None]:
        """Count the block as one use of a model."""
        start, outcome = time.monotonic(), "ok"
        with self._lock:
            self._models.setdefault(key, _Tally()).now += 1
        try:
            yield
        except PipelineError:
            outcome = "refused"
            raise
        except Exception:
            outcome = "failed"
            raise
        except BaseException:  # GeneratorExit: nobody listens any more
            outcome = "left"
            raise
        finally:
            with self._lock:
                tally = self._models[key]
                tally.now -= 1
                tally.seconds += time.monotonic() - start
                tally.ended[outcome] += 1

    def snapshot(self) -> list[tuple[str, Use]]:
        """Return (key, uses so far) of every model that was used, by key."""
        with self._lock:
            return [
                (key, Use(tally.now, tally.seconds, tuple(sorted(tally.ended.items()))))
                for key, tally in sorted(self._models.items())
            ]
