"""Encoded clips, kept: found by content, bounded in bytes, each encoded once at a time."""

import threading
from collections.abc import Callable, Mapping, Sequence

import torch

from pipelines.compute.lru import Recent
from pipelines.core.cancel import ShouldStop, Stopped

#: Seconds between two looks at whether somebody who waits was told to stop.
_LOOK_S = 0.05


class ClipFeatures:
    """Keeps the (64, D) rows of the clips that were used last, on the CPU.

    Any number of threads may ask: a clip that one of them encodes, the others wait for.
    """

    def __init__(self, max_bytes: int) -> None:
        """Keep at most so many bytes."""
        self._kept: Recent[str, torch.Tensor] = Recent(max_bytes, lambda rows: rows.nbytes)
        self._running: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def find(self, key: str) -> torch.Tensor | None:
        """Return the rows of a clip, or None where they are not kept."""
        return self._kept.find(key)

    def missing(self, keys: Sequence[str]) -> int:
        """Return how many clips are not kept."""
        return sum(self._kept.find(key) is None for key in keys)

    def get(
        self, key: str, encode: Callable[[], torch.Tensor], should_stop: ShouldStop
    ) -> torch.Tensor:
        """Return the rows of a clip, which `encode` makes where they are not kept.

        Raises:
            Stopped: `should_stop` said yes while another thread's work was waited for.
        """
        while True:
            with self._lock:
                found = self._kept.find(key)
                if found is not None:
                    return found
                running = self._running.get(key)
                if running is None:
                    mine = self._running[key] = threading.Event()
                    break
            if not running.wait(_LOOK_S) and should_stop():
                raise Stopped
        try:
            rows = encode()
            self._kept.keep(key, rows)
            return rows
        finally:
            with self._lock:
                del self._running[key]
            mine.set()

    def held(self) -> dict[str, torch.Tensor]:
        """Return what is kept, by clip."""
        return self._kept.values()

    def take(self, values: Mapping[str, torch.Tensor]) -> None:
        """Keep clips that another process has encoded; see `pipelines.kept`."""
        for key, rows in values.items():
            self._kept.keep(key, rows)

    def move_in(self, kind: str) -> None:
        """Nothing to do: rows are kept on the CPU."""

    def clear(self) -> None:
        """Give the memory back."""
        self._kept.clear()

    @property
    def num_bytes(self) -> int:
        """Bytes that are kept."""
        return self._kept.weight
