"""/caption_images: a row for each image whatever the others are, and nobody kept waiting."""

import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.components.api.test_image_text_bad_input import assert_clear
from tests.conftest import connect, draw_circle
from tests.fakes.bad_files import DAMAGED, NOT_IMAGES, bomb, encoded
from tests.support.app_process import RunningApp, serve
from tests.support.raw_http import http, post, upload

Save = Callable[..., Path]

#: Colours that the bundled model tells apart.
COLOURS = {"red": "#e4202c", "blue": "#1c4ed8", "yellow": "#f5d90a"}

#: Seconds after which a run counts as hung.
HANG_S = 120.0


def caption_images(client: Client, *files: Path, **options: Any) -> tuple[list[Any], Path]:
    sent = [handle_file(file) for file in files]
    rows, results = client.predict(files=sent, api_name="/caption_images", **options)
    return rows, Path(results)


def caption_image(client: Client, file: Path, **options: Any) -> str:
    image = handle_file(file)
    return str(client.predict(image=image, api_name="/caption_image", **options))


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def disc(colour: str) -> bytes:
    return encoded(draw_circle(COLOURS[colour]), "PNG")


def many(path: Path, number: int) -> Path:
    """Write a zip of small pictures, no two alike."""
    members = {}
    for index in range(number):
        image = draw_circle(f"#{255 - index % 200:02x}{index // 200:02x}20", 64)
        members[f"{index:04}.png"] = encoded(image, "PNG")
    return make_zip(path, members)


@pytest.fixture
def three(save: Save) -> list[Path]:
    return [save(f"{name}.png", draw_circle(colour)) for name, colour in COLOURS.items()]


@pytest.mark.parametrize(
    "options",
    [{}, {"prompt": "a"}, {"num_beams": 3}, {"temperature": 0.8, "seed": 7, "top_p": 0.9}],
    ids=str,
)
def test_each_caption_is_that_of_the_picture_alone(
    client: Client, three: list[Path], save: Save, options: dict[str, Any]
) -> None:
    cmyk = save("cmyk.jpg", draw_circle(COLOURS["blue"], 301).convert("CMYK"))
    files = [*three, cmyk]
    rows, _ = caption_images(client, *files, **options)
    assert [row["file"] for row in rows] == [file.name for file in files]
    assert [row["caption"] for row in rows] == [
        caption_image(client, file, **options) for file in files
    ]
    assert {row["error"] for row in rows} == {""}


def test_rows_and_files(client: Client, three: list[Path]) -> None:
    rows, results = caption_images(client, *three)
    assert [list(row) for row in rows] == [["file", "caption", "error", "notes"]] * 3
    for name, row in zip(COLOURS, rows, strict=True):
        assert f"{name} circle" in row["caption"]
    with zipfile.ZipFile(results) as archive:
        names = set(archive.namelist())
        lines = archive.read("metadata.jsonl").decode("utf-8").splitlines()
        said = archive.read("captions/red.txt").decode("utf-8").strip()
    tables = {"captions.jsonl", "captions.csv", "metadata.jsonl"}
    assert names == tables | {f"captions/{name}.txt" for name in COLOURS}
    assert [json.loads(line)["file_name"] for line in lines] == [file.name for file in three]
    assert said == rows[0]["caption"]


def test_bad_files_stop_no_others(
    client: Client, running_app: RunningApp, three: list[Path], save: Save
) -> None:
    bad = {name: make() for name, make in (NOT_IMAGES | DAMAGED).items()}
    bad |= {"empty.png": b"", "bomb.png": bomb()}
    files = [three[0], *(save(name, data) for name, data in bad.items()), *three[1:]]
    rows, results = caption_images(client, *files)
    assert [row["file"] for row in rows] == [file.name for file in files]
    assert [bool(row["caption"]) for row in rows] == [True, *[False] * len(bad), True, True]
    for row in rows[1:-2]:
        assert_clear(row["error"], running_app)
    with zipfile.ZipFile(results) as archive:
        lines = archive.read("captions.jsonl").decode("utf-8").splitlines()
    assert [bool(json.loads(line)["error"]) for line in lines] == [
        bool(row["error"]) for row in rows
    ]


