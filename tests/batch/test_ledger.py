"""The ledger: what was written is there, whole lines only, whatever ends a run."""

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from pipelines.batch import ledger as module
from pipelines.batch.export import DiskError, remove_stale_parts, replace_text
from pipelines.batch.ledger import CaptionSettings, Ledger, LedgerEntry, read_captions
from pipelines.core.errors import InputError
from tests.fakes.batch_captioner import lines, result_lines

SETTINGS = CaptionSettings(model="m", revision="r", prompt="p", options={"num_beams": 1})


def entry(number: int, caption: str = "", error: str = "") -> LedgerEntry:
    said = caption or ("" if error else f"caption {number}")
    return LedgerEntry(f"{number}.png", f"{number:064x}", said, error)


def entries(count: int) -> list[LedgerEntry]:
    return [entry(number) for number in range(count)]


def captions(path: Path, settings: CaptionSettings = SETTINGS) -> dict[str, str]:
    with Ledger(path, settings) as ledger:
        return {content: entry.caption for content, entry in ledger._captions.items()}


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        assert ledger.caption(entry(1).hash) is None
        ledger.add(entries(3))
        ledger.add([LedgerEntry("狗.png", "ab", "a “dog”\nof two lines", "")])
        assert ledger.caption(entry(1).hash) == "caption 1"
    with Ledger(path, SETTINGS) as ledger:
        assert len(ledger) == 4 and ledger.caption("ab") == "a “dog”\nof two lines"
        ledger.add(entries(3))  # known: nothing is written
    assert len(lines(path)) == 5
    first, row = lines(path)[:2]
    assert first == {"settings": SETTINGS.key, "values": SETTINGS.values()}
    assert row == {
        "file": "0.png",
        "hash": entry(0).hash,
        "caption": "caption 0",
        "error": "",
        "settings": SETTINGS.key,
    }
    assert "狗.png" in path.read_text(encoding="utf-8")  # readable by people


def test_its_own_caption_comes_before_one_that_was_found_elsewhere(tmp_path: Path) -> None:
    known = {entry(number).hash: entry(number, f"elsewhere {number}") for number in range(2)}
    with Ledger(tmp_path / "ledger.jsonl", SETTINGS, known) as ledger:
        assert ledger.caption(entry(0).hash) == "elsewhere 0"
        ledger.add([entry(0, "its own")])
        assert [ledger.caption(entry(n).hash) for n in range(2)] == ["its own", "elsewhere 1"]
        captions, _ = ledger.known()
    assert [captions[entry(n).hash].caption for n in range(2)] == ["its own", "elsewhere 1"]


