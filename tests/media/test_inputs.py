"""Folders, lists and zips: every image gets a name and a result, and nothing harms."""

import io
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pipelines.core.errors import InputError, MediaError
from pipelines.media.archive import ZipLimits, from_zip, open_inputs
from pipelines.media.inputs import (
    Inputs,
    caption_names,
    from_files,
    from_folder,
    printable,
    unique_names,
)
from tests.fakes.batch_captioner import make_picture


def png(number: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, 0, 0)).save(file, "PNG")
    return file.getvalue()


def make_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def names(inputs: Inputs) -> list[str]:
    return [item.name for item in inputs.items]


def reason(inputs: Inputs, index: int = 0) -> str:
    with pytest.raises(MediaError) as caught:
        inputs.items[index].source.read()
    return caught.value.message


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a.jpg", "b.png"], ["a.txt", "b.txt"]),
        (["a.jpg", "a.png"], ["a.jpg.txt", "a.png.txt"]),
        (["a.jpg", "sub/a.png"], ["a.txt", "sub/a.txt"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg.txt", "a.png.txt", "a.jpg.png.txt"]),
        (["A.jpg", "a.png"], ["A.jpg.txt", "a.png.txt"]),
        (["A.jpg", "a.jpg"], ["A.jpg.txt", "a.jpg (2).txt"]),
        (["é.jpg", "é.png"], ["é.jpg.txt", "é.png.txt"]),
        (["e\u0301.jpg", "\u00e9.png"], ["e\u0301.jpg.txt", "\u00e9.png.txt"]),
        ([".jpg", "..jpg"], [".jpg.txt", "..txt"]),
    ],
)
def test_caption_files_have_names_of_their_own(given: list[str], expected: list[str]) -> None:
    assert caption_names(given) == expected


def test_repeated_names_are_numbered() -> None:
    assert unique_names(["a.jpg", "a.jpg", "A.JPG", "a (2).jpg", "s/a.jpg"]) == [
        "a.jpg",
        "a (3).jpg",
        "A (4).JPG",
        "a (2).jpg",
        "s/a.jpg",
    ]
    assert unique_names(["e\u0301.jpg", "\u00e9.jpg", "E\u0301.JPG"]) == [
        "e\u0301.jpg",
        "\u00e9 (2).jpg",  # the same name on a disk that keeps one form of Unicode
        "E\u0301 (3).JPG",
    ]
    many = unique_names(["image.png"] * 10_000)  # as pasted pictures are called
    assert len(set(many)) == 10_000 and many[-1] == "image (10000).png"
    assert printable("a\nb\x00\ud800.jpg") == "a_b_?.jpg"


def test_a_folder(tmp_path: Path) -> None:
    for number, name in enumerate(["b.png", "a.jpg", "sub/a.jpg", "sub/deep/c.PNG", ".git/x.png"]):
        make_picture(tmp_path / name, number)
    for name in ["a.txt", "movie.mp4", ".hidden.png", "captions.csv"]:
        (tmp_path / name).write_bytes(b"x")
    inputs = from_folder(tmp_path)
    assert names(inputs) == ["a.jpg", "b.png", "sub/a.jpg", "sub/deep/c.PNG"]
    assert [(left.name, left.reason) for left in inputs.skipped] == [
        ("movie.mp4", "not an image by its name")
    ]
    assert inputs.items[0].existing_caption() == "x"
    assert inputs.items[2].existing_caption() == ""
    assert inputs.items[2].source.caption_path == tmp_path / "sub" / "a.txt"
    assert names(from_folder(tmp_path, recursive=False)) == ["a.jpg", "b.png"]


def test_a_folder_with_traps(tmp_path: Path) -> None:
    make_picture(tmp_path / "a.png", 0)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(png())
    inputs = from_folder(tmp_path)
    assert names(inputs) == ["a.png", "broken.png", "link.png", "pipe.png", "?.png"]
    assert inputs.items[2].source.read() == inputs.items[0].source.read()
    assert "no table can name it. Rename it" in reason(inputs, 4)
    assert "cannot be read: No such file" in reason(inputs, 1)
    assert "a pipe, not a file" in reason(inputs, 3)


