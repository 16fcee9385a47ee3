"""Links in place of files, through the app: fetched by us, into the folder for uploads."""

import asyncio
import os
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from components.server import uploads as module
from components.server.uploads import KEPT_S, MOST_FILES, Links
from pipelines.core.errors import InputError, MediaError
from pipelines.core.settings import Settings
from tests.conftest import connect, draw_circle
from tests.fakes.local_server import LocalServer
from tests.support.app_process import RunningApp, serve
from tests.support.raw_http import http, post

#: `python app.py` that fetches from this machine too.
OPEN = """
import functools, sys
from components import page
from components.server.uploads import Links
page.Links = functools.partial(Links, allowed=lambda address: True)
import app
app.main(sys.argv[1:])
"""


class _Handler(BaseHTTPRequestHandler):
    owner: "PictureServer"

    def do_GET(self) -> None:
        with self.owner.lock:
            self.owner.asked.append(self.path)
        self.send_response(404 if self.path.endswith("none.png") else 200)
        self.end_headers()
        self.wfile.write(self.owner.content)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


class PictureServer(LocalServer):
    """Gives the same content for each path."""

    handler = _Handler

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[str] = []


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[PictureServer]:
    draw_circle().save(tmp_path / "drawn.png")
    with PictureServer((tmp_path / "drawn.png").read_bytes()) as server:
        yield server


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


def links(work: Path, max_upload_mb: float = 1.0) -> Links:
    settings = Settings(work_dir=work, max_upload_mb=max_upload_mb)
    return Links(settings, allowed=lambda address: True)


def file(link: str, **more: Any) -> dict[str, Any]:
    return {"path": link, "meta": {"_type": "gradio.FileData"}, **more}


def fetched(links: Links, inputs: Any) -> Any:
    return asyncio.run(links.fetched(inputs, None))


def test_more_links_than_files_are_refused(work: Path, pictures: PictureServer) -> None:
    many = [file(f"{pictures.url}/{number}") for number in range(MOST_FILES + 1)]
    with pytest.raises(InputError, match="at most 20,000 links but got 20,001"):
        fetched(links(work), many)
    assert pictures.asked == []


def test_files_take_the_place_of_links(work: Path, pictures: PictureServer) -> None:
    first, second = f"{pictures.url}/one/cat.png?size=2", f"{pictures.url}/two/猫.png"
    inputs = [
        file(first, url=first, orig_name="cat.png?size=2"),
        ["a", {"deep": [file(second), file(first)]}],
        None,
    ]
    one, (text, deep), nothing = fetched(links(work), inputs)
    assert (text, nothing) == ("a", None)
    assert one == file(one["path"], url=None, orig_name="cat.png?size=2")
    path = Path(one["path"])
    assert path.name == "cat.png"
    assert path.read_bytes() == pictures.content
    assert path.parent.parent == work
    assert [Path(each["path"]).name for each in deep["deep"]] == ["猫.png", "cat.png"]
    assert deep["deep"][1]["path"] == one["path"]
    assert len(pictures.asked) == 2, "a link that comes twice is fetched once"
    assert len([each for each in work.rglob("*") if each.is_file()]) == 2


@pytest.mark.parametrize(
    ("end", "name"),
    [("", "file"), ("/", "file"), ("/a/..", "file"), ("/a/b/", "b"), ("/x%2Fy.png", "x%2Fy.png")],
)
def test_a_name_never_leaves_its_folder(
    work: Path, pictures: PictureServer, end: str, name: str
) -> None:
    path = Path(fetched(links(work), file(pictures.url + end))["path"])
    assert path.name == name
    assert path.parent.parent == work


def test_what_is_no_link_stays_as_it_is(work: Path) -> None:
    inputs = [
        {"path": "http://127.0.0.1/a.png"},
        {"path": "http://127.0.0.1/a.png", "meta": "x"},
        file("/etc/passwd"),
        file("ftp://127.0.0.1/a.png"),
        {"path": 5, "meta": {"_type": "gradio.FileData"}},
        "http://127.0.0.1/a.png",
    ]
    assert fetched(links(work), inputs) == inputs
    assert not work.exists()


