"""Bad input to Describe and Batch: one clear sentence each, and what is no bad input is read."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.components.api.test_image_text_bad_input import assert_clear
from tests.conftest import draw_circle
from tests.fakes.bad_files import DAMAGED, NOT_IMAGES, bomb, encoded
from tests.support.app_process import RunningApp
from tests.support.raw_http import post, press, upload

#: max_new_tokens, num_beams, temperature, top_p, seed.
SETTINGS = [40, 1, 0, 1, 0]

#: A list of thousands of numbers, and a number of hundreds of digits.
LONG_LIST, LONG_NUMBER = list(range(3000)), 10**400

#: Endpoint, arguments with "FILE" for a good picture, and what the refusal says.
REFUSED: list[tuple[str, list[Any], str]] = [
    ("caption_image", ["FILE", 5, "", *SETTINGS], "prompt must be text but got a number"),
    ("caption_image", ["FILE", ["a"], "", *SETTINGS], "prompt must be text but got a list"),
    ("caption_image", ["FILE", "", "demo-clip", *SETTINGS], "Choose one of"),
    ("caption_image", ["FILE", "", "x" * 5000, *SETTINGS], "Choose one of"),
    ("caption_image", ["FILE", "", "", 0, 1, 0, 1, 0], "from 1 to 2048 but got 0"),
    ("caption_image", ["FILE", "", "", 1.5, 1, 0, 1, 0], "whole number from 1 to 2048 but got 1.5"),
    ("caption_image", ["FILE", "", "", None, 1, 0, 1, 0], "from 1 to 2048 but got None"),
    ("caption_image", ["FILE", "", "", True, 1, 0, 1, 0], "but got True"),
    ("caption_image", ["FILE", "", "", "x" * 5000, 1, 0, 1, 0], "but got 'xxx"),
    ("caption_image", ["FILE", "", "", LONG_NUMBER, 1, 0, 1, 0], "but got 1000"),
    ("caption_image", ["FILE", "", "", 40, 0, 0, 1, 0], "num_beams must be a whole number"),
    ("caption_image", ["FILE", "", "", 40, 99, 0, 1, 0], "from 1 to 16 but got 99"),
    ("caption_image", ["FILE", "", "", 40, 1, -1, 1, 0], "temperature must be from 0 to 5"),
    ("caption_image", ["FILE", "", "", 40, 1, 99, 1, 0], "temperature must be from 0 to 5"),
    ("caption_image", ["FILE", "", "", 40, 1, "hot", 1, 0], "temperature must be a number"),
    ("caption_image", ["FILE", "", "", 40, 1, LONG_LIST, 1, 0], "but got [0, 1, 2"),
    ("caption_image", ["FILE", "", "", 40, 1, LONG_NUMBER, 1, 0], "number of ordinary size"),
    ("caption_image", ["FILE", "", "", 40, 1, 1, 0, 0], "top_p must be above 0"),
    ("caption_image", ["FILE", "", "", 40, 1, 1, 2, 0], "at most 1 but got 2"),
    ("caption_image", ["FILE", "", "", 40, 1, 1, 1, -1], "seed must be a whole number"),
    ("caption_image", ["FILE", "", "", 40, 1, 1, 1, LONG_NUMBER], "seed must be a whole number"),
    ("caption_image", ["FILE", "", "", 40, 2, 0.5, 1, 0], "Set num_beams to 1 or temperature to 0"),
    ("caption_image", [None, "", "", *SETTINGS], "image is missing"),
    ("caption_image", [], "Give every required argument"),
    ("answer_image", ["FILE"], "Give every required argument"),
    ("answer_image", ["FILE", "", "", *SETTINGS], "question is empty"),
    ("answer_image", ["FILE", " \n ", "", *SETTINGS], "question is empty"),
    ("answer_image", ["FILE", None, "", *SETTINGS], "must be text but got no value"),
    ("answer_image", ["FILE", {"a": 1}, "", *SETTINGS], "must be text but got an object"),
    ("chat_image", ["FILE", "", None, "", *SETTINGS], "question is empty"),
    ("chat_image", ["FILE", "a", "x", "", *SETTINGS], "history must be a list of"),
    ("chat_image", ["FILE", "a", 5, "", *SETTINGS], "history must be a list of"),
    ("chat_image", ["FILE", "a", [{"role": "x"}], "", *SETTINGS], "history must be a list of"),
    ("chat_image", ["FILE", "a", ["x" * 5000], "", *SETTINGS], "history must be a list of"),
    ("caption_images", [None, "", "", *SETTINGS], "No files were given"),
    ("caption_images", [[], "", "", *SETTINGS], "No files were given"),
    ("caption_images", ["x", "", "", *SETTINGS], "must be a list of files but got a text"),
    ("caption_images", ["FILE", "", "", *SETTINGS], "must be a list of files but got an object"),
    ("caption_images", [["FILE", None], "", "", *SETTINGS], "files[1] is missing"),
    ("caption_images", [["FILE"], 5, "", *SETTINGS], "prompt must be text but got a number"),
    ("caption_images", [["FILE"], "", "nope", *SETTINGS], "Choose one of"),
    ("caption_images", [["FILE"], "", "", 0, 1, 0, 1, 0], "from 1 to 2048 but got 0"),
    ("caption_images", [["FILE"], "", "", *SETTINGS, 5], "resume_key must be text"),
    ("find_moments", ["FILE", "a", "", LONG_NUMBER, 1, 5], "window_s must be a number within"),
    ("find_moments", ["FILE", "a", "", 4, 1, LONG_NUMBER], "top_k must be a number within"),
]


@pytest.fixture(scope="module")
def sent(running_app: RunningApp, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Upload bytes under a name; returns the file as a request names it."""
    folder = tmp_path_factory.mktemp("sent")

    def send(name: str, data: bytes) -> dict[str, Any]:
        path = folder / name
        path.write_bytes(data)
        uploaded = upload(running_app.url, path)
        return {"path": uploaded, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    return send


Send = Callable[[str, bytes], dict[str, Any]]


@pytest.mark.parametrize(("endpoint", "data", "said"), REFUSED, ids=lambda one: str(one)[:50])
def test_arguments_out_of_their_range(
    running_app: RunningApp, sent: Send, endpoint: str, data: list[Any], said: str
) -> None:
    """What came is repeated, but no more of it than helps: a list of thousands was, in whole."""
    good = json.dumps(sent("red.png", encoded(draw_circle(), "PNG")))
    answer = post(running_app.url, endpoint, json.loads(json.dumps(data).replace('"FILE"', good)))
    assert "data" not in answer, answer
    assert said in answer["error"]
    assert_clear(answer["error"], running_app)
    assert answer["title"] not in {"Error", "Internal error"}


@pytest.mark.parametrize("endpoint", ["caption_image", "answer_image", "chat_image"])
@pytest.mark.parametrize("name", [*NOT_IMAGES, *DAMAGED, "nothing.png", "bomb.png"])
def test_what_is_no_picture(running_app: RunningApp, sent: Send, endpoint: str, name: str) -> None:
    made = {**NOT_IMAGES, **DAMAGED, "nothing.png": bytes, "bomb.png": bomb}[name]()
    asked = {"caption_image": [], "answer_image": ["a?"], "chat_image": ["a?", None]}[endpoint]
    prompt = [""] if endpoint == "caption_image" else []
    answer = post(running_app.url, endpoint, [sent(name, made), *asked, *prompt, "", *SETTINGS])
    assert answer["title"] == "Cannot read this file"
    assert name in answer["error"]
    assert_clear(answer["error"], running_app)


@pytest.mark.parametrize("name", ["text.png", "film.png", "half.jpg", "nothing.png", "bomb.png"])
def test_the_page_says_what_a_script_is_told(
    running_app: RunningApp, sent: Send, name: str
) -> None:
    """Gradio opens pictures before a handler is called, and for all of them one thing was said."""
    made = {**NOT_IMAGES, **DAMAGED, "nothing.png": bytes, "bomb.png": bomb}[name]()
    file = sent(name, made)
    told = post(running_app.url, "classify_image", [file, "a", "", ""])
    data = [file, None, "a", "demo-clip", "", None, "picture"]
    shown = press(running_app.url, "classify", data)
    assert shown["error"] == told["error"]
    assert shown["title"] == told["title"]


def modes() -> dict[str, bytes]:
    """Return pictures of a red circle in every mode, and of a grey one where a mode has no red."""
    red = draw_circle()
    pixels = np.array(red.convert("RGBA"))
    pixels[(pixels[..., :3] == 255).all(-1)] = 0
    grey = np.array(red.convert("L"))
    turned = Image.Exif()
    turned[0x112] = 6
    blue = [draw_circle("#0000ff")]
    return {
        "cmyk.jpg": encoded(red.convert("CMYK"), "JPEG"),
        "turned.jpg": encoded(red, "JPEG", exif=turned.tobytes()),
        "palette.png": encoded(red.convert("P"), "PNG"),
        "clear.png": encoded(Image.fromarray(pixels), "PNG"),
        "moving.gif": encoded(red, "GIF", save_all=True, append_images=blue),
        "moving.webp": encoded(red, "WEBP", save_all=True, append_images=blue, lossless=True),
        "grey-16.png": encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        "grey-bits.png": encoded(red.convert("1"), "PNG"),
        "grey-float.tif": encoded(red.convert("L").convert("F"), "TIFF"),
    }


@pytest.mark.parametrize("name", modes())
def test_a_picture_of_any_mode_is_read(running_app: RunningApp, sent: Send, name: str) -> None:
    answer = post(running_app.url, "caption_image", [sent(name, modes()[name]), "", ""])
    colour = "black" if name.startswith("grey") else "red"
    assert answer["data"] == [f"a {colour} circle on a white background"]


def test_nothing_for_what_is_optional_is_its_default(running_app: RunningApp, sent: Send) -> None:
    red = sent("red.png", encoded(draw_circle(), "PNG"))
    for endpoint, file in (("caption_image", red), ("caption_images", [red])):
        named = post(running_app.url, endpoint, [file, "", ""])
        nothing = post(running_app.url, endpoint, [file, None, None])
        assert named["data"][0] == nothing["data"][0]


def test_text_of_any_length_and_script_is_read(running_app: RunningApp, sent: Send) -> None:
    """As far as the model reads; the conversation says how far that is."""
    red = sent("red.png", encoded(draw_circle(), "PNG"))
    for question in ("w " * 50_000, "这是什么颜色？", "\0", "\ud800", "?" * 3000):
        answer = post(running_app.url, "chat_image", [red, question, None, ""])
        text, history = answer["data"]
        assert isinstance(text, str)
        assert len(question) < 10_000 or any("read" in note for note in history[-1]["notes"])
        prompted = post(running_app.url, "caption_image", [red, question, ""])
        assert isinstance(prompted["data"][0], str)


def packed(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


PICTURE = encoded(draw_circle(), "PNG")

BAD_ZIPS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty file": (bytes, "not a zip"),
    "text": (lambda: b"hello " * 50, "not a zip"),
    "cut off": (lambda: packed({"a.png": PICTURE})[:-40], "cut off"),
    "nothing in it": (lambda: packed({}), "no image in the archive"),
    "no image in it": (lambda: packed({"read.txt": b"a"}), "no image in the archive"),
    "bomb": (lambda: packed({"a.png": bytes(50_000_000)}), "Pack PNG or JPEG files"),
}


@pytest.mark.parametrize("kind", BAD_ZIPS)
def test_a_zip_that_cannot_be_used(running_app: RunningApp, sent: Send, kind: str) -> None:
    make, said = BAD_ZIPS[kind]
    answer = post(running_app.url, "caption_images", [[sent("a.zip", make())], "", ""])
    assert said in answer["error"]
    assert_clear(answer["error"], running_app)


def rows_of(app: RunningApp, *files: dict[str, Any]) -> dict[str, str]:
    """Caption files; returns the reason of each that is refused, "" for the others."""
    rows, results = post(app.url, "caption_images", [list(files), "", ""])["data"]
    assert results["orig_name"] == "captions.zip"
    assert all(bool(row["caption"]) != bool(row["error"]) for row in rows)
    for row in rows:
        assert not row["error"] or "/" not in row["error"], row
    return {row["file"]: row["error"] for row in rows}


def test_what_a_zip_must_not_hold_stops_nothing_else(running_app: RunningApp, sent: Send) -> None:
    names = ("../../evil.png", "/absolute.png", "good.png", "bomb.png", "text.png", "nothing.png")
    contents = (PICTURE, PICTURE, PICTURE, bomb(), b"a text", b"")
    archive = packed(dict(zip(names, contents, strict=True)))
    told = rows_of(running_app, sent("a.zip", archive))
    assert told["good.png"] == ""
    reasons = list(told.values())
    assert sum("leads out of the archive" in reason for reason in reasons) == 2
    assert sum("Shrink it" in reason for reason in reasons) == 1
    assert sum("looks like a text" in reason for reason in reasons) == 1
    assert sum("empty (0 bytes)" in reason for reason in reasons) == 1
    assert not list(Path(running_app.work_dir).parent.glob("**/evil.png"))


def test_archives_among_pictures_say_what_to_do(running_app: RunningApp, sent: Send) -> None:
    """A zip among pictures was to be converted."""
    told = rows_of(
        running_app,
        sent("a.zip", packed({"a.png": PICTURE})),
        sent("red.png", PICTURE),
        sent("b.rar", b"Rar!\x1a\x07\0" + bytes(100)),
        sent("c.7z", b"7z\xbc\xaf\x27\x1c" + bytes(100)),
        sent("d.tar", bytes(257) + b"ustar\0" + bytes(300)),
    )
    assert told["red.png"] == ""
    assert "Send it alone" in told["a.zip"]
    assert all("only zip is opened" in told[name] for name in ("b.rar", "c.7z", "d.tar"))