def test_names_in_a_folder_are_those_on_the_disk(tmp_path: Path) -> None:
    given = ["A.PNG", "a.png", "b?.png", "\u0065\u0301.png", "\u00e9.png", "c\n.png", "c_.png"]
    for name in given:
        (tmp_path / name).write_bytes(png())
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png")).write_bytes(png())
    items = from_folder(tmp_path).items
    read = []
    for item in items:
        try:
            item.source.read()
        except MediaError:
            continue
        read.append(item.name)
    assert sorted(read) == sorted(set(given) - {"c\n.png"})
    assert len({item.name for item in items}) == len({item.caption_name for item in items}) == 8
    beside = [item.source.caption_path for item in items if item.name in read]
    assert {path.name for path in beside if path} == {
        f"{name.removesuffix('.png').removesuffix('.PNG')}.txt" for name in set(given) - {"c\n.png"}
    }


def test_names_that_the_disk_keeps_apart_have_the_captions_that_trainers_read(
    tmp_path: Path,
) -> None:
    """A trainer replaces the suffix of an image by .txt."""
    given = ["Case.jpg", "case.jpg", "Straße.jpg", "Strasse.png", "e\u0301.jpg", "\u00e9.png"]
    for number, name in enumerate(given):
        make_picture(tmp_path / name, number)
    for item in from_folder(tmp_path).items:
        assert item.source.caption_path == (tmp_path / item.name).with_suffix(".txt")
        assert item.caption_name == f"{item.name[:-4]}.txt"


def test_a_disk_that_does_not_tell_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(["A.jpg", "a.png"]):
        make_picture(tmp_path / name, number)
    monkeypatch.setattr("os.path.exists", lambda path: True)
    captions = [item.source.caption_path for item in from_folder(tmp_path).items]
    assert captions == [tmp_path / "A.jpg.txt", tmp_path / "a.png.txt"]


def test_images_of_one_name_share_the_caption_that_is_there(tmp_path: Path) -> None:
    for number, name in enumerate(["pair.jpg", "pair.png"]):
        make_picture(tmp_path / name, number)
    (tmp_path / "pair.txt").write_text("by hand\n")
    items = from_folder(tmp_path).items
    assert [item.existing_caption() for item in items] == ["by hand", "by hand"]
    (tmp_path / "pair.png.txt").write_text("its own\n")
    assert [item.existing_caption() for item in items] == ["by hand", "its own"]


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image in the folder"):
        from_folder(tmp_path)
    with pytest.raises(InputError, match="Expected a folder of images but 'nowhere' is none"):
        from_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="No files were given"):
        from_files([])


def test_a_list_of_files(tmp_path: Path) -> None:
    """Uploads lie in a folder each, under names that repeat; each is an input, whatever it is."""
    paths = [tmp_path / "1" / "a.jpg", tmp_path / "2" / "a.jpg", tmp_path / "3" / "notes.doc"]
    for number, path in enumerate(paths[:2]):
        make_picture(path, number)
    inputs = from_files(paths)
    assert names(inputs) == ["a.jpg", "a (2).jpg", "notes.doc"]
    assert [item.caption_name for item in inputs.items] == ["a.txt", "a (2).txt", "notes.txt"]
    assert inputs.items[1].source.caption_path == tmp_path / "2" / "a.txt"
    assert names(from_files(paths[:1], ["../../x.jpg"])) == ["x.jpg"]
    # the same file twice shares its caption file
    twice = from_files([paths[0], paths[0]])
    assert len({item.source.caption_path for item in twice.items}) == 1


def test_whatever_is_given(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "pictures" / "a.zip", {"in.png": png()})
    nameless = path.rename(path.with_name("upload"))
    make_picture(tmp_path / "pictures" / "a.png", 1)
    assert names(open_inputs([tmp_path / "pictures"])) == ["a.png"]
    assert names(open_inputs([nameless])) == ["in.png"]
    picture = tmp_path / "pictures" / "a.png"
    assert names(open_inputs([picture])) == ["a.png"]
    assert names(open_inputs([picture, nameless], ["x.png", "y.zip"])) == ["x.png", "y.zip"]
    with pytest.raises(ValueError, match="names must be as many as paths, 1, but got 2"):
        open_inputs([picture], ["a", "b"])


def test_a_file_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.media.inputs.MAX_FILE_BYTES", 1000)
    (tmp_path / "a.png").write_bytes(bytes(1001))
    assert "larger than the limit" in reason(from_folder(tmp_path))


