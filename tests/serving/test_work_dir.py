"""Old uploads go, also those of an earlier run; nothing else does."""

import time
from pathlib import Path

import pytest

from pipelines.serving import work_dir
from pipelines.serving.work_dir import MARK, claim, start_sweeping, sweep

HASH = "5180d259d73211aade4da66c62762c2676454a16deadde2a2b4cb0f9c7a45845"


def upload(folder: Path, name: str = "cat.png", content: bytes = b"x") -> Path:
    path = folder / HASH / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_what_is_old_goes_with_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    assert claim(folder)
    uploaded, result = upload(folder), folder / "results" / "token" / "scores.csv"
    result.parent.mkdir(parents=True)
    result.write_text("a")
    (folder / "empty").mkdir()
    assert sweep(folder, 60) == 0, "another instance's files are as young"
    assert uploaded.is_file()
    assert (folder / "empty").is_dir(), "somebody may be about to write into it"
    assert sweep(folder, 60, now=time.time() + 100) == 2
    assert [path.name for path in folder.iterdir()] == [MARK]


def test_a_copy_is_as_old_as_the_copying(tmp_path: Path) -> None:
    """Gradio's copies keep the time of the original."""
    import os

    copied = upload(tmp_path)
    os.utime(copied, (1, 1))
    assert sweep(tmp_path, 60) == 0
    assert copied.is_file()


def test_no_link_is_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "work", tmp_path / "outside"
    precious = outside / "inner" / "precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("a")
    assert claim(folder)
    (folder / "folder").symlink_to(outside)
    (folder / "file").symlink_to(precious)
    (folder / "loop").symlink_to(folder / "loop")
    sweep(folder, 60, now=time.time() + 100)
    assert precious.read_text() == "a"
    assert [path.name for path in folder.iterdir()] == [MARK]


def test_the_pictures_of_the_page_stay(tmp_path: Path) -> None:
    example = upload(tmp_path, "star.png", b"star")
    other = upload(tmp_path, "star-2.png", b"star")
    own = upload(tmp_path / "somebody's", "star.png", b"my own star")
    sweep(tmp_path, 60, frozenset({("star.png", 4)}), now=time.time() + 100)
    assert example.is_file()
    assert not other.exists() and not own.exists()


def test_a_folder_with_files_of_somebody_s_own_is_let_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("a")
    uploaded = upload(tmp_path)
    assert not claim(tmp_path)
    monkeypatch.setattr(work_dir, "KEEP_FILES_S", -1000.0)
    start_sweeping(tmp_path)
    assert letter.is_file()
    assert uploaded.is_file()
    assert "not deleted" in caplog.text
    assert str(tmp_path) not in caplog.text


def test_a_folder_of_an_earlier_version_is_taken(tmp_path: Path) -> None:
    upload(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "tmpab_c1d2e").write_bytes(b"x")
    assert claim(tmp_path)
    (tmp_path / "whatever.txt").write_text("a")
    assert claim(tmp_path), "with its mark it stays so"


def test_a_folder_of_somebody_else_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert not claim(tmp_path)


def test_it_is_done_at_once_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "work"
    assert claim(folder)
    monkeypatch.setattr(work_dir, "KEEP_FILES_S", 0.2)
    first = upload(folder)
    time.sleep(0.3)
    start_sweeping(folder)
    assert not first.exists()
    second = upload(folder, "dog.png")
    end = time.monotonic() + 20
    while second.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
