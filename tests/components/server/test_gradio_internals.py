"""Gradio's internals that the app relies on are there, and work as the app assumes."""

import inspect
import re
from importlib.metadata import version
from pathlib import Path

import gradio as gr
import pytest
from gradio import processing_utils, routes
from gradio.data_classes import PredictBodyInternal
from gradio.route_utils import CustomCORSMiddleware
from starlette.requests import Request
from starlette.testclient import TestClient

from components.server import gradio_internals
from components.server.gradio_internals import (
    COMPONENT_ROUTES,
    FILE_ROUTE,
    UPLOAD_ROUTE,
    USED,
    Event,
    EventQueue,
    LRUCache,
    ProcessCompletedMessage,
    Queue,
    StateHolder,
    accept_mcp_bodies,
    error_payload,
    event_of,
    get_fn,
    hash_link,
    mcp_server_of,
    move_states_out,
    queue_of,
    running_events,
    set_queue,
    strip_invalid_filename_characters,
    traverse,
)
from components.server.uploads import is_link

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def page() -> gr.Blocks:
    with gr.Blocks() as page:
        text = gr.Textbox()
        text.submit(str.upper, text, text, api_name="shout", concurrency_id="some")
    page.queue(max_size=7)
    return page


def event(page: gr.Blocks) -> Event:
    request = Request({"type": "http", "headers": []})
    return Event("visit", event_of(page, 0), request, None)


def test_the_installed_version_is_the_pinned_one() -> None:
    pins = (ROOT / "requirements.txt").read_text("utf-8")
    assert f"\ngradio=={version('gradio')}\n" in pins


def test_every_attribute_is_there(page: gr.Blocks) -> None:
    holder = StateHolder()
    holder.set_blocks(page)
    objects = [page, queue_of(page), EventQueue("some", 1), event(page), holder, holder["visit"]]
    assert [type(one) for one in objects] == list(USED)
    for one in objects:
        lacking = [name for name in USED[type(one)].split() if not hasattr(one, name)]
        assert lacking == [], type(one).__name__


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (Queue.push, "self body request username"),
        (Queue.get_events, "self"),
        (Queue.broadcast_estimations, "self concurrency_id after"),
        (Queue.send_message, "self event event_message"),
        (Queue.create_event_queue_for_fn, "self block_fn"),
        (gr.Blocks.preprocess_data, "self block_fn inputs state explicit_call"),
        (gr.Blocks.postprocess_data, "self block_fn predictions state"),
        (processing_utils.async_ssrf_protected_download, "url cache_dir"),
        (processing_utils.async_ssrf_protected_get, "url"),
        (CustomCORSMiddleware.is_valid_origin, "self request_headers"),
        (StateHolder.delete_state, "self session_id expired_only"),
    ],
)
def test_what_is_overridden_has_the_same_parameters(method: object, parameters: str) -> None:
    assert list(inspect.signature(method).parameters) == parameters.split()  # type: ignore[arg-type]


def test_process_api_takes_what_the_page_hands_on() -> None:
    first = ["self", "block_fn", "inputs", "state", "request", "iterator"]
    assert list(inspect.signature(gr.Blocks.process_api).parameters)[:6] == first


def test_the_queue_of_a_page_can_be_replaced(page: gr.Blocks) -> None:
    before = queue_of(page)
    assert (before.max_size, len(before)) == (7, 0)
    other = Queue(False, 1, 1.0, None, page)
    set_queue(page, other)
    assert queue_of(page) is other
    other.active_jobs = [None, [event(page)]]
    assert [[one.session_hash for one in job] for job in running_events(page)] == [["visit"]]
    set_queue(page, before)


def test_an_event_is_found_by_its_number_and_by_a_request(page: gr.Blocks) -> None:
    listener = event_of(page, 0)
    assert event_of(page, listener) is listener
    assert (listener.concurrency_id, listener.api_visibility) == ("some", "public")
    assert [block.get_block_name() for block in listener.inputs] == ["textbox"]
    assert get_fn(page, None, PredictBodyInternal(fn_index=0, data=[])) is listener
    assert event(page).concurrency_id == "some"