def test_a_file_is_taken_again_for_a_while(work: Path, pictures: PictureServer) -> None:
    """It must not be deleted as old while it is read."""
    given = file(f"{pictures.url}/cat.png")
    path = Path(fetched(links(work), given)["path"])
    pictures.content += b"more"
    fetched(links(work), given)
    assert len(pictures.asked) == 1
    old = time.time() - KEPT_S - 1
    os.utime(path, (old, old))
    assert Path(fetched(links(work), given)["path"]).read_bytes() == pictures.content
    assert len(pictures.asked) == 2


def test_of_a_failure_nothing_is_left(work: Path, pictures: PictureServer) -> None:
    pictures.content = bytes(2_000_000)
    with pytest.raises(MediaError, match="'cat.png' leads to has more than 1 MB"):
        fetched(links(work), file(f"{pictures.url}/cat.png"))
    with pytest.raises(InputError, match="status 404"):
        fetched(links(work), [file(f"{pictures.url}/{index}/none.png") for index in range(9)])
    assert [each for each in work.rglob("*") if each.is_file()] == []


@pytest.mark.parametrize("link", ["http://[::1", "http://\ud800/a.png", "http://a.test/\ud800"])
def test_a_link_that_is_none(work: Path, link: str) -> None:
    with pytest.raises(InputError, match="none that can be read"):
        fetched(links(work), file(link))


def test_without_room_nothing_is_fetched(work: Path, pictures: PictureServer) -> None:
    with pytest.raises(MediaError, match="less than the largest upload"):
        fetched(links(work, max_upload_mb=1e12), file(f"{pictures.url}/cat.png"))
    assert pictures.asked == []


def test_all_links_of_a_request_have_one_deadline(
    work: Path, pictures: PictureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(module, "REQUEST_S", 0.2)
    monkeypatch.setattr(module, "fetch", never)
    with pytest.raises(InputError, match="The 9 links of this request did not give"):
        fetched(links(work), [file(f"{pictures.url}/{index}") for index in range(9)])


@pytest.fixture(scope="module")
def open_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with serve(tmp_path_factory.mktemp("open"), "--max-upload-mb", "1", code=OPEN) as app:
        yield app


@pytest.fixture(scope="module")
def script(open_app: RunningApp) -> Client:
    return connect(open_app.url)


def test_a_script_names_links(
    script: Client, open_app: RunningApp, pictures: PictureServer
) -> None:
    link = f"{pictures.url}/holiday/red.png"
    label, _ = script.predict(
        image=handle_file(link), labels="red circle\nblue star", api_name="/classify_image"
    )
    assert label["label"] == "red circle"
    (row,) = script.predict(
        query_text="a", candidate_images=[handle_file(link)], api_name="/rank_similarity"
    )
    assert row["candidate"] == "red.png"
    assert pictures.asked == ["/holiday/red.png"]
    log = open_app.log_file.read_text("utf-8")
    assert "holiday" not in log


def test_a_link_is_refused_in_a_sentence(open_app: RunningApp, pictures: PictureServer) -> None:
    def said(link: str, language: str = "") -> dict[str, Any]:
        return post(open_app.url, "classify_image", [file(link), "a", "", ""], language)

    missing = said(f"{pictures.url}/none.png")
    assert missing["title"] == "Check your link"
    assert "answered with status 404" in missing["error"]
    assert "状态 404" in said(f"{pictures.url}/none.png", "zh-CN")["error"]
    pictures.content = bytes(1_000_001)
    large = said(f"{pictures.url}/large.png")
    assert large["title"] == "Cannot read this file"
    assert "more than 1 MB" in large["error"]


def test_gradio_fetches_nothing_for_anybody(open_app: RunningApp, pictures: PictureServer) -> None:
    """Its route for files fetched any public link, and waited for it without end."""
    answer = http.get(f"{open_app.url.rstrip('/')}/gradio_api/file={pictures.url}/cat.png")
    assert answer.status_code == 403
    answer = http.get(f"{open_app.url.rstrip('/')}/gradio_api/file=http://8.8.8.8/cat.png")
    assert answer.status_code == 403, "not even asked"
    assert pictures.asked == []
