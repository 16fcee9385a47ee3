"""Cooperative cancellation of long work."""

import threading
import time
from collections.abc import Callable

#: Seconds between two calls of a token's condition while a thread waits.
_POLL_S = 0.05


class Cancelled(BaseException):
    """The result is no longer wanted.

    Not an `Exception`, so that no handler takes it for a failure of the work.
    """


class CancelToken:
    """Tells work in other threads that its result is no longer wanted."""

    def __init__(self, condition: Callable[[], bool] | None = None) -> None:
        """Create a token that is not cancelled.

        Args:
            condition: called at every check; the token counts as cancelled while it returns True.
        """
        self._event = threading.Event()
        self._condition = condition

    @property
    def is_cancelled(self) -> bool:
        """Whether the work should end."""
        return self._event.is_set() or (self._condition is not None and self._condition())

    def cancel(self) -> None:
        """End the work at its next check; any thread may call this."""
        self._event.set()

    def check(self) -> None:
        """Raise `Cancelled` if the token is cancelled."""
        if self.is_cancelled:
            raise Cancelled

    def wait(self, seconds: float) -> None:
        """Sleep; raise `Cancelled` as soon as the token is cancelled."""
        end = time.monotonic() + seconds
        self.check()
        while (left := end - time.monotonic()) > 0:
            self._event.wait(left if self._condition is None else min(left, _POLL_S))
            self.check()


#: Token of work that nobody cancels; a default argument, never to be cancelled itself.
NEVER = CancelToken()
