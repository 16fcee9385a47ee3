"""Bad input: always one clear sentence, never a path, a traceback or a hang."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from pipelines.models.catalogue import MODELS
from tests.conftest import draw_circle
from tests.fakes.bad_files import DAMAGED, NOT_IMAGES, bomb
from tests.support.app_process import ROOT, RunningApp
from tests.support.raw_http import http, post, press, upload

Save = Callable[..., Path]

PASSWORDS = "/etc/passwd"


def assert_clear(message: str | None, app: RunningApp) -> None:
    """The message is one or two sentences for a person."""
    assert message is not None
    assert re.fullmatch(r"[A-Za-z'][^\n]{15,400}[.)]", message), message
    for leak in ("/", "\\\\", "Traceback", "Errno", "gradio.", str(app.work_dir), str(ROOT)):
        assert leak not in message, message


def refusal(client: Client, app: RunningApp, endpoint: str, **arguments: Any) -> AppError:
    """Return how a request is refused; the next good one must be answered."""
    with pytest.raises(AppError) as caught:
        client.predict(api_name=endpoint, **arguments)
    assert_clear(caught.value.message, app)
    assert caught.value.title not in {None, "", "Error", "Internal error"}
    assert_works(client)
    return caught.value


def assert_works(client: Client) -> None:
    rows = client.predict(query_text="a", candidate_texts="b", api_name="/rank_similarity")
    assert rows[0]["candidate"] == "b"


def refused_image(client: Client, app: RunningApp, path: Path) -> AppError:
    return refusal(client, app, "/classify_image", image=handle_file(path), labels="a\nb")


@pytest.mark.parametrize("name", NOT_IMAGES)
def test_no_image_whatever_its_name(
    client: Client, running_app: RunningApp, save: Save, name: str
) -> None:
    error = refused_image(client, running_app, save(name, NOT_IMAGES[name]()))
    assert name in error.message
    assert "is not an image" in error.message


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_image(client: Client, running_app: RunningApp, save: Save, name: str) -> None:
    error = refused_image(client, running_app, save(name, DAMAGED[name]()))
    assert name in error.message
    assert "damaged or cut off" in error.message


def test_an_empty_file(client: Client, running_app: RunningApp, save: Save) -> None:
    error = refused_image(client, running_app, save("nothing.png", b""))
    assert "empty (0 bytes)" in error.message


def test_a_decompression_bomb(client: Client, running_app: RunningApp, save: Save) -> None:
    error = refused_image(client, running_app, save("bomb.png", bomb()))
    assert "the limit is 120" in error.message


def test_no_file(client: Client, running_app: RunningApp) -> None:
    error = refusal(client, running_app, "/classify_image", image=None, labels="a")
    assert "image is missing" in error.message
    error = refusal(client, running_app, "/embed_images", images=[])
    assert "images is empty" in error.message


def test_a_file_over_the_limit(client: Client, running_app: RunningApp, save: Save) -> None:
    large = save("large.png", bytes(8_100_000))
    with pytest.raises(ValueError, match="maximum file size"):  # gradio_client asks the server
        client.predict(image=handle_file(large), labels="a", api_name="/classify_image")
    answer = http.post(
        f"{running_app.url}/gradio_api/upload", files={"files": ("a.png", large.read_bytes())}
    )
    assert answer.status_code == 413
    assert "exceeded maximum allowed size" in answer.text
    assert_works(client)


def test_a_link_that_cannot_be_fetched(client: Client, running_app: RunningApp) -> None:
    for link in ("http://127.0.0.1:9/a.png", "https://seesay.invalid/a.png"):
        refusal(
            client,
            running_app,
            "/classify_image",
            image={"path": link, "meta": {"_type": "gradio.FileData"}},
            labels="a",
        )


@pytest.mark.parametrize("labels", ["", " ", ",,,", "，，", " \n\t\n ", ", ,\n"], ids=repr)
def test_no_labels(client: Client, running_app: RunningApp, red_circle: Path, labels: str) -> None:
    image = handle_file(red_circle)
    if labels == ", ,\n":
        labels = ", ,"
    error = refusal(client, running_app, "/classify_image", image=image, labels=labels)
    assert "at least one" in error.message


def test_too_many_labels(client: Client, running_app: RunningApp, red_circle: Path) -> None:
    image = handle_file(red_circle)
    many = "\n".join(str(index) for index in range(5001))
    error = refusal(client, running_app, "/classify_image", image=image, labels=many)
    assert "5,000" in error.message
    assert "5,001" in error.message
    error = refusal(client, running_app, "/classify_image", image=image, labels="x" * 1_000_001)
    assert "1,000,000 characters" in error.message


@pytest.mark.parametrize("templates", ["bad", "{} and {}", "{0}", "{label}", "x" * 400 + "{}"])
def test_a_bad_template(
    client: Client, running_app: RunningApp, red_circle: Path, templates: str
) -> None:
    image = handle_file(red_circle)
    error = refusal(
        client, running_app, "/classify_image", image=image, labels="a", templates=templates
    )
    assert "ensemble" in error.message
    assert "{}" in error.message


@pytest.mark.parametrize("model", ["nope", "CLIP", "../demo-clip", "clip vit"])
def test_an_unknown_model_lists_the_valid_ones(
    client: Client, running_app: RunningApp, model: str
) -> None:
    with pytest.raises(AppError) as caught:
        client.predict(texts="a", model=model, api_name="/embed_texts")
    for spec in MODELS:
        assert (spec.key in caught.value.message) == (spec.task == "image-text")
    assert_works(client)


def test_a_model_out_of_reach_names_the_settings(client: Client, running_app: RunningApp) -> None:
    with pytest.raises(AppError) as caught:
        client.predict(texts="a", model="clip-vit-b32", api_name="/embed_texts")
    for part in ("clip-vit-b32", "HF_ENDPOINT", "--models-dir", "HTTPS_PROXY"):
        assert part in caught.value.message
    assert str(running_app.work_dir) not in caught.value.message
    assert_works(client)


def test_queries_and_candidates(client: Client, running_app: RunningApp, red_circle: Path) -> None:
    image = handle_file(red_circle)

    def message(**arguments: Any) -> str:
        return str(refusal(client, running_app, "/rank_similarity", **arguments).message)

    both = message(query_text="a", query_image=image, candidate_texts="b")
    assert "not both" in both
    for none in ({}, {"query_text": "  "}):
        assert "query is missing" in message(candidate_texts="b", **none)
    for nothing in ({}, {"candidate_texts": " \n "}, {"candidate_images": []}):
        assert "nothing to compare with" in message(query_text="a", **nothing)


def test_unreadable_queries_and_candidates(
    client: Client, running_app: RunningApp, save: Save
) -> None:
    text = handle_file(save("text.png", NOT_IMAGES["text.png"]()))
    for arguments in (
        {"query_image": text, "candidate_texts": "a"},
        {"query_text": "a", "candidate_images": [text, text]},
    ):
        error = refusal(client, running_app, "/rank_similarity", **arguments)
        assert "text.png" in error.message
    error = refusal(client, running_app, "/embed_images", images=[text])
    assert "text.png" in error.message


@pytest.fixture
def sent(running_app: RunningApp, red_circle: Path) -> dict[str, Any]:
    """An uploaded picture as a request names it."""
    return {
        "path": upload(running_app.url, red_circle),
        "meta": {"_type": "gradio.FileData"},
    }


WRONG_TYPES = [
    ("classify_image", ["FILE", 5, "", ""]),
    ("classify_image", ["FILE", None, "", ""]),
    ("classify_image", ["FILE", ["a", "b"], "", ""]),
    ("classify_image", ["FILE", {"a": 1}, "", ""]),
    ("classify_image", ["a string", "a", "", ""]),
    ("classify_image", [["FILE"], "a", "", ""]),
    ("classify_image", [7, "a", "", ""]),
    ("classify_image", [True, "a", "", ""]),
    ("classify_image", [{}, "a", "", ""]),
    ("classify_image", [{"path": None}, "a", "", ""]),
    ("classify_image", [{"path": 5}, "a", "", ""]),
    ("classify_image", [{"path": ["x"]}, "a", "", ""]),
    ("classify_image", [{"path": "a\0b"}, "a", "", ""]),
    ("classify_image", [{"path": "\ud800"}, "a", "", ""]),
    ("classify_image", ["FILE", "a", {}, ""]),
    ("classify_image", ["FILE", "a", 5, ""]),
    ("classify_image", ["FILE", "a", "", 5]),
    ("classify_image", ["FILE", "a", "", ["demo-clip"]]),
    ("classify_image", [None, None, None, None]),
    ("classify_image", []),
    ("classify_image", ["FILE"]),
    ("rank_similarity", [5, None, "a", None, ""]),
    ("rank_similarity", ["a", None, 5, None, ""]),
    ("rank_similarity", ["a", None, {}, None, ""]),
    ("rank_similarity", ["a", None, "b", "x", ""]),
    ("rank_similarity", ["a", None, "b", {}, ""]),
    ("rank_similarity", ["a", None, "b", ["x"], ""]),
    ("rank_similarity", ["a", None, "b", [["FILE"]], ""]),
    ("rank_similarity", ["a", None, "b", ["FILE", None], ""]),
    ("rank_similarity", ["", ["FILE"], "b", None, ""]),
    ("rank_similarity", [None, None, None, None, None]),
    ("embed_texts", [None, ""]),
    ("embed_texts", [5, ""]),
    ("embed_texts", [["a"], ""]),
    ("embed_images", [None, ""]),
    ("embed_images", ["x", ""]),
    ("embed_images", ["FILE", ""]),
    ("embed_images", [["FILE", None], ""]),
    ("embed_images", [[5], ""]),
    ("embed_images", [[["FILE"]], ""]),
]


@pytest.mark.parametrize(("endpoint", "data"), WRONG_TYPES, ids=repr)
def test_wrong_types_by_hand(
    client: Client, running_app: RunningApp, sent: dict[str, Any], endpoint: str, data: Any
) -> None:
    text = json.dumps(data).replace('"FILE"', json.dumps(sent))
    answer = post(running_app.url, endpoint, json.loads(text))
    assert "data" not in answer, answer
    assert_clear(answer["error"], running_app)
    assert answer["title"] != "Internal error"
    assert_works(client)


#: Paths of the server that no visitor may name.
ATTACKS = [
    PASSWORDS,
    "../../../../../../etc/passwd",
    "/proc/self/environ",
    "/dev/zero",
    "/",
    "~",
    str(ROOT / "app.py"),
    str(ROOT / "assets" / "examples" / "red-circle.png"),
    "assets/examples/red-circle.png",
    "file:///etc/passwd",
    "WORK",
    "WORK/..",
    "WORK/../app.log",
    "WORK/link",
    "WORK/folder.png",
    "http://127.0.0.1:PORT/config",
    "http://localhost:PORT/config",
    "http://[::1]:PORT/config",
    "http://0.0.0.0:PORT/config",
    "http://10.0.0.1/secret.png",
    "http://169.254.169.254/latest/meta-data/",
]


@pytest.mark.parametrize("declared", [True, False], ids=["declared a file", "not declared"])
@pytest.mark.parametrize("path", ATTACKS, ids=lambda path: path.replace(str(ROOT), "REPO"))
def test_no_path_of_the_server_is_opened(
    client: Client, running_app: RunningApp, path: str, declared: bool
) -> None:
    """Gradio checks a path only where the request says that it is a file."""
    link, folder = running_app.work_dir / "link", running_app.work_dir / "folder.png"
    if not link.is_symlink():
        link.symlink_to(ROOT / "assets" / "examples" / "red-circle.png")
    folder.mkdir(exist_ok=True)
    port = running_app.url.rstrip("/").rpartition(":")[2]
    file: dict[str, Any] = {
        "path": path.replace("WORK", str(running_app.work_dir)).replace("PORT", port)
    }
    if declared:
        file["meta"] = {"_type": "gradio.FileData"}
    for endpoint, data in (
        ("classify_image", [file, "a", "", ""]),
        ("rank_similarity", ["", file, "a", None, ""]),
        ("embed_images", [[file], ""]),
        ("caption_image", [file, "", "", 5, 1, 0, 1, 0]),
        ("answer_image", [file, "a", "", 5, 1, 0, 1, 0]),
        ("chat_image", [file, "a", None, "", 5, 1, 0, 1, 0]),
        ("caption_images", [[file], "", "", 5, 1, 0, 1, 0]),
        ("match_video", [file, "a", "", 0, 0]),
        ("find_moments", [file, "a", "", 4, 1, 5]),
        ("index_files", [[file], "", "", ""]),
        ("search_files", ["a-key-of-this-test", "", file, 0.5, 5, "", ""]),
    ):
        answer = post(running_app.url, endpoint, data)
        assert "data" not in answer, f"{path} was opened by {endpoint}"
        assert_clear(answer["error"], running_app)
        assert answer["title"] != "Internal error"
    assert_works(client)


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "L"])
def test_the_page_opens_no_path_of_the_server(
    running_app: RunningApp, save: Save, mode: str
) -> None:
    """The picture component once converted a file of another mode than RGB before the guard."""
    file = {"path": str(save("secret.png", draw_circle().convert(mode)))}
    model = "demo-clip"
    canvas = {"background": file, "layers": [], "composite": file}
    for name, data in (
        ("classify", [file, None, "a", model, "", None, "picture"]),
        ("classify", [None, canvas, "a", model, "", None, "draw"]),
        ("show_where", [file, None, model, "", True, "picture", None]),
        ("rank", ["", file, "a", None, model]),
        ("rank", ["a", None, "", [file], model]),
        ("embed", ["", file, "", None, model]),
    ):
        output = press(running_app.url, name, data)
        shown = [value for value in output.get("data", []) if value is not None]
        assert not shown, f"{name} answered about a file of the server"


def test_a_value_that_is_not_offered_is_told_and_not_logged(
    running_app: RunningApp, sent: dict[str, Any]
) -> None:
    """Gradio's own message repeated the label, and so did the server's log, with a traceback."""
    typed = "a label that nobody else may read"
    for name, data in (
        ("show_where", [sent, None, "demo-clip", "", True, "picture", typed]),
        ("classify", [sent, None, "a", typed, "", None, "picture"]),
    ):
        output = press(running_app.url, name, data)
        assert_clear(output["error"], running_app)
        assert "not in its list" in output["error"]
        assert output["title"] == "Check your input"
    log = running_app.log_file.read_text("utf-8")
    assert typed not in log
    assert "is not in the list of choices" not in log


@pytest.mark.parametrize(
    "path",
    [PASSWORDS, str(ROOT / "app.py"), "WORK/../app.log", "WORK/../cache/text-vectors.sqlite"],
    ids=["passwords", "code", "log", "cache"],
)
def test_no_file_of_the_server_is_served(running_app: RunningApp, path: str) -> None:
    path = path.replace("WORK", str(running_app.work_dir))
    answer = http.get(f"{running_app.url}/gradio_api/file={path}")
    assert answer.status_code in {403, 404}


def test_no_folder_of_visitors_is_listed(running_app: RunningApp, sent: dict[str, Any]) -> None:
    """Who has not its name, a hash of what is in it, finds nobody's upload."""
    work = running_app.work_dir
    assert (http.get(f"{running_app.url}/gradio_api/file={sent['path']}")).status_code == 200
    for folder in (work, f"{work}/", f"{work}/results", Path(sent["path"]).parent, f"{work}/*"):
        answer = http.get(f"{running_app.url}/gradio_api/file={folder}")
        assert answer.status_code in {403, 404}, folder


