"""Rate limit of a public server, and its orderly shutdown."""

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

#: Queues of requests that need a model.
COSTLY = frozenset({"device", "batched", "batch"})

#: Period of the rate, in seconds.
WINDOW_S = 60.0

#: Visitors whose requests are counted; beyond, the one that asked longest ago is forgotten.
MOST_VISITORS = 10_000

_POLL_S = 0.1

#: Seconds that a client has to fetch its answer before the server ends.
_READ_S = 5.0


class RequestRefused(PipelineError):
    """A request above the rate, or during the shutdown."""


class AccessRules:
    """Rate limit by address, and whether the server shuts down."""

    def __init__(self, requests_per_minute: int = 0) -> None:
        self.limit = requests_per_minute  # to models, from one address; 0 for any number
        self._asked: dict[str, deque[float]] = {}
        self._lock = threading.Lock()
        self.closing = threading.Event()

    def admit(self, visitor: str, queue: str, now: float | None = None) -> None:
        """Count a new request of an address to the queue with this concurrency id.

        `now` is in seconds of a monotonic clock; None for the system's.

        Raises:
            RequestRefused: the server shuts down, or the visitor asked too often.
        """
        if self.closing.is_set():
            raise RequestRefused(
                "SeeSay is being restarted. Try again in a minute.", title="Restarting"
            )
        if not self.limit or queue not in COSTLY:
            return
        at = time.monotonic() if now is None else now
        with self._lock:
            times = self._asked.pop(visitor, deque())
            while times and times[0] <= at - WINDOW_S:
                times.popleft()
            self._asked[visitor] = times
            while len(self._asked) > MOST_VISITORS:
                self._asked.pop(next(iter(self._asked)))
            if len(times) >= self.limit:
                wait_s = max(1, round(times[0] + WINDOW_S - at))
                raise RequestRefused(
                    "You have asked {count} times within a minute, the most that this server "
                    "allows. Try again in {seconds} s.",
                    count=self.limit,
                    seconds=wait_s,
                    title="Too many requests",
                )
            times.append(at)


def close_on_signals(rules: AccessRules) -> None:
    """Have SIGTERM and Ctrl-C start the shutdown; a second one closes the app at once."""

    def close(*_: Any) -> None:
        if rules.closing.is_set():
            raise KeyboardInterrupt
        rules.closing.set()

    signal.signal(signal.SIGTERM, close)
    signal.signal(signal.SIGINT, close)


def serve_until_closed(app: gr.Blocks, rules: AccessRules, grace_s: float) -> None:
    """Wait for the shutdown, then close the app in order.

    Running requests may end within `grace_s` seconds; waiting and new ones are refused.
    """
    try:
        while not rules.closing.wait(1.0):
            continue
        running = len(running_events(app))
        if running:
            log.info("Closing: waiting up to %.0f s for %d requests", grace_s, running)
        end = time.monotonic() + grace_s
        while running_events(app) and time.monotonic() < end:
            time.sleep(_POLL_S)
        end = min(end, time.monotonic() + _READ_S)
        while has_unread_answers(app) and time.monotonic() < end:
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        log.info("Closing at once")
    app.close(verbose=False)
