"""Gradio's queue with fair turns for visitors and bounded memory."""

import asyncio
import random
import sys
from collections import Counter
from typing import Any

import gradio as gr

from components.server.gradio_internals import (
    AGENT,
    AGENT_HEADER,
    Event,
    EventQueue,
    LRUCache,
    ProcessCompletedMessage,
    Queue,
    error_payload,
    get_fn,
)
from components.server.translate import chosen_language, say, speaking
from pipelines.core.messages import Message
from pipelines.core.visitor import queue_position

#: Seconds that a refusal waits for its client to fetch it, and most refusals that wait; beyond,
#: a client gets Gradio's own answer.
REFUSAL_S = 60.0
MOST_REFUSALS = 1000


async def answer_when_full(
    queue: Queue, body: Any, request: Any, username: str | None, told: str
) -> tuple[bool, str, str]:
    """Send a refusal to the client of a request; returns the result of `Queue.push`."""
    if len(queue.pending_event_ids_session) >= MOST_REFUSALS:
        return False, told, "queue_full"
    event = Event(body.session_hash, get_fn(queue.blocks, None, body), request, username)
    with speaking(chosen_language(request.headers.get("accept-language", ""))):
        error = gr.Error(say(told), title=say("Server busy"), print_exception=False)
    visit = event.session_hash
    async with queue.pending_message_lock:
        if visit not in queue.pending_messages_per_session:
            queue.pending_messages_per_session[visit] = asyncio.Queue()
        queue.pending_event_ids_session.setdefault(visit, set()).add(event._id)
    output = error_payload(error, show_error=False)
    queue.send_message(
        event, ProcessCompletedMessage(output=output, success=False, title=error.title)
    )
    asyncio.get_running_loop().call_later(REFUSAL_S, _forget, queue, visit, event._id)
    return True, event._id, "success"


def _forget(queue: Queue, visit: str, event_id: str) -> None:
    """Delete a refusal, and the session of its client if no other message waits for it."""
    waiting = queue.pending_event_ids_session.get(visit, set())
    waiting.discard(event_id)
    if not waiting:
        queue.pending_event_ids_session.pop(visit, None)
        queue.pending_messages_per_session.pop(visit, None)


#: Sessions whose messages wait to be fetched; beyond, the oldest are deleted.
MOST_READERS = 20_000


def is_agent(request: Any) -> bool:
    """Return whether a request comes through the MCP server, which has one session for all."""
    return bool(getattr(request, "headers", {}).get(AGENT_HEADER) == AGENT)


def visitor_of(event: Event) -> str:
    """Return the visitor of a request: its session; each request of an agent is a visitor."""
    return event._id if is_agent(event.request) else event.session_hash


class FairLine(list[Event]):
    """Requests that wait in one queue; a new one is inserted where its visitor has a turn."""

    newest = 0  # position at which the last request was inserted

    def append(self, event: Event) -> None:
        """Insert a new request."""
        line = [visitor_of(waiting) for waiting in self]
        self.newest = queue_position(line, visitor_of(event)) if line else 0
        self.insert(self.newest, event)


class FairQueue(Queue):
    """Gradio's queue with fair lines, and without its statistics.

    One visitor has at most half of the workers of a queue and half of the places to wait. Gradio
    itself keeps the last 10,000 requests with their sessions, and makes tables of them after each,
    for a page that is not served here.
    """

    @classmethod
    def of(cls, queue: Queue) -> "FairQueue":
        """Return a fair queue with the settings of an unused plain one."""
        fair = cls(
            live_updates=queue.live_updates,
            concurrency_count=queue.max_thread_count,
            update_intervals=queue.update_intervals,
            max_size=queue.max_size,
            blocks=queue.blocks,
            default_concurrency_limit=queue.default_concurrency_limit,
        )
        fair.ANALYTICS_MAX_EVENTS = 1
        fair.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize  # requests between two tables
        fair.pending_messages_per_session = LRUCache(MOST_READERS)
        return fair

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Queue a request; refuse it where the queue or the visitor's half of it is full."""
        if self.max_size is None or body.fn_index is None:
            return await super().push(body, request, username)
        full, most = len(self) >= self.max_size, max(1, self.max_size // 2)
        waiting = (e for line in self.event_queue_per_concurrency_id.values() for e in line.queue)
        own = sum(visitor_of(event) == body.session_hash for event in waiting)
        if not full and own < most:
            return await super().push(body, request, username)
        told = Message(
            "The queue is full for you: {count} of your requests are waiting, half of all "
            "places. Go on when some of them are answered.",
            count=most,
        )
        if full:
            told = Message(
                "The queue is full: {count} requests are waiting, which is the limit. Try again "
                "in a minute.",
                count=self.max_size,
            )
        return await answer_when_full(self, body, request, username, told)

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """Return the next request of any queue with a free worker, or None."""
        kinds = list(self.event_queue_per_concurrency_id.values())
        random.shuffle(kinds)
        for kind in kinds:
            event = self._next(kind)
            if event is not None:
                kind.queue.remove(event)
                return [event], event.fn.batch, kind.concurrency_id
        return None

    def _next(self, kind: EventQueue) -> Event | None:
        """Return the next request of a queue, without visitors who have half of its workers."""
        limit = kind.concurrency_limit
        if not kind.queue or limit is None:
            return kind.queue[0] if kind.queue else None
        if kind.current_concurrency >= limit:
            return None
        running = (event for job in self.active_jobs for event in job or ())
        held = Counter(visitor_of(e) for e in running if e.concurrency_id == kind.concurrency_id)
        most = max(1, limit // 2)
        return next((event for event in kind.queue if held[visitor_of(event)] < most), None)

    def broadcast_estimations(self, concurrency_id: str, after: int | None = None) -> None:
        """Send waiting clients their position: from that of a new request on."""
        line = self.event_queue_per_concurrency_id[concurrency_id].queue
        if after is not None and isinstance(line, FairLine):
            after = min(after, line.newest)
        super().broadcast_estimations(concurrency_id, after)

    def send_message(self, event: Event, event_message: Any) -> None:
        """Put a message where its session fetches it; a deleted session gets none."""
        if event.session_hash in self.pending_messages_per_session:
            super().send_message(event, event_message)

    def create_event_queue_for_fn(self, block_fn: Any) -> None:
        """Make the queue of a function where there is none yet."""
        super().create_event_queue_for_fn(block_fn)
        place = self.event_queue_per_concurrency_id[block_fn.concurrency_id]
        if not isinstance(place.queue, FairLine):
            place.queue = FairLine(place.queue)
