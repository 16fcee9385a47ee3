"""What is told to whom comes while as many requests wait as may.

Gradio answers with status 503 and words of its own, in place of which its clients put others of
theirs. Here such a request is answered as any that fails: by a sentence of ours, in its stream.
"""

import asyncio
from typing import Any

from gradio.queueing import Event, Queue
from gradio.route_utils import get_fn
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import error_payload

from components.errors import said_error
from components.language import chosen_language, speaking

#: Seconds within which a client fetches what it is told.
TOLD_S = 60.0


def tell_when_full(queue: Queue) -> None:
    """From now on `queue` tells in a sentence that it is full."""
    push = queue.push

    async def push_or_tell(body: Any, request: Any, username: str | None) -> Any:
        answer = await push(body, request, username)
        if answer[2] != "queue_full":
            return answer
        event = Event(body.session_hash, get_fn(queue.blocks, None, body), request, username)
        with speaking(chosen_language(request.headers.get("accept-language", ""))):
            error = said_error(
                f"The queue is full: {queue.max_size} requests are waiting, the most that may. Try "
                "again in a minute.",
                "Server busy",
            )
        await _tell(queue, event, error)
        return True, event._id, "success"

    queue.push = push_or_tell  # type: ignore[method-assign]


async def _tell(queue: Queue, event: Event, error: Exception) -> None:
    """Put an error into the stream of the client that sent `event`, for as long as it may come."""
    visit = event.session_hash
    async with queue.pending_message_lock:
        if visit not in queue.pending_messages_per_session:
            queue.pending_messages_per_session[visit] = asyncio.Queue()
        queue.pending_event_ids_session.setdefault(visit, set()).add(event._id)
    told = error_payload(error, show_error=False)
    queue.send_message(event, ProcessCompletedMessage(output=told, success=False))
    asyncio.get_running_loop().call_later(TOLD_S, _forget, queue, visit, event._id)


def _forget(queue: Queue, visit: str, event_id: str) -> None:
    """Let go of what a client has not fetched."""
    waiting = queue.pending_event_ids_session.get(visit, set())
    if event_id not in waiting:
        return
    waiting.discard(event_id)
    if not waiting:
        del queue.pending_event_ids_session[visit]
        queue.pending_messages_per_session.pop(visit, None)
