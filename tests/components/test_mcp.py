"""`--mcp`: agents find every public endpoint as a tool, with what its arguments mean."""

import ast
import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult, Tool

from tests.browser.serve import ROOT, RunningApp, serve
from tests.components.raw_http import http, upload
from tests.components.test_contract import ENDPOINTS, REQUIRED

EXAMPLES = ROOT / "assets" / "examples"
Value = TypeVar("Value")


@pytest.fixture(scope="module")
def agents_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with serve(tmp_path_factory.mktemp("mcp"), "--mcp") as app:
        yield app


def talk(app: RunningApp, say: Callable[[ClientSession], Awaitable[Value]]) -> Value:
    """Connect as an agent does, and return what comes of `say`."""

    async def work() -> Value:
        url = f"{app.url.rstrip('/')}/gradio_api/mcp/"
        async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as it:
            await it.initialize()
            return await say(it)

    return asyncio.run(asyncio.wait_for(work(), 120))


def call(app: RunningApp, tool: str, **arguments: Any) -> CallToolResult:
    return talk(app, lambda session: session.call_tool(tool, arguments))


def answer(app: RunningApp, tool: str, **arguments: Any) -> Any:
    result = call(app, tool, **arguments)
    (content,) = result.content
    assert not result.isError, content
    return ast.literal_eval(content.text) if content.text[0] in "[{(" else content.text


def refusal(app: RunningApp, tool: str, **arguments: Any) -> str:
    result = call(app, tool, **arguments)
    assert result.isError
    return str(result.content[0].text)


def data_url(file: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def link(app: RunningApp, file: Path) -> str:
    """Upload a file as gradio's own tool for agents does; returns the link that this gives."""
    return f"{app.url.rstrip('/')}/gradio_api/file={upload(app.url, file)}"


@pytest.fixture(scope="module")
def tools(agents_app: RunningApp) -> dict[str, Tool]:
    async def ask(session: ClientSession) -> list[Tool]:
        return (await session.list_tools()).tools

    return {tool.name: tool for tool in talk(agents_app, ask)}


def test_every_public_endpoint_is_a_tool_and_nothing_else_is(tools: dict[str, Tool]) -> None:
    assert {f"/{name}" for name in tools} == set(ENDPOINTS)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_tool_says_what_it_does_and_what_each_argument_means(
    tools: dict[str, Tool], endpoint: str
) -> None:
    tool = tools[endpoint.removeprefix("/")]
    assert len(tool.description or "") > 20
    assert " or, " not in (tool.description or ""), "a wrapped line is no new value"
    properties = tool.inputSchema["properties"]
    assert list(properties) == [name for name, _, _ in ENDPOINTS[endpoint]]
    assert all(len(value["description"]) > 5 for value in properties.values()), properties
    needed = [name for name, _, default in ENDPOINTS[endpoint] if default is REQUIRED]
    assert tool.inputSchema.get("required", []) == needed


def test_an_image_as_data_and_as_a_link_to_an_upload(agents_app: RunningApp) -> None:
    file = EXAMPLES / "red-circle.png"
    for image in (data_url(file, "image/png"), link(agents_app, file)):
        label, scores = answer(
            agents_app, "classify_image", image=image, labels="red circle\nblue star"
        )
        assert label["label"] == "red circle"
        assert [score["label"] for score in scores] == ["red circle", "blue star"]


def test_a_video_as_data_and_as_a_link_to_an_upload(agents_app: RunningApp) -> None:
    file = EXAMPLES / "circle-moves-left.mp4"
    found = [
        answer(agents_app, "match_video", video=video, texts="a circle moves left\na square grows")[
            0
        ]["label"]
        for video in (data_url(file, "video/mp4"), link(agents_app, file))
    ]
    assert found == ["a circle moves left"] * 2


def test_a_conversation_travels_with_its_history(agents_app: RunningApp) -> None:
    image = link(agents_app, EXAMPLES / "red-circle.png")
    first, history = answer(
        agents_app, "chat_image", image=image, message="What colour is the circle?"
    )
    assert "red" in first
    assert [turn["role"] for turn in history] == ["user", "assistant"]
    second, history = answer(
        agents_app, "chat_image", image=image, message="What shape is it?", history=history
    )
    assert "circle" in second
    assert [turn["content"] for turn in history][1::2] == [first, second]


def test_no_file_and_no_arguments(agents_app: RunningApp) -> None:
    assert len(answer(agents_app, "list_models")) > 10
    assert answer(agents_app, "embed_texts", texts="red circle")["dim"] > 1


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("classify_image", {"image": "/etc/passwd", "labels": "a"}, "provide a url"),
        (
            "classify_image",
            {"image": "{url}gradio_api/file=/etc/passwd", "labels": "a"},
            "uploaded",
        ),
        ("classify_image", {"image": "{url}healthz", "labels": "a"}, "cannot be fetched"),
        (
            "classify_image",
            {"image": "http://169.254.169.254/", "labels": "a"},
            "cannot be fetched",
        ),
        ("classify_image", {"image": "data:image/png;base64,AAAA", "labels": "a"}, "image"),
        ("classify_image", {"labels": "a"}, "image"),
        ("embed_texts", {"texts": "a", "model": "best"}, "Choose one of"),
        ("embed_texts", {"texts": ""}, "texts"),
        ("no_such_tool", {}, "no_such_tool"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    agents_app: RunningApp, tool: str, arguments: dict[str, str], said: str
) -> None:
    given = {
        name: value.replace("{url}", agents_app.url.rstrip("/") + "/")
        for name, value in arguments.items()
    }
    text = refusal(agents_app, tool, **given)
    assert said in text
    assert "Traceback" not in text
    assert str(agents_app.work_dir) not in text


def test_off_unless_asked_for(running_app: RunningApp) -> None:
    url = running_app.url.rstrip("/")
    assert http.post(f"{url}/gradio_api/mcp/", json={}).status_code in {404, 405}
    assert http.get(f"{url}/gradio_api/mcp/schema").status_code == 404
