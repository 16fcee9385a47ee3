"""The public contract: endpoints, parameters, defaults, result fields. A change here breaks
somebody's script and is marked so in the changelog."""

from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from components.widgets.examples import chat_videos, drawn_videos
from pipelines.models.catalogue import MODELS
from tests.support.app_process import RunningApp
from tests.support.raw_http import http

REQUIRED = object()

#: How text is generated, the same for every endpoint that does.
GENERATION: list[tuple[str, str, Any]] = [
    ("max_new_tokens", "int", 40),
    ("num_beams", "int", 1),
    ("temperature", "float", 0.0),
    ("top_p", "float", 1.0),
    ("seed", "int", 0),
]

ASK_VIDEO: list[tuple[str, str, Any]] = [
    ("video", "filepath", REQUIRED),
    ("question", "str", REQUIRED),
    ("history", "None | list[dict(str, Any)]", None),
    ("model", "str", ""),
    ("max_frames", "int", 64),
    ("start_s", "float", 0.0),
    ("end_s", "float", 0.0),
    ("compress", "bool", False),
    ("max_new_tokens", "int", 256),
    ("temperature", "float", 0.0),
    ("top_p", "float", 1.0),
    ("seed", "int", 0),
]

#: Each endpoint with its parameters in order: name, type as gradio_client tells it, default.
ENDPOINTS: dict[str, list[tuple[str, str, Any]]] = {
    "/classify_image": [
        ("image", "filepath", REQUIRED),
        ("labels", "str", REQUIRED),
        ("templates", "str", ""),
        ("model", "str", ""),
        ("probe", "None | filepath", None),
    ],
    "/rank_similarity": [
        ("query_text", "str", ""),
        ("query_image", "None | filepath", None),
        ("candidate_texts", "str", ""),
        ("candidate_images", "None | list[filepath]", None),
        ("model", "str", ""),
    ],
    "/embed_texts": [("texts", "str", REQUIRED), ("model", "str", "")],
    "/embed_images": [("images", "list[filepath]", REQUIRED), ("model", "str", "")],
    "/caption_image": [
        ("image", "filepath", REQUIRED),
        ("prompt", "str", ""),
        ("model", "str", ""),
        *GENERATION,
    ],
    "/answer_image": [
        ("image", "filepath", REQUIRED),
        ("question", "str", REQUIRED),
        ("model", "str", ""),
        *GENERATION,
    ],
    "/chat_image": [
        ("image", "filepath", REQUIRED),
        ("message", "str", REQUIRED),
        ("history", "None | list[dict(str, Any)]", None),
        ("model", "str", ""),
        *GENERATION,
    ],
    "/caption_images": [
        ("files", "list[filepath]", REQUIRED),
        ("prompt", "str", ""),
        ("model", "str", ""),
        *GENERATION,
        ("resume_key", "str", ""),
    ],
    "/evaluate_images": [
        ("archive", "filepath", REQUIRED),
        ("templates", "str", ""),
        ("model", "str", ""),
    ],
    "/train_probe": [
        ("archive", "filepath", REQUIRED),
        ("templates", "str", ""),
        ("model", "str", ""),
        ("held_out", "float", 0.25),
        ("seed", "int", 0),
    ],
    "/match_video": [
        ("video", "filepath", REQUIRED),
        ("texts", "str", REQUIRED),
        ("model", "str", ""),
        ("start_s", "float", 0.0),
        ("end_s", "float", 0.0),
        ("fit", "str", ""),
    ],
    "/find_moments": [
        ("video", "filepath", REQUIRED),
        ("query", "str", REQUIRED),
        ("model", "str", ""),
        ("window_s", "float", 4.0),
        ("stride_s", "float", 1.0),
        ("top_k", "int", 5),
        ("fit", "str", ""),
    ],
    "/ask_video": ASK_VIDEO,
    "/index_files": [
        ("files", "list[filepath]", REQUIRED),
        ("index_key", "str", ""),
        ("model", "str", ""),
        ("video_model", "str", ""),
    ],
    "/search_files": [
        ("index_key", "str", REQUIRED),
        ("query_text", "str", ""),
        ("query_image", "None | filepath", None),
        ("text_weight", "float", 0.5),
        ("top_k", "int", 20),
        ("model", "str", ""),
        ("video_model", "str", ""),
    ],
    "/forget_files": [
        ("index_key", "str", REQUIRED),
        ("files", "str", ""),
        ("everything", "bool", False),
    ],
    "/list_models": [],
}

