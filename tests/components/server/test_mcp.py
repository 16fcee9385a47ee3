"""`--mcp`: agents find every public endpoint as a tool, with what its arguments mean."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult, Tool
from PIL import Image

from components.server.body_limit import MAX_JSON_BYTES
from tests.components.api.test_contract import ENDPOINTS, REQUIRED
from tests.support.app_process import ROOT, RunningApp
from tests.support.raw_http import http, upload

EXAMPLES = ROOT / "assets" / "examples"
Value = TypeVar("Value")

#: Endpoints whose answer is a text.
PROSE = {"/caption_image", "/answer_image"}

#: What the values of the others are called where there are several.
NAMES = {
    "/classify_image": ["label", "scores"],
    "/chat_image": ["answer", "history"],
    "/caption_images": ["rows", "results"],
    "/evaluate_images": ["summary", "predictions"],
    "/train_probe": ["summary", "predictions", "file"],
    "/match_video": ["label", "scores"],
    "/ask_video": ["answer", "history"],
    "/index_files": ["rows", "index"],
}

#: Arguments of every tool; a name that stands alone is a file of the examples.
KEY = "a-long-random-text-of-an-agent-1234567890"
ARGUMENTS: dict[str, dict[str, Any]] = {
    "/classify_image": {"image": "red-circle.png", "labels": "red circle\nblue star"},
    "/rank_similarity": {"query_text": "a red circle", "candidate_texts": "a “disc”\na star"},
    "/embed_texts": {"texts": "a red circle"},
    "/embed_images": {"images": ["red-circle.png"]},
    "/caption_image": {"image": "red-circle.png"},
    "/answer_image": {"image": "red-circle.png", "question": "What colour is the circle?"},
    "/chat_image": {"image": "red-circle.png", "message": "What colour is the circle?"},
    "/caption_images": {"files": ["red-circle.png"]},
    "/evaluate_images": {"archive": "toy-shop.zip"},
    "/train_probe": {"archive": "toy-shop.zip"},
    "/match_video": {"video": "circle-moves-left.mp4", "texts": "a red circle moves left"},
    "/find_moments": {"video": "circle-moves-left.mp4", "query": "a red circle moves left"},
    "/ask_video": {"video": "circle-moves-left.mp4", "question": "What colour is the circle?"},
    "/index_files": {"files": ["red-circle.png"], "index_key": KEY},
    "/search_files": {"query_text": "a red circle", "index_key": KEY},
    "/forget_files": {"everything": True, "index_key": KEY},
    "/list_models": {},
}


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


def read(tool: str, result: CallToolResult) -> Any:
    """Return what a tool said: its text, or the value that its JSON holds."""
    (content,) = result.content
    assert not result.isError, content
    if f"/{tool}" in PROSE:
        assert result.structuredContent is None
        return content.text
    value = json.loads(content.text)
    assert result.structuredContent == (value if isinstance(value, dict) else {"result": value})
    return value


def answer(app: RunningApp, tool: str, **arguments: Any) -> Any:
    return read(tool, call(app, tool, **arguments))


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
        said = answer(agents_app, "classify_image", image=image, labels="red circle\nblue star")
        assert said["label"]["label"] == "red circle"
        assert [score["label"] for score in said["scores"]] == ["red circle", "blue star"]


def test_a_picture_of_several_megabytes_as_data(agents_app: RunningApp, tmp_path: Path) -> None:
    """The library took 4 MB of base64, and said so in words of its own."""
    noise = np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert (tmp_path / "noise.png").stat().st_size > 6_000_000
    image = data_url(tmp_path / "noise.png", "image/png")
    said = answer(agents_app, "classify_image", image=image, labels="red circle\nblue star")
    assert len(said["scores"]) == 2


def test_a_body_over_the_limit_is_refused(agents_app: RunningApp) -> None:
    url = f"{agents_app.url.rstrip('/')}/gradio_api/mcp/"
    head = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    answered = http.post(url, content=bytes(MAX_JSON_BYTES + 1), headers=head)
    assert answered.status_code == 413
    assert "more than 32 MB" in answered.json()["detail"]
    assert len(answer(agents_app, "list_models")) > 10


def test_without_room_a_file_is_refused_in_a_sentence(full_app: RunningApp) -> None:
    """The agent read the status of a request that it had not made."""
    sent = data_url(EXAMPLES / "red-circle.png", "image/png")
    for tool, given in (("classify_image", {"image": sent, "labels": "a"}),
                        ("embed_images", {"images": [sent]})):  # fmt: skip
        assert "less than the largest upload" in refusal(full_app, tool, **given)
    assert answer(full_app, "embed_texts", texts="data:")["dim"] > 1


def test_a_video_as_data_and_as_a_link_to_an_upload(agents_app: RunningApp) -> None:
    file = EXAMPLES / "circle-moves-left.mp4"
    found = [
        answer(agents_app, "match_video", video=video, texts="a circle moves left\na square grows")[
            "label"
        ]["label"]
        for video in (data_url(file, "video/mp4"), link(agents_app, file))
    ]
    assert found == ["a circle moves left"] * 2


def test_a_conversation_travels_with_its_history(agents_app: RunningApp) -> None:
    image = link(agents_app, EXAMPLES / "red-circle.png")
    first = answer(agents_app, "chat_image", image=image, message="What colour is the circle?")
    assert "red" in first["answer"]
    assert [turn["role"] for turn in first["history"]] == ["user", "assistant"]
    asked = {"message": "What shape is it?", "history": first["history"]}
    second = answer(agents_app, "chat_image", image=image, **asked)
    assert "circle" in second["answer"]
    said = [turn["content"] for turn in second["history"]]
    assert said[1::2] == [first["answer"], second["answer"]]


@pytest.fixture(scope="module")
def examples(agents_app: RunningApp) -> Callable[[Any], Any]:
    """Return arguments with links to the example files that they name."""

    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(one) for one in value]
        is_file = isinstance(value, str) and (EXAMPLES / value).is_file()
        return link(agents_app, EXAMPLES / value) if is_file else value

    return placed


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_tool_answers_in_json_or_in_prose(
    agents_app: RunningApp, examples: Callable[[Any], Any], endpoint: str
) -> None:
    """Values came in Python's notation, which no other language reads: 'a', None, True."""
    tool = endpoint.removeprefix("/")
    given = {name: examples(value) for name, value in ARGUMENTS[endpoint].items()}

    async def told(*_: Any) -> None:
        """Progress is of no interest; to ask for it takes another way through Gradio."""

    plain = read(tool, call(agents_app, tool, **given))
    watched = read(
        tool,
        talk(agents_app, lambda session: session.call_tool(tool, given, progress_callback=told)),
    )
    assert plain
    assert type(plain) is type(watched)
    if endpoint in PROSE:
        assert plain == watched
    elif endpoint in NAMES:
        assert list(plain) == list(watched) == NAMES[endpoint]


