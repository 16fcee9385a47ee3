"""What is told to whom comes while as many requests wait as may.

Gradio answers with status 503 and words of its own, in place of which its clients put others of
theirs. Here such a request is answered as any that fails: by a sentence of ours, in its stream.
"""

import asyncio
from typing import Any

import gradio as gr
from gradio.queueing import Event, Queue
from gradio.route_utils import get_fn
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import error_payload

from components.server.translate import chosen_language, say, speaking

#: Seconds within which a client fetches what it is told, and how many may not have done so yet;
#: of more, each gets Gradio's own answer.
TOLD_S = 60.0
MOST_TOLD = 1000

Pushed = tuple[bool, str, str]


async def answer_when_full(
    queue: Queue, body: Any, request: Any, username: str | None, told: str
) -> Pushed:
    """Tell who sent a request what keeps it out; returns what pushing it comes to."""
    if len(queue.pending_event_ids_session) >= MOST_TOLD:
        return False, told, "queue_full"
    event = Event(body.session_hash, get_fn(queue.blocks, None, body), request, username)
    with speaking(chosen_language(request.headers.get("accept-language", ""))):
        error = gr.Error(say(told), title=say("Server busy"), print_exception=False)
    await _tell(queue, event, error)
    return True, event._id, "success"


async def _tell(queue: Queue, event: Event, error: gr.Error) -> None:
    """Put an error into the stream of the client that sent `event`, for as long as it may come."""
    visit = event.session_hash
    async with queue.pending_message_lock:
        if visit not in queue.pending_messages_per_session:
            queue.pending_messages_per_session[visit] = asyncio.Queue()
        queue.pending_event_ids_session.setdefault(visit, set()).add(event._id)
    told = error_payload(error, show_error=False)
    message = ProcessCompletedMessage(output=told, success=False, title=error.title)
    queue.send_message(event, message)
    asyncio.get_running_loop().call_later(TOLD_S, _forget, queue, visit, event._id)


def _forget(queue: Queue, visit: str, event_id: str) -> None:
    """Let go of what a client was told, and of its visit if nothing else is on its way to it."""
    waiting = queue.pending_event_ids_session.get(visit, set())
    waiting.discard(event_id)
    if not waiting:
        queue.pending_event_ids_session.pop(visit, None)
        queue.pending_messages_per_session.pop(visit, None)