def test_a_zip_with_more_than_pictures(client: Client, running_app: RunningApp, save: Save) -> None:
    path = make_zip(
        save("all.zip", b""),
        {
            "notes.txt": b"hello",
            "a/red.png": disc("red"),
            "b/red.png": disc("blue"),
            "../../etc/out.png": disc("red"),
            "/abs.png": disc("red"),
            "inner.zip": b"PK\x03\x04",
            "__MACOSX/._red.png": b"x",
            "half.png": disc("red")[:300],
        },
    )
    rows, results = caption_images(client, path)
    found = {row["file"]: row for row in rows}
    assert [row["file"] for row in rows] == [
        "a/red.png",
        "b/red.png",
        "_/_/etc/out.png",
        "abs.png",
        "half.png",
    ]
    assert "red circle" in found["a/red.png"]["caption"]
    assert "blue circle" in found["b/red.png"]["caption"]
    assert "leads out of the archive" in found["_/_/etc/out.png"]["error"]
    assert "leads out of the archive" in found["abs.png"]["error"]
    assert "damaged or cut off" in found["half.png"]["error"]
    for row in rows:
        assert not row["error"] or assert_clear(row["error"], running_app) is None
    with zipfile.ZipFile(results) as archive:
        assert not [name for name in archive.namelist() if ".." in name or name.startswith("/")]


def test_notes_on_captions(client: Client, three: list[Path]) -> None:
    for _ in range(2):  # made, then known
        rows, _ = caption_images(client, *three, max_new_tokens=1, resume_key="notes, noted")
        assert [len(row["notes"]) for row in rows] == [1, 1, 1]
        assert "max_new_tokens" in rows[0]["notes"][0]
    assert [row["notes"] for row in caption_images(client, *three)[0]] == [[], [], []]


def test_a_zip_bomb(client: Client, running_app: RunningApp, save: Save) -> None:
    swelling = make_zip(save("a.zip", b""), {"bomb.png": bytes(60_000_000)})
    with pytest.raises(AppError, match="times its size") as caught:
        caption_images(client, swelling)
    assert_clear(caught.value.message, running_app)
    half = {
        "bomb.png": bytes(30_000_000),
        "noise.png": Image.effect_noise((900, 900), 90).tobytes(),
    }
    rows, _ = caption_images(client, make_zip(save("b.zip", b""), {**half, "r.png": disc("red")}))
    assert [bool(row["caption"]) for row in rows] == [False, False, True]
    assert "unpacks to more than" in rows[0]["error"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.zip", b"PK\x03\x04 and no more", "not a zip, or is damaged"),
        ("texts.zip", None, "There is no image in the archive"),
    ],
)
def test_a_zip_that_is_of_no_use(
    client: Client, running_app: RunningApp, save: Save, name: str, content: bytes, said: str
) -> None:
    path = save(name, content or b"")
    if content is None:
        make_zip(path, {"a.txt": b"hello"})
    with pytest.raises(AppError, match=said) as caught:
        caption_images(client, path)
    assert_clear(caught.value.message, running_app)