RETURNS = {
    "/classify_image": ["dict(str, Any)", "list[dict(str, Any)]"],
    "/rank_similarity": ["list[dict(str, Any)]"],
    "/embed_texts": ["dict(str, Any)"],
    "/embed_images": ["dict(str, Any)"],
    "/caption_image": ["str"],
    "/answer_image": ["str"],
    "/chat_image": ["str", "list[dict(str, Any)]"],
    "/caption_images": ["list[dict(str, Any)]", "None | filepath"],
    "/evaluate_images": ["dict(str, Any)", "list[dict(str, Any)]"],
    "/train_probe": ["dict(str, Any)", "list[dict(str, Any)]", "None | filepath"],
    "/match_video": ["dict(str, Any)", "list[dict(str, Any)]"],
    "/find_moments": ["list[dict(str, Any)]"],
    "/ask_video": ["str", "list[dict(str, Any)]"],
    "/index_files": ["list[dict(str, Any)]", "dict(str, Any)"],
    "/search_files": ["list[dict(str, Any)]"],
    "/forget_files": ["dict(str, Any)"],
    "/list_models": ["list[dict(str, Any)]"],
}


def parameters_of(described: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [
        (
            parameter["parameter_name"],
            parameter["python_type"]["type"],
            parameter["parameter_default"] if parameter["parameter_has_default"] else REQUIRED,
        )
        for parameter in described["parameters"]
    ]


@pytest.fixture(scope="module")
def described(client: Client) -> dict[str, Any]:
    return dict(client.view_api(return_format="dict", print_info=False))


def test_these_endpoints_and_no_others(described: dict[str, Any]) -> None:
    assert list(described["named_endpoints"]) == list(ENDPOINTS)
    assert described["unnamed_endpoints"] == {}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_parameters(described: dict[str, Any], endpoint: str) -> None:
    assert parameters_of(described["named_endpoints"][endpoint]) == ENDPOINTS[endpoint]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_returns_and_description(described: dict[str, Any], endpoint: str) -> None:
    entry = described["named_endpoints"][endpoint]
    assert [value["python_type"]["type"] for value in entry["returns"]] == RETURNS[endpoint]
    assert len(entry["description"]) > 20


def test_the_page_publishes_nothing_else(running_app: RunningApp) -> None:
    """A bare lambda once became `/lambda`, a handler wired twice `/f_1`."""
    events = http.get(f"{running_app.url}/config").json()["dependencies"]
    public = {f"/{e['api_name']}" for e in events if e["api_visibility"] == "public"}
    assert public == set(ENDPOINTS)
    assert {e["api_visibility"] for e in events} == {"public", "private"}


def test_classify_image_with_the_required_parameters(client: Client, red_circle: Path) -> None:
    image, labels = handle_file(red_circle), "red circle\nblue star"
    by_name = client.predict(image=image, labels=labels, api_name="/classify_image")
    assert by_name == client.predict(image, labels, api_name="/classify_image")
    label, scores = by_name
    assert list(label) == ["label", "confidences", "notes"]
    assert [list(row) for row in label["confidences"]] == [["label", "confidence"]] * 2
    fields = ["label", "probability", "cosine", "verdict", "note"]
    assert [list(row) for row in scores] == [fields] * 2
    assert label["label"] == scores[0]["label"]
    assert label["confidences"] == [
        {"label": row["label"], "confidence": row["probability"]} for row in scores
    ]


def test_rank_similarity_by_name_and_by_position(client: Client, red_circle: Path) -> None:
    image = handle_file(red_circle)
    by_name = client.predict(
        query_text="red circle",
        candidate_texts="a red circle",
        candidate_images=[image],
        api_name="/rank_similarity",
    )
    by_position = client.predict(
        "red circle", None, "a red circle", [image], api_name="/rank_similarity"
    )
    assert by_name == by_position
    fields = ["rank", "candidate", "kind", "cosine", "verdict", "note", "index"]
    assert [list(row) for row in by_name] == [fields] * 2
    assert {(row["kind"], row["candidate"]) for row in by_name} == {
        ("text", "a red circle"),
        ("image", "red-circle.png"),
    }


def test_embeddings_with_the_required_parameters(client: Client, red_circle: Path) -> None:
    fields = ["model", "dim", "embeddings", "errors", "notes"]
    texts = client.predict(texts="red circle", api_name="/embed_texts")
    assert list(texts) == fields
    assert texts == client.predict("red circle", api_name="/embed_texts")
    images = client.predict(images=[handle_file(red_circle)], api_name="/embed_images")
    assert list(images) == fields
    assert images == client.predict([handle_file(red_circle)], api_name="/embed_images")


def test_list_models(client: Client) -> None:
    fields = ["key", "family", "repo", "revision", "licence", "memory_gb", "on_disk", "demo"]
    rows = client.predict(api_name="/list_models")
    assert [list(row) for row in rows] == [fields] * len(rows)
    assert [row["key"] for row in rows] == [spec.key for spec in MODELS]
    demos = ["demo-clip", "demo-blip2", "demo-viclip", "demo-videochat"]
    assert [row["key"] for row in rows if row["demo"]] == demos
    assert all(row["on_disk"] for row in rows if row["demo"])


def test_match_video_by_name_and_by_position(client: Client) -> None:
    entry = next(entry for entry in drawn_videos() if entry["texts"])
    video, texts = handle_file(entry["path"]), "\n".join(entry["texts"])
    by_name = client.predict(video=video, texts=texts, api_name="/match_video")
    assert by_name == client.predict(video, texts, api_name="/match_video")
    label, scores = by_name
    assert list(label) == ["label", "confidences", "notes", "frame_times_s"]
    fields = ["text", "probability", "cosine", "verdict", "note"]
    assert [list(row) for row in scores] == [fields] * len(entry["texts"])
    assert label["label"] == scores[0]["text"]
    assert label["confidences"] == [
        {"label": row["text"], "confidence": row["probability"]} for row in scores
    ]
    assert len(label["frame_times_s"]) == 8
    assert label["frame_times_s"] == sorted(label["frame_times_s"])


def test_find_moments_by_name_and_by_position(client: Client) -> None:
    entry = next(entry for entry in drawn_videos() if entry["query"])
    video, query = handle_file(entry["path"]), entry["query"]
    by_name = client.predict(video=video, query=query, api_name="/find_moments")
    assert by_name == client.predict(video, query, api_name="/find_moments")
    fields = ["start_s", "end_s", "score", "cosine", "verdict", "note"]
    assert [list(row) for row in by_name] == [fields] * len(by_name)
    scores = [row["score"] for row in by_name]
    assert scores == sorted(scores, reverse=True)
    assert 0 < len(by_name) <= 5


def test_ask_video_by_name_and_by_position(client: Client) -> None:
    entry = chat_videos()[0]
    video, asked = handle_file(entry["path"]), entry["questions"][0]
    by_name = client.predict(video=video, question=asked["question"], api_name="/ask_video")
    assert by_name == client.predict(video, asked["question"], api_name="/ask_video")
    answer, history = by_name
    assert answer == asked["answer"]
    assert history[-1].pop("notes") == []
    assert history == [
        {"role": "user", "content": asked["question"]},
        {"role": "assistant", "content": answer},
    ]
