"""Cooperative cancellation of long work."""

import threading
import time
from collections.abc import Callable

#: Seconds between two calls of a token's condition during `wait`.
_POLL_S = 0.05


class Cancelled(BaseException):
    """Raised in cancelled work; not an `Exception`, so that handlers of failures ignore it."""


class CancelToken:
    """Cancellation flag for work in other threads."""

    def __init__(self, condition: Callable[[], bool] | None = None) -> None:
        """Create a token; it also counts as cancelled while `condition()` is true."""
        self._event = threading.Event()
        self._condition = condition

    @property
    def is_cancelled(self) -> bool:
        """Return whether the work should end."""
        return self._event.is_set() or (self._condition is not None and self._condition())

    def cancel(self) -> None:
        """Cancel the token, from any thread; the work ends at its next check."""
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


#: Default argument for work that is never cancelled; do not cancel it.
NEVER = CancelToken()