def test_names_of_uploads_cannot_leave_their_folder(running_app: RunningApp) -> None:
    files = {"files": ("../../../../evil.png", b"x")}
    (path,) = http.post(f"{running_app.url}/gradio_api/upload", files=files).json()
    assert Path(path).resolve().is_relative_to(running_app.work_dir.resolve())


def test_nothing_for_what_is_optional_is_its_default(
    running_app: RunningApp, sent: dict[str, Any]
) -> None:
    """No templates were refused, where no model was the default."""
    named = post(running_app.url, "classify_image", [sent, "a\nb", "", ""])
    assert post(running_app.url, "classify_image", [sent, "a\nb", None, None]) == named
    ranked = post(running_app.url, "rank_similarity", ["a", None, "b", None, ""])
    assert post(running_app.url, "rank_similarity", ["a", None, "b", None, None]) == ranked
    by_picture = post(running_app.url, "rank_similarity", [None, sent, None, [sent], None])
    assert by_picture == post(running_app.url, "rank_similarity", ["", sent, "", [sent], ""])
    assert "data" in named
    assert "data" in ranked
    assert "data" in by_picture


def test_an_image_named_by_a_path_only_is_its_name(
    running_app: RunningApp, sent: dict[str, Any]
) -> None:
    """What a request calls a file is shown, but never more than its last part."""
    file = {**sent, "orig_name": "../../secret/holiday.png"}
    answer = post(running_app.url, "rank_similarity", ["a", None, "", [file], ""])
    assert answer["data"][0][0]["candidate"] == "holiday.png"
