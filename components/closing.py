"""Generators of requests that were stopped are closed in threads, not on the event loop."""

import time
from typing import Any

import anyio
from gradio import utils


async def close_in_thread(self: Any, timeout: float = 60.0, retry_interval: float = 0.05) -> None:
    """Close the generator of a request, as `gradio.utils.SyncToAsyncIterator.aclose` does.

    Closing waits for the work to end, up to a step of a model; on the event loop every other
    visitor would wait with it.

    Args:
        self: the iterator whose `iterator` is closed.
        timeout: seconds for a worker thread to leave it.
        retry_interval: seconds between two tries.

    Raises:
        ValueError: a worker thread did not leave it in time.
    """

    def close() -> None:
        end = time.monotonic() + timeout
        while True:
            try:
                self.iterator.close()
                return
            except ValueError as error:
                if "executing" not in str(error) or time.monotonic() >= end:
                    raise
            time.sleep(retry_interval)

    limiter = anyio.CapacityLimiter(1)  # of its own: the common one may be full
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(close, limiter=limiter)


def close_off_the_loop() -> None:
    """Have Gradio close generators with `close_in_thread`."""
    utils.SyncToAsyncIterator.aclose = close_in_thread  # type: ignore[method-assign]
