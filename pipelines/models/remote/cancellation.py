"""Requests to servers that end soon after they are cancelled."""

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

from pipelines.core.cancel import Cancelled, CancelToken

#: Seconds between two checks of the token.
_POLL_S = 0.05

Result = TypeVar("Result")


def run_cancellable(work: Coroutine[Any, Any, Result], cancel: CancelToken) -> Result:
    """Run `work` in a new event loop of this thread; cancelling it closes its connections.

    Raises:
        Cancelled: `cancel` is cancelled.
        Exception: the error of `work`.
    """

    async def watched() -> Result:
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.wait({task}, timeout=_POLL_S)
            if not task.done() and cancel.is_cancelled:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                raise Cancelled
        return task.result()

    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(watched())


class _Loop(asyncio.SelectorEventLoop):
    """Event loop that does not wait for a silent name server.

    The system call that resolves names cannot be cancelled. asyncio's executor would wait for it
    before the loop ends, for half a minute or more.
    """

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:  # type: ignore[override]
        """Call `socket.getaddrinfo` in a daemon thread."""
        answer: asyncio.Future[Any] = self.create_future()

        def settle(found: Any, error: BaseException | None) -> None:
            if answer.done():  # cancelled meanwhile
                return
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)

        def resolve() -> None:
            found, failure = None, None
            try:
                found = socket.getaddrinfo(host, port, **options)
            except Exception as error:
                failure = error
            with suppress(RuntimeError):  # the loop has ended
                self.call_soon_threadsafe(settle, found, failure)

        Thread(target=resolve, name="resolve", daemon=True).start()
        return await answer