def test_notes_are_kept_beside_their_caption(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    noted = LedgerEntry("a.png", "a1", "a dog", "", ("It is cut.",))
    with Ledger(path, SETTINGS) as ledger:
        ledger.add([noted, entry(1, "plain")])
    assert [row.get("notes") for row in result_lines(path)] == [["It is cut."], None]
    with Ledger(path, SETTINGS) as ledger:
        assert ledger.notes("a1") == ("It is cut.",)
        assert ledger.notes(entry(1).hash) == ledger.notes("never seen") == ()
    assert read_captions(path, SETTINGS)["a1"] == noted


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"revision": "other"},
        {"prompt": "other"},
        {"options": {"num_beams": 2}},
        {"options": {"num_beams": 1, "seed": 1}},
        {"version": 99},
    ],
)
def test_other_settings_are_another_matter(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "ledger.jsonl"
    same = {"model": "m", "revision": "r", "prompt": "p", "options": {"num_beams": 1}}
    other = CaptionSettings(**{**same, **change})
    with Ledger(path, SETTINGS) as ledger:
        ledger.add(entries(2))
    with Ledger(path, other) as ledger:
        assert len(ledger) == 0
        ledger.add([entry(1, "otherwise")])
    assert captions(path)[entry(1).hash] == "caption 1"
    assert captions(path, other)[entry(1).hash] == "otherwise"


def test_the_order_of_options_does_not_matter() -> None:
    one = CaptionSettings(model="m", options={"a": 1, "b": 2})
    assert one.key == CaptionSettings(model="m", options={"b": 2, "a": 1}).key


def test_errors_are_noted_once_and_are_not_final(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    nameless = LedgerEntry("gone.png", "", "", "cannot be read")
    for _ in range(2):
        with Ledger(path, SETTINGS) as ledger:
            ledger.add([entry(1, error="damaged"), nameless, entry(1, error="damaged still")])
            assert ledger.caption(entry(1).hash) is None
    assert [row["error"] for row in result_lines(path)] == ["damaged", "cannot be read"]
    with Ledger(path, SETTINGS) as ledger:
        ledger.add([entry(1, "mended")])
        ledger.add([entry(1, error="damaged")])
    assert captions(path) == {entry(1).hash: "mended"}


@pytest.mark.parametrize("torn", range(1, 120, 7))
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        ledger.add(entries(3))
    path.write_bytes(path.read_bytes()[:-torn])
    with Ledger(path, SETTINGS) as ledger:
        assert len(ledger) == 2
        ledger.add(entries(3))
    assert [row["file"] for row in result_lines(path)] == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize(
    "damage",
    [
        b"\x00" * 50 + b"\n",
        b"not json\n",
        b"[1]\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"settings": "%s", "file": 1, "hash": "x", "caption": "", "error": ""}\n'
        % SETTINGS.key.encode(),
    ],
)
def test_a_damaged_line_costs_no_other(tmp_path: Path, damage: bytes) -> None:
    """As a disk leaves it that lost its power."""
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        ledger.add(entries(1))
    with path.open("ab") as file:
        file.write(damage)
    with Ledger(path, SETTINGS) as ledger:
        assert len(ledger) == 1
        ledger.add(entries(2))
    assert len(captions(path)) == 2


def test_one_run_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        with pytest.raises(InputError, match="Another run is writing") as caught:
            Ledger(path, SETTINGS)
        assert caught.value.title == "Already running"
        ledger.add(entries(1))
    assert len(captions(path)) == 1


class SmallDisk(FileIO):
    """A file that takes `room` bytes in all, the last of them in part, as a full disk does."""

    room = 0

    def write(self, data: Any) -> int:
        room = type(self).room - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(bytes(data)[:room])


@pytest.mark.parametrize("room", [0, 1, 150, 151, 200, 400, 700, 701, 702, 703, 800])
def test_a_full_disk_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    path = tmp_path / "ledger.jsonl"
    monkeypatch.setattr(module, "FileIO", SmallDisk)
    monkeypatch.setattr(SmallDisk, "room", room)
    with Ledger(path, SETTINGS) as ledger:
        with pytest.raises(DiskError, match="The disk is full") as caught:
            ledger.add(entries(8))
        assert caught.value.title == "Disk full"
        assert str(tmp_path) not in caught.value.message
        kept = len(ledger)
        data = path.read_bytes()
        assert len(data) <= room and (not data or data.endswith(b"\n"))
        assert len([line for line in lines(path) if "values" not in line]) == kept
        if room >= 400:
            assert kept >= 1
        monkeypatch.setattr(SmallDisk, "room", 10_000)  # space was freed: the same ledger goes on
        ledger.add(entries(8))
    assert len(result_lines(path)) == 8
    assert len(captions(path)) == 8


@pytest.mark.parametrize("fails", ["fsync", "write"])
def test_a_disk_that_fails_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "ledger.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        ledger.add(entries(2))
        with monkeypatch.context() as patch:
            if fails == "fsync":
                patch.setattr(module.os, "fsync", fail)
            else:
                patch.setattr(ledger._file, "write", fail, raising=False)
            with pytest.raises(DiskError, match="Could not write .*: Input/output error"):
                ledger.add(entries(5))
        assert len(ledger) == 2
        ledger.add(entries(5))
    assert len(result_lines(path)) == 5


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DiskError, match="Could not write the ledger: (Not a dir|File exists)"):
        Ledger(tmp_path / "file" / "ledger.jsonl", SETTINGS)


def test_a_small_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    replace_text(path, "old")
    replace: Callable[..., Any] = Path.replace

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError):
        replace_text(path, "new")
    monkeypatch.setattr(Path, "replace", replace)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_disk_that_locks_nothing_is_not_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(DiskError, match="Could not write the ledger: No locks available"):
        Ledger(tmp_path / "ledger.jsonl", SETTINGS)


def test_two_threads_write_into_one_folder(tmp_path: Path) -> None:
    failures: list[OSError] = []

    def write(who: str) -> None:
        for number in range(500):
            try:
                replace_text(tmp_path / f"{who}{number % 10}.txt", who)
            except OSError as error:
                failures.append(error)

    threads = [threading.Thread(target=write, args=(who,)) for who in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert {path.name[0] == path.read_text() for path in tmp_path.iterdir()} == {True}
    assert len(list(tmp_path.iterdir())) == 20


def test_parts_of_a_killed_process_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        replace_text(tmp_path / "a.txt", "new")
    (part,) = tmp_path.iterdir()
    remove_stale_parts([tmp_path])
    assert part.exists(), "it may be another run's, which is writing it just now"
    os.utime(part, (0, 0))
    remove_stale_parts([tmp_path])
    assert not part.exists()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    part.with_name(part.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")).touch()
    remove_stale_parts([tmp_path])
    assert not list(tmp_path.iterdir()), "whose process has ended"


def test_lines_are_json_that_any_program_reads(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        ledger.add(
            [LedgerEntry("a.png", "1", "half a character \ud83d, a line end \u2028 and \x00", "")]
        )
    (row,) = [json.loads(line) for line in path.read_bytes().split(b"\n")[1:-1]]
    assert row["caption"] == "half a character ?, a line end \u2028 and \x00"