def test_a_caption_file_that_is_no_text(tmp_path: Path) -> None:
    make_picture(tmp_path / "a.png", 0)
    (tmp_path / "a.txt").write_bytes("\ufeff 一只狗\n".encode())
    (item,) = from_folder(tmp_path).items
    assert item.existing_caption() == "一只狗"
    (tmp_path / "a.txt").write_bytes("一只狗".encode("gb18030"))
    with pytest.raises(MediaError, match="no UTF-8 text"):
        item.existing_caption()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip(tmp_path: Path, method: int) -> None:
    members = {
        "b.png": png(1),
        "sub/a.png": png(2),
        "sub/a.txt": b"a dog",
        "a.png": png(3),
        "一只狗.png": png(4),
        "readme.md": b"x",
        "more.zip": b"x",
        "__MACOSX/._a.png": b"x",
        ".DS_Store": b"x",
        "folder/": b"",
    }
    with from_zip(make_zip(tmp_path / "a.zip", members, method)) as inputs:
        assert names(inputs) == ["b.png", "sub/a.png", "a.png", "一只狗.png"]
        assert [item.source.read() for item in inputs.items] == [png(i) for i in (1, 2, 3, 4)]
        assert [item.existing_caption() for item in inputs.items] == ["", "a dog", "", ""]
        assert all(item.source.caption_path is None for item in inputs.items)
        left = {skipped.name: skipped.reason for skipped in inputs.skipped}
    assert set(left) == {"sub/a.txt", "readme.md", "more.zip"}
    assert left["more.zip"] == "an archive within the archive is not opened"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]  # nothing was unpacked


def test_a_zip_among_other_files_is_not_opened(tmp_path: Path) -> None:
    make_picture(tmp_path / "a.png", 1)
    packed = make_zip(tmp_path / "b.zip", {"c.png": png()})
    inputs = open_inputs([tmp_path / "a.png", packed])
    assert names(inputs) == ["a.png", "b.zip"]
    assert inputs.items[0].source.read() and "only where it comes alone" in reason(inputs, 1)


def test_files_in_a_zip_have_the_limits_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_zip(tmp_path / "a.zip", {"a.png": png(), "a.txt": b"word " * 30})
    monkeypatch.setattr("pipelines.media.archive.MAX_CAPTION_BYTES", 100)
    with pytest.raises(MediaError, match="Its caption file is larger than the limit"):
        from_zip(path).items[0].source.read_caption()
    monkeypatch.setattr("pipelines.media.archive.MAX_CAPTION_BYTES", 150)
    assert len(from_zip(path).items[0].source.read_caption()) == 150
    monkeypatch.setattr("pipelines.media.archive.MAX_FILE_BYTES", len(png()) - 1)
    assert "It unpacks to" in reason(from_zip(path))
    monkeypatch.setattr("pipelines.media.archive.MAX_FILE_BYTES", len(png()))
    assert from_zip(path).items[0].source.read() == png()


def test_names_that_lead_out_of_a_zip(tmp_path: Path) -> None:
    bad = ["../a.png", "/etc/b.png", "x/../../c.png", "C:\\d.png", "..\\e.png", "C:f.png"]
    inputs = from_zip(make_zip(tmp_path / "a.zip", dict.fromkeys([*bad, "x\\g.png"], png())))
    assert names(inputs) == [
        "_/a.png",
        "etc/b.png",
        "x/_/_/c.png",
        "d.png",
        "_/e.png",
        "f.png",
        "x/g.png",
    ]
    for index in range(len(bad)):
        assert "leads out of the archive" in reason(inputs, index)
    assert inputs.items[-1].source.read() == png()


def test_a_name_without_end_in_a_zip(tmp_path: Path) -> None:
    names_given = [f"{'x' * 65000}{number}.png" for number in range(2)]
    path = make_zip(tmp_path / "a.zip", {**dict.fromkeys(names_given, png()), "a.png": png()})
    with from_zip(path) as inputs:
        assert "longer than 1,000 letters" in reason(inputs, 0)
        assert all(len(item.caption_name) < 200 for item in inputs.items)
        assert len(set(names(inputs))) == 3
        assert inputs.items[2].source.read() == png()