def test_nothing_at_all(client: Client, running_app: RunningApp, three: list[Path]) -> None:
    for files in ([], None):
        with pytest.raises(AppError, match="No files were given") as caught:
            client.predict(files=files, api_name="/caption_images")
        assert_clear(caught.value.message, running_app)
        assert caught.value.title == "No file"
    for files in ("a.png", [{"path": "/etc/passwd"}], [None], [3], {"path": "x"}):
        answer = post(running_app.url, "caption_images", [files])
        assert "error" in answer, answer
        assert_clear(answer["error"], running_app)
    assert len(caption_images(client, *three)[0]) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "demo-clip"}, "demo-blip2"),
        ({"max_new_tokens": 0}, "max_new_tokens must be"),
        ({"num_beams": 2, "temperature": 1.0}, "Set num_beams to 1"),
        ({"seed": -1}, "seed must be"),
    ],
    ids=str,
)
def test_settings_that_are_not_possible(
    client: Client, running_app: RunningApp, three: list[Path], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(AppError, match=said) as caught:
        caption_images(client, *three, **options)
    assert_clear(caught.value.message, running_app)


def test_visitors_are_answered_while_a_long_batch_runs(
    running_app: RunningApp, three: list[Path], save: Save
) -> None:
    number = 800
    batch, visitor = connect(running_app.url), connect(running_app.url)
    alone = [caption_image(visitor, file) for file in three]
    job = batch.submit(
        files=[handle_file(many(save("many.zip", b""), number))], api_name="/caption_images"
    )
    progress = watch(job)
    assert 0 < next(progress) < number
    for file, expected in zip(three, alone, strict=True):
        start = time.monotonic()
        assert caption_image(visitor, file) == expected
        assert time.monotonic() - start < 10
        assert not job.done(), "the batch goes on meanwhile"
    rows, _ = job.result(timeout=HANG_S)
    assert len(rows) == number
    assert all(row["caption"] for row in rows)


def watch(job: Any) -> Iterator[int]:
    """Yield how many rows a running job has told of, as often as there are more."""
    told, end = 0, time.monotonic() + HANG_S
    while time.monotonic() < end:
        outputs = job.outputs()
        if outputs and len(outputs[-1][0]) > told:
            told = len(outputs[-1][0])
            yield told
        time.sleep(0.05)


def ledger_lines(work_dir: Path) -> list[dict[str, Any]]:
    """Return the results in all ledgers, those of the newest last."""
    paths = sorted(
        (work_dir / "results" / "ledgers").glob("*.jsonl"), key=lambda path: path.stat().st_ctime
    )
    whole = [line for path in paths for line in path.read_text("utf-8").split("\n")[:-1]]
    return [row for row in map(json.loads, whole) if "values" not in row]


def test_it_ends_when_its_client_has_gone(running_app: RunningApp, save: Save) -> None:
    """The connection is closed in the middle of a run, as by a script that was killed."""
    number = 1200
    path = upload(running_app.url, many(save("gone.zip", b""), number))
    base = f"{running_app.url.rstrip('/')}/gradio_api/call/caption_images"
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    begun = len(ledger_lines(running_app.work_dir))
    event = http.post(base, json={"data": [files, "an odd prompt"]}).json()["event_id"]
    with http.stream("GET", f"{base}/{event}") as stream:
        for _ in stream.iter_lines():
            if len(ledger_lines(running_app.work_dir)) > begun + 16:
                break
    time.sleep(1.5)
    ended = len(ledger_lines(running_app.work_dir))
    time.sleep(1.5)
    assert len(ledger_lines(running_app.work_dir)) == ended < begun + number


def test_a_killed_server_does_only_what_is_missing(tmp_path: Path, save: Save) -> None:
    number = 200
    files = many(save("killed.zip", b""), number)
    with serve(tmp_path) as app:
        request = {"files": [handle_file(files)], "resume_key": "k" * 20}
        job = connect(app.url).submit(**request, api_name="/caption_images")
        assert 0 < next(watch(job)) < number
        app.process.kill()
        app.process.wait()
        before = ledger_lines(app.work_dir)
    assert 0 < len(before) < number
    with serve(tmp_path) as app:
        rows, _ = caption_images(connect(app.url), files, resume_key="k" * 20)
        after = ledger_lines(app.work_dir)[len(before) :]
    assert [row["file"] for row in rows] == [f"{index:04}.png" for index in range(number)]
    assert all(row["caption"] for row in rows)
    assert len(after) == number
    made = {row["hash"] for row in before}
    was_made = [row["hash"] in made for row in after]  # what was known is written anew at the end
    assert was_made == [False] * (number - len(made)) + [True] * len(made)
