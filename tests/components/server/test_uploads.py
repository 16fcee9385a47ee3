"""The guard before every file: only what was uploaded to this app is opened."""

import os
from pathlib import Path

import pytest

from components.server.uploads import Uploads, one_query
from pipelines.core.errors import InputError, MediaError
from pipelines.core.settings import Settings
from pipelines.media.images import NamedImage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "uploads"
    folder.mkdir()
    return folder


@pytest.fixture
def uploads(folder: Path) -> Uploads:
    return Uploads(Settings(work_dir=folder, max_upload_mb=1.0))


@pytest.fixture
def upload(folder: Path) -> Path:
    path = folder / "abc" / "cat.png"
    path.parent.mkdir()
    path.write_bytes(b"x" * 10)
    return path


def test_an_upload_is_taken(uploads: Uploads, upload: Path) -> None:
    assert uploads.path(str(upload), "image") == upload.resolve()
    assert uploads.path({"path": str(upload)}, "image") == upload.resolve()
    winding = upload.parent / ".." / "abc" / "cat.png"
    assert uploads.path(str(winding), "image") == upload.resolve()


@pytest.mark.parametrize("value", [None, "", {}, {"path": None}, {"path": ""}, []])
def test_nothing_is_missing(uploads: Uploads, value: object) -> None:
    with pytest.raises(InputError, match="^image is missing") as caught:
        uploads.path(value, "image")
    assert caught.value.title == "No file"


@pytest.mark.parametrize("value", [5, True, ["x"], {"path": 5}, {"path": ["x"]}, "a\0b"])
def test_what_is_no_path_is_refused(uploads: Uploads, value: object) -> None:
    with pytest.raises(InputError, match="must be an uploaded file"):
        uploads.path(value, "image")


@pytest.mark.parametrize(
    "text",
    [
        "/etc/passwd",
        "../outside.png",
        "uploads/../outside.png",
        "~/x.png",
        "http://127.0.0.1/x.png",
        "file:///etc/passwd",
        "\ud800",
        "x" * 5000,
        "uploads",
        "uploads-of-others/cat.png",
        "uploads/gone.png",
        "uploads/link.png",
        "uploads/folder/cat.png",
        "uploads/loop",
        "uploads/pipe",
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_what_was_not_uploaded_is_refused(
    uploads: Uploads, folder: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Also through links, folders, and a neighbour whose name starts alike."""
    outside = folder.parent / "uploads-of-others"
    outside.mkdir()
    (outside / "cat.png").write_bytes(b"x")
    (folder.parent / "outside.png").write_bytes(b"x")
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    (folder / "folder").symlink_to(outside)
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder.parent)
    with pytest.raises(InputError, match="not a file that was uploaded") as caught:
        uploads.path(text, "image")
    assert str(folder.parent) not in caught.value.message


def test_a_large_file_is_refused(uploads: Uploads, upload: Path) -> None:
    upload.write_bytes(bytes(1_000_000))
    assert uploads.path(str(upload), "image") == upload.resolve()
    upload.write_bytes(bytes(1_600_000))
    with pytest.raises(MediaError, match="'cat.png' has 2 MB; the limit is 1 MB"):
        uploads.path(str(upload), "image")


def test_an_image_has_the_name_that_its_owner_gave_it(uploads: Uploads, upload: Path) -> None:
    def name(**given: object) -> str:
        image = uploads.image({"path": str(upload), **given}, "image")
        assert image is not None
        assert image.path == upload.resolve()
        return image.name

    assert name() == "cat.png"
    assert name(orig_name="holiday 1.png") == "holiday 1.png"
    assert name(orig_name="../../secret/holiday.png") == "holiday.png"
    assert uploads.image(None, "image") is None


@pytest.mark.parametrize("stem", ["x" * 251, "猫" * 251, "a name of many words " * 11])
def test_a_long_name_is_kept_whole(uploads: Uploads, upload: Path, stem: str) -> None:
    given = [f"{stem[: 250 - 1]}{number}.png" for number in range(4)]
    sent = [{"path": str(upload), "orig_name": name} for name in given]
    assert [image.name for image in uploads.images(sent, "images")] == given


def test_a_name_without_end_keeps_its_ending_and_its_difference(
    uploads: Uploads, upload: Path
) -> None:
    given = [f"{'猫' * 5000}{number}{'狗' * 5000}.png" for number in range(4)]
    sent = [{"path": str(upload), "orig_name": name} for name in given]
    names = [image.name for image in uploads.images(sent, "images")]
    assert len(set(names)) == 4
    for name in names:
        assert len(name.encode()) <= 765
        assert name.startswith("猫猫") and name.endswith("狗.png")


def test_lists_keep_their_order_and_length(uploads: Uploads, upload: Path, folder: Path) -> None:
    second = folder / "dog.png"
    second.write_bytes(b"y")
    found = uploads.images([str(second), {"path": str(upload)}], "images")
    assert [image.name for image in found] == ["dog.png", "cat.png"]
    assert uploads.images(None, "images") == uploads.images([], "images") == []


def test_a_hole_in_a_list_is_named(uploads: Uploads, upload: Path) -> None:
    """It was once left out in silence, and the answers after it belonged to other files."""
    with pytest.raises(InputError, match=r"^images\[1\] is missing"):
        uploads.images([str(upload), None], "images")
    with pytest.raises(InputError, match="must be a list of files but got a text"):
        uploads.images(str(upload), "images")
    with pytest.raises(InputError, match="must be a list of files but got an object"):
        uploads.images({}, "images")


def test_exactly_one_query() -> None:
    image = NamedImage(Path("cat.png"), "cat.png")
    assert one_query(" a cat ", None) == "a cat"
    assert one_query("", image) is image
    assert one_query("  ", image) is image
    with pytest.raises(InputError, match="not both"):
        one_query("a cat", image)
    for nothing in ("", " \n"):
        with pytest.raises(InputError, match="query is missing"):
            one_query(nothing, None)
    with pytest.raises(InputError, match="must be text but got a number"):
        one_query(5, None)  # type: ignore[arg-type]
