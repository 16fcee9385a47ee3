"""How much memory decoded pictures may take together; who asks for more waits for their turn."""

import threading
import time
from collections import deque

from pipelines.compute.device import machine_memory_bytes
from pipelines.core.errors import MemoryLimitError

#: Bytes of all large pictures together, and the share of the machine's memory that it may be.
MOST_BYTES = 1_000_000_000
SHARE = 0.125

#: Up to this a picture is small: it never waits and is not counted. The queue lets 32 requests
#: decode at once, so that such pictures take no more than half a gigabyte together.
SMALL_BYTES = 16_000_000

#: Seconds that a picture waits for its turn.
WAIT_S = 60.0


class Hold:
    """A part of the budget; given back once, however often it is released."""

    def __init__(self, budget: "DecodeBudget", held: int) -> None:
        """Remember how much is held."""
        self._budget = budget
        self._held = held

    def keep(self, needed: int) -> None:
        """Give back what is held beyond `needed` bytes."""
        surplus = self._held - needed
        if surplus > 0:
            self._held = needed
            self._budget.give_back(surplus)

    def release(self) -> None:
        """Give everything back."""
        self.keep(0)


class DecodeBudget:
    """A fair semaphore over bytes: first come, first served, so that a large one gets its turn.

    What needs more than there is in all runs alone.
    """

    def __init__(self, total: int) -> None:
        """Have `total` bytes to lend."""
        self.total = total
        self._free = total
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def take(self, needed: int) -> Hold:
        """Wait for a turn and `needed` bytes.

        Raises:
            MemoryLimitError: they did not come within `WAIT_S`.
        """
        if needed <= SMALL_BYTES:
            return Hold(self, 0)
        share, me = min(needed, self.total), object()
        end = time.monotonic() + WAIT_S
        with self._changed:
            self._waiting.append(me)
            try:
                while self._waiting[0] is not me or self._free < share:
                    if not self._changed.wait(end - time.monotonic()) and time.monotonic() >= end:
                        raise MemoryLimitError(
                            f"This picture needs {needed / 1e9:.2f} GB to be decoded, but other "
                            f"pictures fill the budget of {self.total / 1e9:.2f} GB. Try again "
                            "in a moment, or send a smaller picture."
                        )
                self._free -= share
            finally:
                self._waiting.remove(me)
                self._changed.notify_all()
        return Hold(self, share)

    def give_back(self, count: int) -> None:
        """Lend `count` bytes to others."""
        with self._changed:
            self._free += count
            self._changed.notify_all()


#: The one of this process.
BUDGET = DecodeBudget(min(MOST_BYTES, int(SHARE * machine_memory_bytes())))
