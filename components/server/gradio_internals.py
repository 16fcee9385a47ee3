"""Gradio's internals that the app uses, in one place.

They are no public interface of Gradio. `tests/components/server/test_gradio_internals.py` checks
that each exists in the pinned version and works as assumed here.
"""

import functools
import time
from abc import ABCMeta
from collections.abc import Callable
from typing import Any, NoReturn

import anyio
import gradio as gr
from gradio import processing_utils, utils
from gradio.component_meta import ComponentMeta
from gradio.exceptions import ComponentProcessingError
from gradio.queueing import Event, EventQueue, Queue
from gradio.route_utils import CustomCORSMiddleware, get_fn
from gradio.server_messages import ProcessCompletedMessage
from gradio.state_holder import SessionState, StateHolder
from gradio.utils import LRUCache, error_payload
from gradio_client.utils import strip_invalid_filename_characters, traverse

__all__ = [
    "ComponentProcessingError",
    "Event",
    "EventQueue",
    "LRUCache",
    "ProcessCompletedMessage",
    "Queue",
    "SessionState",
    "StateHolder",
    "error_payload",
    "get_fn",
    "strip_invalid_filename_characters",
    "traverse",
]

#: Attributes and methods that the app reads, calls or overrides, by class.
USED: dict[type, str] = {
    gr.Blocks: "_queue config default_config fns local_url mcp_server_obj postprocess_data"
    " preprocess_data process_api queue",
    Queue: "ANALYTICS_MAX_EVENTS ANAYLTICS_CACHE_FREQUENCY active_jobs blocks broadcast_estimations"
    " create_event_queue_for_fn"
    " default_concurrency_limit event_queue_per_concurrency_id get_events live_updates max_size"
    " max_thread_count pending_event_ids_session pending_message_lock"
    " pending_messages_per_session push send_message update_intervals",
    EventQueue: "concurrency_id concurrency_limit current_concurrency queue",
    Event: "_id concurrency_id fn request session_hash",
    StateHolder: "blocks delete_state session_data time_last_used",
    SessionState: "blocks_config is_closed state_data",
}

API = "/gradio_api/"

#: Header of requests that come through the MCP server, and its value.
AGENT_HEADER, AGENT = "x-gradio-user", "mcp"

#: Where uploads are served.
FILE_ROUTE = f"{API}file="

#: Where files are uploaded; and where the drawings of a canvas and recordings are.
UPLOAD_ROUTE = f"{API}upload"
COMPONENT_ROUTES = frozenset({f"{API}component_server", f"{API}process_recording"})


def event_of(blocks: gr.Blocks, event: Any) -> Any:
    """Return the event listener of a request, which Gradio names by number or hands over."""
    return blocks.fns[event] if isinstance(event, int) else event


def queue_of(blocks: gr.Blocks) -> Queue:
    """Return the queue of requests."""
    return blocks._queue


def set_queue(blocks: gr.Blocks, queue: Queue) -> None:
    """Replace the queue of requests, before any came."""
    blocks._queue = queue


def has_unread_answers(blocks: gr.Blocks) -> bool:
    """Return whether a client has not yet fetched the end of its request."""
    return any(queue_of(blocks).pending_event_ids_session.values())


def running_events(blocks: gr.Blocks) -> list[list[Event]]:
    """Return the requests of each worker that has something to do."""
    return [job for job in blocks._queue.active_jobs if job]


async def close_in_thread(self: Any, timeout: float = 60.0, retry_interval: float = 0.05) -> None:
    """Close the generator of a request, as `gradio.utils.SyncToAsyncIterator.aclose` does.

    Closing waits for the work to end, up to a step of a model; on the event loop every other
    visitor would wait with it. The times are in seconds: for a worker thread to leave the
    generator, and between two tries.

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


async def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise ValueError("links are fetched by components.server.uploads only")


def forbid_fetching() -> None:
    """Keep Gradio from fetching links: it bounds neither size nor time.

    That also ends `/gradio_api/file=https://...`, through which anybody could make the server
    send requests to others.
    """
    processing_utils.async_ssrf_protected_download = _refuse
    processing_utils.async_ssrf_protected_get = _refuse
    processing_utils.sh.async_validate_url = _refuse


def restrict_origins(allows: Callable[[Any], bool]) -> None:
    """Have Gradio's CORS headers admit an origin only if `allows(headers)` does.

    Gradio itself admits every origin with credentials, unless it is asked as localhost.
    """

    def is_valid_origin(self: CustomCORSMiddleware, request_headers: Any) -> bool:
        return allows(request_headers)

    CustomCORSMiddleware.is_valid_origin = is_valid_origin  # type: ignore[method-assign]


def hash_link(link: str) -> str:
    """Return the name of the folder in which Gradio keeps the file of a link."""
    return str(processing_utils.hash_url(link))


def accept_mcp_bodies(max_bytes: int) -> None:
    """Have MCP servers that are made from now on take request bodies of so many bytes.

    Their own limit of 4 MB is less than many an image in base64 has.
    """
    from gradio.mcp import GradioMCPServer
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    manager: Any = functools.partial(StreamableHTTPSessionManager, max_request_body_size=max_bytes)
    GradioMCPServer.StreamableHTTPSessionManager = staticmethod(manager)  # type: ignore[misc,assignment]


def mcp_server_of(app: Any) -> Any:
    """Return the MCP server of Gradio's web server, None without one."""
    return app.get_blocks().mcp_server_obj


def move_states_out(tabs: gr.Tabs, page: gr.Blocks) -> None:
    """Move states that stand between tabs to the end of the page.

    Gradio numbers tabs by their place among all children, so that a state between two of them
    makes one show twice; inside a tab a browser's state is not read until the tab is opened.
    """
    for child in [child for child in tabs.children if not isinstance(child, gr.Tab)]:
        tabs.children.remove(child)
        page.children.append(child)
        child.parent = page


class WithoutStub(ComponentMeta):
    """Metaclass of a component that writes no type stub beside its module, as Gradio's does."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        return ABCMeta.__new__(cls, name, bases, attrs)
