"""Rules of the house for a server that strangers use: how often one may ask, and how it closes."""

import logging
import signal
import threading
import time
from collections import deque
from typing import Any

import gradio as gr

from components.server.gradio_internals import has_unread_answers, running_events
from pipelines.core.errors import PipelineError

log = logging.getLogger(__name__)

#: Queues whose events ask a model; all others only change the page or look something up.
COSTLY = frozenset({"device", "batched", "batch"})

#: Seconds that a rate is counted over.
WINDOW_S = 60.0

#: Visitors that are remembered; the one heard of longest ago goes first.
MOST_VISITORS = 10_000

_LOOK_S = 0.1

#: Seconds that a client has to fetch its answer before the server ends.
_READ_S = 5.0


class RequestRefused(PipelineError):
    """A request that the rules turn away."""


class AccessRules:
    """Counts what visitors ask for and knows whether the house is closing."""

    def __init__(self, requests_per_minute: int = 0) -> None:
        """Allow so many questions to models from one address within a minute; 0 for any number."""
        self._limit = requests_per_minute
        self._asked: dict[str, deque[float]] = {}
        self._lock = threading.Lock()
        self.closing = threading.Event()

    def let_in(self, visitor: str, queue: str, now: float | None = None) -> None:
        """Let a new request in.

        Args:
            visitor: the address that it comes from.
            queue: the concurrency id of its event.
            now: seconds on any clock that does not go back; the system's when None.

        Raises:
            Refused: the house is closing, or the visitor asked too often.
        """
        if self.closing.is_set():
            raise RequestRefused(
                "SeeSay is being restarted. Try again in a minute.", title="Restarting"
            )
        if not self._limit or queue not in COSTLY:
            return
        at = time.monotonic() if now is None else now
        with self._lock:
            times = self._asked.pop(visitor, deque())
            while times and times[0] <= at - WINDOW_S:
                times.popleft()
            self._asked[visitor] = times
            while len(self._asked) > MOST_VISITORS:
                self._asked.pop(next(iter(self._asked)))
            if len(times) >= self._limit:
                wait_s = max(1, round(times[0] + WINDOW_S - at))
                raise RequestRefused(
                    "You have asked {count} times within a minute, the most that this server "
                    "allows. Try again in {seconds} s.",
                    count=self._limit,
                    seconds=wait_s,
                    title="Too many requests",
                )
            times.append(at)


def close_on_signals(house: AccessRules) -> None:
    """From now on SIGTERM and Ctrl-C close the house; a second one ends the wait for what runs."""

    def close(*_: Any) -> None:
        if house.closing.is_set():
            raise KeyboardInterrupt
        house.closing.set()

    signal.signal(signal.SIGTERM, close)
    signal.signal(signal.SIGINT, close)


def serve_until_closed(app: gr.Blocks, house: AccessRules, grace_s: float) -> None:
    """Wait until the house closes, then end in order.

    What runs may end within `grace_s` seconds; what waits or is new is refused in one sentence.
    """
    try:
        while not house.closing.wait(1.0):
            continue
        running = len(running_events(app))
        if running:
            log.info("Closing: waiting up to %.0f s for %d requests", grace_s, running)
        end = time.monotonic() + grace_s
        while running_events(app) and time.monotonic() < end:
            time.sleep(_LOOK_S)
        end = min(end, time.monotonic() + _READ_S)
        while has_unread_answers(app) and time.monotonic() < end:
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        log.info("Closing at once")
    app.close(verbose=False)
