"""Visits that are over are given up: Gradio by itself keeps the last 10,000 for as long as it runs.

For each visit it holds a description of every component of the page, about half a megabyte, and
what the visitor had found.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from gradio.state_holder import SessionState, StateHolder

log = logging.getLogger(__name__)

#: Seconds between two looks.
EVERY_S = 15.0

#: Seconds without a request after which a visit goes that holds nothing of its own: the next
#: request of the same visitor finds one that is equal to it.
UNUSED_S = 60.0

#: Seconds after which a visit goes that was left; until then who comes back finds what was found.
LEFT_S = 3600.0


@asynccontextmanager
async def forget_visits(app: Any) -> AsyncIterator[None]:
    """Give up visits that are over, for as long as `app`, Gradio's server, runs."""
    task = asyncio.create_task(_forget_for_ever(app.state_holder))
    try:
        yield
    finally:
        task.cancel()


async def _forget_for_ever(holder: StateHolder) -> None:
    """Look again and again; on the event loop, where all requests look their visits up."""
    while True:
        try:
            forget(holder, datetime.now())
        except Exception:  # the next look may fare better
            log.exception("Visits that are over could not be given up")
        await asyncio.sleep(EVERY_S)


def forget(
    holder: StateHolder, now: datetime, unused_s: float = UNUSED_S, left_s: float = LEFT_S
) -> int:
    """Give up visits that are over.

    Args:
        holder: all of Gradio's visits; called on its event loop.
        now: local time, as Gradio notes it.
        unused_s: seconds without a request after which a visit goes that holds nothing.
        left_s: seconds without a request after which any goes whose page was closed.

    Returns:
        how many were given up.
    """
    over = []
    for name, session in holder.session_data.items():
        used = holder.time_last_used.get(name)
        unused_for_s = left_s if used is None else (now - used).total_seconds()
        if (session.is_closed and unused_for_s >= left_s) or (
            unused_for_s >= unused_s and not _holds_anything(session, holder)
        ):
            over.append(name)
    for name in over:
        holder.delete_state(name)
        del holder.session_data[name]
        holder.time_last_used.pop(name, None)
    return len(over)


def _holds_anything(session: SessionState, holder: StateHolder) -> bool:
    """Whether the visit differs from a new one."""
    drawn = holder.blocks.default_config.blocks
    own = session.blocks_config.blocks
    return bool(session.state_data) or any(own[key] is not drawn.get(key) for key in own)