def test_an_office_document_is_no_zip_of_pictures(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "letter.docx", {"word/media/a.png": png()})
    assert names(open_inputs([path])) == ["letter.docx"]


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("passwd.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "a link, not a file" in reason(from_zip(tmp_path / "a.zip"))


def patched(path: Path, patch: Callable[[bytearray, int, int], None]) -> Path:
    """Change the local and the central record of the only member of an archive."""
    data = bytearray(path.read_bytes())
    patch(data, data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02"))
    path.write_bytes(data)
    return path


def test_a_password(tmp_path: Path) -> None:
    def lock(data: bytearray, local: int, central: int) -> None:
        data[local + 6] |= 1
        data[central + 8] |= 1

    path = patched(make_zip(tmp_path / "a.zip", {"a.png": png()}), lock)
    assert "locked with a password" in reason(from_zip(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing(tmp_path: Path, method: int) -> None:
    """These unpack a short input to a huge output in one step, before its size can be seen."""
    path = make_zip(tmp_path / "a.zip", {"a.png": png()}, method)
    assert "packed in a way that is not read" in reason(from_zip(path))


def test_a_member_that_lies_about_its_size(tmp_path: Path) -> None:
    def shorten(data: bytearray, local: int, central: int) -> None:
        struct.pack_into("<I", data, central + 24, 10)

    path = patched(make_zip(tmp_path / "a.zip", {"a.png": bytes(10_000_000)}), shorten)
    assert "damaged in the archive" in reason(from_zip(path))


def test_a_damaged_member_leaves_the_others(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a.png": png(1), "b.png": png(2)}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(data)
    inputs = from_zip(path)
    assert "damaged in the archive" in reason(inputs, 0)
    assert inputs.items[1].source.read() == png(2)


@pytest.mark.parametrize("keep", [0, 10, 50, -1, -30])
def test_no_zip(tmp_path: Path, keep: int) -> None:
    path = make_zip(tmp_path / "a.zip", {"a.png": png()})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="not a zip, or is damaged"):
        from_zip(path)
    (tmp_path / "b.zip").write_bytes(png())
    with pytest.raises(InputError, match="not a zip, or is damaged"):
        from_zip(tmp_path / "b.zip")


def test_a_zip_without_images(tmp_path: Path) -> None:
    for members in ({}, {"a.txt": b"x"}):
        with pytest.raises(InputError, match="no image in the archive"):
            from_zip(make_zip(tmp_path / "a.zip", members))


def test_bombs(tmp_path: Path) -> None:
    """One member that swells, an archive that does, one of too much, one of too many."""
    swelling = {"bomb.png": bytes(40_000_000), "a.png": os.urandom(400_000)}
    inputs = from_zip(make_zip(tmp_path / "a.zip", swelling))
    assert "more than 200 times its size" in reason(inputs, 0)
    assert len(inputs.items[1].source.read()) == 400_000
    path = make_zip(tmp_path / "b.zip", {"bomb.png": bytes(40_000_000)})
    with pytest.raises(InputError, match="times its size; the limit is 200"):
        from_zip(path)
    path = make_zip(tmp_path / "c.zip", {f"{i}.png": png(i) for i in range(20)})
    with pytest.raises(InputError, match=r"unpacks to 0\.0 GB; the limit"):
        from_zip(path, ZipLimits(total_bytes=1000))
    with pytest.raises(InputError, match="more than 19 files"):
        from_zip(path, ZipLimits(num_members=19))
    assert len(from_zip(path, ZipLimits(num_members=20)).items) == 20


def test_a_bomb_of_members_that_share_their_bytes(tmp_path: Path) -> None:
    """Each of a million members may point at the same data, so that no ratio is suspicious."""
    path = make_zip(tmp_path / "a.zip", {"a.png": png(1), "b.png": png(1)})
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    struct.pack_into("<I", data, second + 42, 0)
    path.write_bytes(data)
    with pytest.raises(InputError, match="overlap"):
        from_zip(path)


def test_a_zip64_archive_is_counted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    path = make_zip(tmp_path / "a.zip", {f"{i}.png": png(i) for i in range(5)})
    assert b"PK\x06\x07" in path.read_bytes()
    assert len(from_zip(path, ZipLimits(num_members=5)).items) == 5
    with pytest.raises(InputError, match="more than 4 files"):
        from_zip(path, ZipLimits(num_members=4))


def test_names_in_utf_8_that_do_not_say_so(tmp_path: Path) -> None:
    """As the archiver of macOS writes them."""

    def unsay(data: bytearray, local: int, central: int) -> None:
        data[local + 7] &= ~8
        data[central + 9] &= ~8

    path = patched(make_zip(tmp_path / "a.zip", {"狗.png": png()}), unsay)
    inputs = from_zip(path)
    assert names(inputs) == ["狗.png"]
    assert inputs.items[0].source.read() == png()
