"""/index_files, /search_files and /forget_files: an index that only its owner finds."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from components.widgets.examples import drawn_videos
from tests.components.api.test_image_text_bad_input import assert_clear
from tests.conftest import connect
from tests.support.app_process import ROOT, RunningApp, serve
from tests.support.raw_http import post

EXAMPLES = ROOT / "assets" / "examples"
PICTURES = ("red-circle.png", "yellow-star.png", "three-hearts.png")
VIDEO = "circle-moves-left.mp4"

Save = Callable[..., Path]


def index(client: Client, *files: Path, **options: Any) -> tuple[list[Any], dict[str, Any]]:
    sent = [handle_file(file) for file in files]
    rows, about = client.predict(files=sent, api_name="/index_files", **options)
    return rows, about


def search(client: Client, key: str, text: str = "", **options: Any) -> list[dict[str, Any]]:
    return list(client.predict(index_key=key, query_text=text, api_name="/search_files", **options))


def forget(client: Client, key: str, **options: Any) -> dict[str, Any]:
    return dict(client.predict(index_key=key, api_name="/forget_files", **options))


@pytest.fixture(scope="module")
def filled(client: Client) -> str:
    """The key of an index of three pictures and a video."""
    rows, about = index(client, *(EXAMPLES / name for name in (*PICTURES, VIDEO)))
    assert [row["outcome"] for row in rows] == ["added"] * 4
    assert [row["file"] for row in rows] == [*PICTURES, VIDEO]
    assert {k: about[k] for k in ("pictures", "videos", "kept_h")} == {
        "pictures": 3, "videos": 1, "kept_h": 24.0,
    }  # fmt: skip
    return str(about["index_key"])


def test_fields(client: Client, filled: str) -> None:
    rows, about = index(client, EXAMPLES / PICTURES[0], index_key=filled)
    assert [list(row) for row in rows] == [["file", "kind", "outcome", "error", "notes"]]
    assert rows[0]["outcome"] == "known"
    assert list(about) == ["index_key", "pictures", "videos", "vectors", "kept_h"]
    assert about["index_key"] == filled and about["pictures"] == 3
    fields = ["rank", "file", "kind", "start_s", "end_s", "cosine", "strength", "verdict"]
    (best, *_) = search(client, filled, "a yellow star")
    assert list(best) == [*fields, "alike", "note"]
    assert (best["rank"], best["file"], best["verdict"]) == (1, "yellow-star.png", "match")


def test_pictures_and_moments_are_found(client: Client, filled: str) -> None:
    best = search(client, filled, "a red circle moves left")[0]
    assert (best["file"], best["kind"], best["verdict"]) == (VIDEO, "video", "match")
    assert 0.0 <= best["start_s"] < best["end_s"]
    like = search(client, filled, query_image=handle_file(EXAMPLES / "red-circle.png"))
    assert like[0]["file"] == "red-circle.png" and like[0]["verdict"] == "match"
    assert len(search(client, filled, "a red circle", top_k=1)) == 1


def test_text_and_image_by_their_weight(client: Client, filled: str) -> None:
    image = handle_file(EXAMPLES / "red-circle.png")
    for weight, name in ((0.0, "red-circle.png"), (1.0, "yellow-star.png")):
        rows = search(client, filled, "a yellow star", query_image=image, text_weight=weight)
        assert next(row["file"] for row in rows if row["kind"] == "picture") == name
        assert {row["verdict"] for row in rows} == {""}


def test_every_moment_of_the_examples_is_found(client: Client) -> None:
    entries = [entry for entry in drawn_videos() if entry["query"]]
    _, about = index(client, *(Path(entry["path"]) for entry in entries))
    for entry in entries:
        files = [row["file"] for row in search(client, about["index_key"], entry["query"])]
        assert entry["file"] in files[:3], entry["query"]


def test_without_a_key_each_index_is_a_new_one(client: Client, filled: str) -> None:
    """Nobody finds what another has indexed: not by the same files, nor by no key at all."""
    _, mine = index(client, EXAMPLES / "red-circle.png")
    _, other = index(client, EXAMPLES / "yellow-star.png")
    assert len({mine["index_key"], other["index_key"], filled}) == 3
    assert mine["pictures"] == other["pictures"] == 1
    assert {row["file"] for row in search(client, other["index_key"], "a red circle")} == {
        "yellow-star.png"
    }
    rows, _ = index(client, EXAMPLES / "red-circle.png", index_key=other["index_key"])
    assert rows[0]["outcome"] == "added"  # not "known": that would tell that somebody has it


@pytest.mark.parametrize(
    "key",
    [
        "aV4hZrT0mXw_9pQe-LkB2sYc7uNdJf1G",
        "x" * 40,
        "' OR 1=1; --aaaaaaaaaaaaaaaa",
        "../../../etc/passwd",
    ],
)
def test_a_foreign_key_finds_nothing(client: Client, running_app: RunningApp, key: str) -> None:
    with pytest.raises(AppError) as caught:
        search(client, key, "a red circle")
    assert_clear(str(caught.value.message), running_app)
    assert "Nothing is indexed here" in str(caught.value.message)
    assert forget(client, key, everything=True)["deleted"] == []


def test_deleted_files_are_found_no_more(client: Client) -> None:
    _, about = index(client, *(EXAMPLES / name for name in (*PICTURES, VIDEO)))
    key = about["index_key"]
    left = forget(client, key, files="yellow-star.png\nnothing.png\n")
    assert left["deleted"] == ["yellow-star.png"]
    assert (left["pictures"], left["videos"]) == (2, 1)
    assert "yellow-star.png" not in {row["file"] for row in search(client, key, "a yellow star")}
    rest = forget(client, key, everything=True)
    assert rest["deleted"] == sorted({*PICTURES, VIDEO} - {"yellow-star.png"})
    assert rest["vectors"] == 0
    with pytest.raises(AppError, match="Nothing is indexed here"):
        search(client, key, "a red circle")


def test_a_name_that_begins_with_a_blank_is_deleted(client: Client, save: Save) -> None:
    """Each line was once stripped, so that no such name was ever found."""
    files = [
        save(name, (EXAMPLES / like).read_bytes())
        for name, like in zip((" a.png", "a.png", "b.png"), PICTURES, strict=True)
    ]
    _, about = index(client, *files)
    key = about["index_key"]
    assert forget(client, key, files="b.png \r\n a.png\n")["deleted"] == ["b.png", " a.png"]
    assert forget(client, key, files="  a.png  ")["deleted"] == ["a.png"]


def test_bad_files_stop_no_others(client: Client, running_app: RunningApp, save: Save) -> None:
    good = save("good.png", Image.open(EXAMPLES / "red-circle.png"))
    bad = [save("a.png", b"no image"), save("b.mp4", b"no video"), save("c.webp", b"")]
    rows, about = index(client, *bad, good)
    assert [row["outcome"] for row in rows] == ["error"] * 3 + ["added"]
    for row in rows[:3]:
        assert_clear(row["error"], running_app)
    assert about["pictures"] == 1


@pytest.mark.parametrize(
    ("endpoint", "arguments", "said"),
    [
        ("/index_files", {"files": []}, "No files were given"),
        ("/index_files", {"files": "one", "index_key": "short"}, "index_key must be"),
        ("/index_files", {"files": "one", "model": "no-such-model"}, "Choose one of: "),
        ("/index_files", {"files": "one", "video_model": "demo-clip"}, "Choose one of: "),
        ("/search_files", {"query_text": "  "}, "The query is empty"),
        ("/search_files", {}, "The query is empty"),
        ("/search_files", {"query_text": "a" * 2001}, "limit is 2,000"),
        ("/search_files", {"query_text": "a", "top_k": 0}, "top_k must be"),
        ("/search_files", {"query_text": "a", "top_k": 10_000}, "top_k must be"),
        ("/search_files", {"query_text": "a", "text_weight": -1}, "text_weight must be"),
        ("/search_files", {"query_text": "a", "model": "no-such-model"}, "Choose one of: "),
        ("/search_files", {"query_text": "a", "index_key": ""}, "index_key must be"),
        ("/search_files", {"query_text": "a", "model": "clip-vit-b32",
                           "video_model": "viclip-l14"}, "made with demo-clip and demo-viclip"),
        ("/forget_files", {}, "Nothing was named"),
        ("/forget_files", {"index_key": "short"}, "index_key must be"),
    ],
)  # fmt: skip
def test_bad_arguments(
    client: Client,
    running_app: RunningApp,
    filled: str,
    endpoint: str,
    arguments: dict[str, Any],
    said: str,
) -> None:
    given = dict(arguments)
    if given.get("files") == "one":
        given["files"] = [handle_file(EXAMPLES / "red-circle.png")]
    if endpoint != "/index_files":
        given.setdefault("index_key", filled)
    with pytest.raises(AppError) as caught:
        client.predict(api_name=endpoint, **given)
    assert said in str(caught.value.message)
    assert "Traceback" not in str(caught.value.message)
    assert str(running_app.work_dir) not in str(caught.value.message)


def test_a_query_image_must_be_one(client: Client, filled: str, save: Save) -> None:
    with pytest.raises(AppError, match="not an image"):
        search(client, filled, query_image=handle_file(save("a.png", b"no image")))


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ"])
def test_only_uploads_are_opened(running_app: RunningApp, filled: str, path: str) -> None:
    for endpoint, asked in (
        ("index_files", [[{"path": path}], filled, "", ""]),
        ("search_files", [filled, "", {"path": path}, 0.5, 5, "", ""]),
    ):
        answer = json.dumps(post(running_app.url, endpoint, asked))
        assert "root:" not in answer and "error" in answer


def test_an_index_survives_a_restart_and_a_rename(tmp_path: Path, save: Save) -> None:
    key = secrets.token_urlsafe(24)
    with serve(tmp_path) as app:
        _, about = index(connect(app.url), EXAMPLES / "red-circle.png", index_key=key)
        assert about["pictures"] == 1
    renamed = save("other-name.png", (EXAMPLES / "red-circle.png").read_bytes())
    with serve(tmp_path) as app:
        client = connect(app.url)
        assert search(client, key, "a red circle")[0]["file"] == "red-circle.png"
        rows, about = index(client, renamed, index_key=key)
        assert (rows[0]["outcome"], about["pictures"]) == ("renamed", 1)
        assert search(client, key, "a red circle")[0]["file"] == "other-name.png"
