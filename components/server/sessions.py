"""Deletion of old sessions: Gradio itself keeps the last 10,000 for as long as it runs.

A session holds a description of every component of the page, about half a megabyte, and the
results of its visitor.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from components.server.gradio_internals import SessionState, StateHolder, running_events

log = logging.getLogger(__name__)

#: Seconds between two checks.
EVERY_S = 15.0

#: Most sessions that are kept, without those that are being answered.
MOST_VISITS = 1000


@dataclass(frozen=True)
class SessionAges:
    """Seconds that a session is kept since its last request and the closing of its page."""

    plain: float = 60.0  # without data of its own: the next request makes an equal one
    left: float = 600.0  # of a closed page without results
    found: float = 3600.0  # with results, for who returns from sleep or a lost connection
    any: float = 86400.0  # of an open page


@asynccontextmanager
async def forget_visits(app: Any) -> AsyncIterator[None]:
    """Delete old sessions for as long as `app`, Gradio's server, runs."""
    task = asyncio.create_task(_forget_for_ever(app.state_holder))
    try:
        yield
    finally:
        task.cancel()


async def _forget_for_ever(holder: StateHolder) -> None:
    """Delete old sessions now and then, on the event loop, where requests use them."""
    closed: dict[str, datetime] = {}
    while True:
        try:
            forget(holder, datetime.now(), closed)
        except Exception:  # the next check may succeed
            log.exception("Old sessions could not be deleted")
        await asyncio.sleep(EVERY_S)


def forget(
    holder: StateHolder,
    now: datetime,
    closed: dict[str, datetime],
    ages: SessionAges = SessionAges(),
    most: int = MOST_VISITS,
) -> int:
    """Delete old sessions, but none that is being answered; returns the number of them.

    Args:
        holder: all of Gradio's sessions; called on its event loop.
        now: local time.
        closed: when pages were closed; updated here.
        ages: how long sessions are kept.
        most: how many are kept; beyond, those with least data and the oldest are deleted.
    """
    visits = holder.session_data
    for name, session in visits.items():
        if session.is_closed:
            closed.setdefault(name, now)
        else:
            closed.pop(name, None)
    answered = {event.session_hash for job in running_events(holder.blocks) for event in job}
    # of each that is not being answered: how long it is kept, and when it was last used
    kept = {
        name: (
            _age(session, holder, ages),
            max(holder.time_last_used.get(name, datetime.min), closed.get(name, datetime.min)),
        )
        for name, session in visits.items()
        if name not in answered
    }
    over = {name for name, (age, unused) in kept.items() if (now - unused).total_seconds() >= age}
    in_order = sorted(kept.keys() - over, key=kept.__getitem__)
    over.update(in_order[: max(0, len(visits) - len(over) - most)])
    for name in over:
        holder.delete_state(name)
        del visits[name]
        holder.time_last_used.pop(name, None)
        closed.pop(name, None)
    return len(over)


def _age(session: SessionState, holder: StateHolder, ages: SessionAges) -> float:
    drawn = holder.blocks.default_config.blocks
    own = session.blocks_config.blocks
    if not session.state_data and all(own[key] is drawn.get(key) for key in own):
        return ages.plain
    if not session.is_closed:
        return ages.any
    return ages.found if session.state_data else ages.left