def test_a_message_of_an_error_is_one_that_a_client_reads() -> None:
    told = error_payload(gr.Error("No room.", title="Full"), show_error=False)
    message = ProcessCompletedMessage(output=told, success=False, title="Full")
    assert (told["error"], message.success) == ("No room.", False)


def test_the_cache_forgets_the_oldest() -> None:
    cache: LRUCache[str, int] = LRUCache(2)
    for number, name in enumerate("abc"):
        cache[name] = number
    assert list(cache) == ["b", "c"]


def test_the_routes_are_those_of_the_server(
    page: gr.Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "max_file_size", None, raising=False)  # `launch` sets it
    client = TestClient(routes.App.create_app(page))
    for path in (UPLOAD_ROUTE, *COMPONENT_ROUTES):
        assert client.post(path).status_code in (400, 422), path
        assert client.post(f"{path}s").status_code == 404
    assert client.get(f"{FILE_ROUTE}/etc/passwd").status_code == 403


def test_files_of_a_request_are_found_and_replaced() -> None:
    file = {"path": "https://example.org/a.png", "meta": {"_type": "gradio.FileData"}}
    assert gr.FileData(path="a").model_dump()["meta"] == file["meta"]
    assert traverse([1, {"a": [file]}], lambda one: one["path"], is_link) == [
        1,
        {"a": ["https://example.org/a.png"]},
    ]
    assert not is_link({**file, "path": "/tmp/a.png"})
    assert strip_invalid_filename_characters("a/b?.png") == "ab.png"
    assert re.fullmatch("[0-9a-f]{64}", hash_link("https://example.org"))


def test_tabs_come_before_states() -> None:
    with gr.Blocks() as page:
        with gr.Tabs() as tabs:
            first, state, second = gr.Tab("a"), gr.State(0), gr.Tab("b")
        move_states_out(tabs, page)
    assert tabs.children == [first, second]
    assert (page.children[-1], state.parent) == (state, page)


def test_the_mcp_server_has_what_is_replaced_in_it(
    page: gr.Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradio.mcp import GradioMCPServer
    from mcp.types import CallToolRequest

    made: list[dict[str, object]] = []
    monkeypatch.setattr(GradioMCPServer, "StreamableHTTPSessionManager", None)
    monkeypatch.setattr(
        "mcp.server.streamable_http_manager.StreamableHTTPSessionManager",
        lambda **given: made.append(given),
    )
    accept_mcp_bodies(123)
    server = GradioMCPServer(page)
    assert GradioMCPServer.StreamableHTTPSessionManager(app=None) is None
    assert made[-1]["max_request_body_size"] == 123
    assert CallToolRequest in server.mcp_server.request_handlers
    assert server.tool_to_endpoint == {"upper": "/shout"}
    assert server.get_input_schema("upper")[1] == []
    assert server.get_block_fn_from_endpoint_name("/shout") is event_of(page, 0)
    positions = inspect.signature(server.convert_strings_to_filedata).parameters
    assert list(positions)[:2] == ["value", "filedata_positions"]
    assert list(inspect.signature(server.postprocess_output_data).parameters) == [
        "data",
        "root_url",
    ]
    app = routes.App.create_app(page)
    assert mcp_server_of(app) is page.mcp_server_obj
    assert isinstance(app.state_holder, StateHolder)


def test_no_other_file_uses_internals_of_gradio() -> None:
    inside = re.compile(r"\._queue\b|\.fns\b|(from|import) gradio\.(?!media\b)|gradio_client\.")
    for path in sorted((ROOT / "components").rglob("*.py")) + [ROOT / "app.py"]:
        if path != Path(gradio_internals.__file__):
            assert inside.search(path.read_text("utf-8")) is None, path