def test_a_file_that_a_tool_made_can_be_fetched(
    agents_app: RunningApp, examples: Callable[[Any], Any]
) -> None:
    given = examples(["red-circle.png", "yellow-star.png"])
    said = answer(agents_app, "caption_images", files=given)
    assert [row["error"] for row in said["rows"]] == ["", ""]
    assert said["results"]["name"].endswith(".zip")
    assert set(said["results"]) == {"name", "url"}
    fetched = http.get(said["results"]["url"])
    assert fetched.status_code == 200
    assert fetched.content.startswith(b"PK")


def test_files_in_a_list_and_files_that_may_be_left_out(
    agents_app: RunningApp, examples: Callable[[Any], Any]
) -> None:
    """Gradio took their links for the files themselves, so that none of them could be sent."""
    red, yellow = examples(["red-circle.png", "yellow-star.png"])
    for query in (red, data_url(EXAMPLES / "red-circle.png", "image/png")):
        rows = answer(
            agents_app, "rank_similarity", query_image=query, candidate_images=[yellow, red]
        )
        assert [row["candidate"] for row in rows] == ["red-circle.png", "yellow-star.png"]
    for none in (None, ""):
        given = {"query_image": none, "query_text": "a red circle", "candidate_texts": "a disc"}
        assert len(answer(agents_app, "rank_similarity", **given)) == 1
    assert "images must be a link" in refusal(agents_app, "embed_images", images=["/etc/passwd"])
    assert "empty" in refusal(agents_app, "embed_images", images=[])


def test_a_file_that_is_not_marked_as_data_is_not_repeated(agents_app: RunningApp) -> None:
    """Gradio's own sentence held all of it: 2 MB of base64."""
    said = refusal(agents_app, "classify_image", image="iVBORw0KGgo" * 50_000, labels="a")
    assert "which begins with data:" in said
    assert "iVBORw0KGgo" in said and len(said) < 400


def test_null_for_what_may_be_left_out_is_not_given(agents_app: RunningApp) -> None:
    said = answer(agents_app, "embed_texts", texts="red circle", model=None)
    assert said == answer(agents_app, "embed_texts", texts="red circle")
    assert "texts must be string" in refusal(agents_app, "embed_texts", texts=None)


def test_letters_of_any_script_are_as_they_are(agents_app: RunningApp) -> None:
    said = call(agents_app, "rank_similarity", query_text="红色", candidate_texts="红色的圆形")
    assert "红色的圆形" in said.content[0].text


def test_no_file_and_no_arguments(agents_app: RunningApp) -> None:
    assert len(answer(agents_app, "list_models")) > 10
    assert answer(agents_app, "embed_texts", texts="red circle")["dim"] > 1


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("classify_image", {"image": "/etc/passwd", "labels": "a"}, "image must be a link"),
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
        *(
            ("classify_image", {"image": link, "labels": "a"}, "image is a data URL whose base64")
            for link in ("data:", "data:image/png;base64,", "data:image/png;base64,iVBORw0KG")
        ),
        (
            "caption_images",
            {"files": ["data:image/png;base64,A"]},
            "files is a data URL whose base64 cannot be read: 'data:image/png;base64,A'.",
        ),
        ("classify_image", {"labels": "a"}, "image is missing"),
        (
            "classify_image",
            {"image": "data:image/png;base64,AAAA", "labels": 3},
            "labels must be string",
        ),
        ("match_video", {"video": "data:video/mp4;base64,AAAA", "texts": "a"}, "video"),
        (
            "chat_image",
            {"image": "x", "message": "a", "history": "b"},
            "must be null or array of object",
        ),
        (
            "caption_image",
            {"image": "x", "seeds": 1},
            "no argument 'seeds'. This tool takes: image",
        ),
        ("embed_images", {"images": "x"}, "images must be array of string"),
        ("embed_texts", {"texts": "a", "model": "best"}, "Choose one of"),
        ("embed_texts", {"texts": ""}, "texts"),
        ("no_such_tool", {}, "no tool 'no_such_tool'. Call one of: classify_image,"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    agents_app: RunningApp, tool: str, arguments: dict[str, Any], said: str
) -> None:
    base = agents_app.url.rstrip("/") + "/"
    given = {
        name: value.replace("{url}", base) if isinstance(value, str) else value
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
