"""Visits that are over are given up: Gradio by itself keeps the last 10,000 for as long as it runs.

For each visit it holds a description of every component of the page, about half a megabyte, and
what the visitor had found.
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

#: Seconds between two looks.
EVERY_S = 15.0

#: Visits that are kept at most, but those that are being answered.
MOST_VISITS = 1000


@dataclass(frozen=True)
class SessionAges:
    """Seconds after which a visit is over: since its last request, and since its page was closed.

    Attributes:
        plain: of one that holds nothing of its own: the next request of the same visitor finds
            one that is equal to it.
        left: of a page that was closed, and had found nothing.
        found: of a page that was closed and had found something; who comes back until then, from
            sleep or a lost connection, finds it still.
        any: of a page that nobody closed.
    """

    plain: float = 60.0
    left: float = 600.0
    found: float = 3600.0
    any: float = 86400.0


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
    closed: dict[str, datetime] = {}
    while True:
        try:
            forget(holder, datetime.now(), closed)
        except Exception:  # the next look may fare better
            log.exception("Visits that are over could not be given up")
        await asyncio.sleep(EVERY_S)


def forget(
    holder: StateHolder,
    now: datetime,
    closed: dict[str, datetime],
    ages: SessionAges = SessionAges(),
    most: int = MOST_VISITS,
) -> int:
    """Give up visits that are over; one that is being answered is not.

    Args:
        holder: all of Gradio's visits; called on its event loop.
        now: local time, as Gradio notes it.
        closed: since when pages are closed; kept up to date here.
        ages: how long each is kept.
        most: how many are kept; beyond, those go that hold least and were used longest ago.

    Returns:
        how many were given up.
    """
    visits = holder.session_data
    for name, session in visits.items():
        if session.is_closed:
            closed.setdefault(name, now)
        else:
            closed.pop(name, None)
    answered = {event.session_hash for job in running_events(holder.blocks) for event in job}
    # of each that nobody answers just now: how long it is kept, and since when it is unused
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
    """Return how long a visit is kept."""
    drawn = holder.blocks.default_config.blocks
    own = session.blocks_config.blocks
    if not session.state_data and all(own[key] is drawn.get(key) for key in own):
        return ages.plain
    if not session.is_closed:
        return ages.any
    return ages.found if session.state_data else ages.left
