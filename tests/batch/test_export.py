"""Exports: exact, safe to open, whole or not there; and the command that writes them."""

import csv
import errno
import io
import json
import signal
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pipelines.caption_folder as command
from pipelines.batch.export import BatchResult, Captioned, DiskError, Exports
from pipelines.batch.progress import RunProgress
from pipelines.core.errors import MediaError
from pipelines.media.inputs import BatchInput, from_files
from pipelines.serving.command import DONE, FAILED, STOPPED, WITH_ERRORS
from tests.fakes.batch_captioner import fake_captioner, lines, make_folder, make_picture
from tests.media.test_inputs import make_zip, png

NASTY = [
    "a dog",
    "=HYPERLINK(1)",
    "+1",
    "-1",
    "@x",
    "＝1",
    "\tx",
    'a "dog", two\nlines',
    "一只狗",
    "'quoted",
]


def results(captions: list[str]) -> list[BatchResult]:
    made = [
        BatchResult(
            index=index,
            file=f"{index}.png",
            caption=caption,
            text=caption,
            error="",
            hash="ab",
            origin="model",
        )
        for index, caption in enumerate(captions)
    ]
    last = len(made)
    failed = BatchResult(
        index=last,
        file=f"{last}.png",
        caption="",
        text="",
        error="It is damaged.",
        hash="cd",
        origin="none",
    )
    return [*made, failed]


def inputs_for(folder: Path, count: int) -> tuple[BatchInput, ...]:
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        make_picture(path, number)
    return from_files(paths).items


def export(folder: Path, items: Any, rows: list[BatchResult], *formats: str) -> None:
    with Exports(folder, items, formats) as exports:
        for row in rows:
            exports.add(row)


def read_csv(data: bytes) -> list[list[str]]:
    assert data.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def test_every_format(tmp_path: Path) -> None:
    items = inputs_for(tmp_path, 11)
    export(tmp_path, items, results(NASTY), "jsonl", "csv", "metadata", "txt", "zip")
    rows = lines(tmp_path / "captions.jsonl")
    assert [row["caption"] for row in rows] == [*NASTY, ""]  # exact
    assert rows[0] == {
        "file": "0.png",
        "caption": "a dog",
        "error": "",
        "text": "a dog",
        "hash": "ab",
        "notes": [],
    }
    assert rows[-1]["error"] == "It is damaged."
    table = read_csv((tmp_path / "captions.csv").read_bytes())
    assert table[0] == ["file", "caption", "error", "notes"]
    armed = [f"'{text}" if text[0] in "=+-@＝\t" else text for text in NASTY]
    assert [row[1] for row in table[1:]] == [*armed, ""]
    assert table[-1] == ["10.png", "", "It is damaged.", ""]
    metadata = lines(tmp_path / "metadata.jsonl")
    assert metadata == [
        {"file_name": f"{index}.png", "text": text} for index, text in enumerate(NASTY)
    ]
    assert all((tmp_path / row["file_name"]).is_file() for row in metadata)
    for index, text in enumerate(NASTY):
        assert (tmp_path / f"{index}.txt").read_text(encoding="utf-8") == f"{text}\n"
    assert not (tmp_path / "10.txt").exists()
    with zipfile.ZipFile(tmp_path / "captions.zip") as archive:
        assert archive.testzip() is None
        for name in ("captions.jsonl", "captions.csv", "metadata.jsonl"):
            assert archive.read(name) == (tmp_path / name).read_bytes()
        assert archive.read("captions/8.txt").decode() == "一只狗\n"
        assert len(archive.namelist()) == 3 + len(NASTY)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_was_appended_is_in_every_text_and_in_no_caption(tmp_path: Path) -> None:
    """`text` is what a person trains on: the old caption with the new one."""
    items = inputs_for(tmp_path, 1)
    row = replace(results(["a dog"])[0], text="my old words, a dog")
    export(tmp_path, items, [row], "jsonl", "csv", "metadata", "txt", "zip")
    assert lines(tmp_path / "metadata.jsonl") == [{"file_name": "0.png", "text": row.text}]
    (line,) = lines(tmp_path / "captions.jsonl")
    assert (line["caption"], line["text"]) == ("a dog", row.text)
    assert (tmp_path / "0.txt").read_text("utf-8") == f"{row.text}\n"
    assert read_csv((tmp_path / "captions.csv").read_bytes())[1] == ["0.png", "a dog", "", ""]
    with zipfile.ZipFile(tmp_path / "captions.zip") as archive:
        assert archive.read("captions/0.txt").decode() == f"{row.text}\n"
        assert archive.read("metadata.jsonl") == (tmp_path / "metadata.jsonl").read_bytes()


def test_a_caption_file_that_is_right_is_left_alone(tmp_path: Path) -> None:
    items = inputs_for(tmp_path, 2)
    export(tmp_path, items, results(["a dog"]), "txt")
    before = (tmp_path / "0.txt").stat().st_mtime_ns
    export(tmp_path, items, results(["a dog"]), "txt")
    assert (tmp_path / "0.txt").stat().st_mtime_ns == before
    export(tmp_path, items, results(["a cat"]), "txt")
    assert (tmp_path / "0.txt").read_text() == "a cat\n"


def test_what_ends_badly_leaves_the_old_files(tmp_path: Path) -> None:
    items = inputs_for(tmp_path, 2)
    export(tmp_path, items, results(["a dog"]), "jsonl", "zip")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with (
        pytest.raises(MediaError),
        Exports(tmp_path, items, ("jsonl", "zip")) as exports,
    ):
        exports.add(results(["a cat"])[0])
        raise MediaError("for the test")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_that_ends_early_leaves_the_whole_tables(
    tmp_path: Path, cli: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, 12)
    tables = [tmp_path / name for name in ("captions.jsonl", "captions.csv", "metadata.jsonl")]
    zipped = tmp_path / f"{tmp_path.name}-captions.zip"
    formats = ("--batch-size", "3", "--formats", "jsonl,csv,metadata,zip")
    assert cli(tmp_path, *formats) == DONE
    before = {path: path.read_bytes() for path in (*tables, zipped)}
    assert len(lines(tables[0])) == 12

    with monkeypatch.context() as patch:
        patch.setattr(command, "_captioner", fake_that_is_interrupted)
        assert cli(tmp_path, *formats, "--prompt", "hm ") == STOPPED
    assert {path: path.read_bytes() for path in before} == before
    partial = [path.with_name(f"{path.stem}.partial{path.suffix}") for path in before]
    assert 0 < len(lines(partial[0])) == len(lines(partial[2])) < 12
    with zipfile.ZipFile(partial[3]) as archive:
        assert archive.read("captions.jsonl") == partial[0].read_bytes()
    assert "have .partial in their names" in capsys.readouterr().err

    assert cli(tmp_path, *formats, "--prompt", "hm ") == DONE
    assert [row["caption"][:3] for row in lines(tables[0])] == ["hm "] * 12
    assert not any(path.exists() for path in partial)


def fake_that_is_interrupted(*args: Any) -> Any:
    """Return a captioner during whose first batch somebody presses Ctrl-C."""
    fake = fake_captioner(*args)

    def caption_batch(images: list[Any]) -> Any:
        signal.raise_signal(signal.SIGINT)
        return fake.caption_batch(images)

    return replace(fake, caption_batch=caption_batch)


@pytest.mark.parametrize("formats", [("jsonl",), ("csv",), ("zip",), ("txt",)])
def test_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, formats: tuple[str, ...]
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    items = inputs_for(tmp_path, 2)
    first, second, _ = results(["a dog", "a cat"])
    with (
        pytest.raises(DiskError, match="The disk is full") as caught,
        Exports(tmp_path, items, formats) as exports,
    ):
        exports.add(first)
        monkeypatch.setattr(Path, "write_bytes", fail)
        monkeypatch.setattr(Path, "replace", fail)
        exports.add(second)
    assert caught.value.title == "Disk full"
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.glob("capt*")) == []


def test_a_caption_file_that_cannot_be_written_costs_no_table(
    tmp_path: Path, cli: Any, capsys: Any
) -> None:
    make_folder(tmp_path, 3)
    (tmp_path / "00" / "00001.txt").mkdir()
    assert cli(tmp_path, "--existing", "overwrite") == WITH_ERRORS
    said = capsys.readouterr().err
    assert "1 whose caption file could not be written; the tables have it:\n  00/00001.png" in said
    captions = [row["caption"] for row in lines(tmp_path / "captions.jsonl")]
    assert captions == [f"a picture of 0{number}0080" for number in range(3)]
    assert (tmp_path / "00" / "00002.txt").is_file()


def test_a_folder_that_takes_no_caption_files(
    tmp_path: Path, cli: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = tmp_path / "pictures", tmp_path / "out"
    make_folder(folder, 2)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder)
    assert cli(folder, "--output", output) == FAILED
    assert "'pictures' is read-only" in capsys.readouterr().err
    assert not output.exists(), "said before anything was done"
    assert cli(folder, "--output", output, "--formats", "jsonl,csv") == DONE


def test_a_changed_prompt_replaces_our_own_captions_only(
    tmp_path: Path, cli: Any, capsys: Any
) -> None:
    make_folder(tmp_path, 4)
    texts = [tmp_path / "00" / f"0000{number}.txt" for number in range(4)]
    texts[0].write_text("by hand\n")
    assert cli(tmp_path) == DONE
    said = capsys.readouterr().err
    assert "1 kept the caption file beside them; --existing overwrite replaces it" in said
    texts[2].write_text("corrected by hand\n")
    texts[3].write_text("a picture of 010080\n")  # said of another picture, so written by hand
    for prompt in ("hm ", "so ", "hm "):
        assert cli(tmp_path, "--prompt", prompt) == DONE
        assert "3 kept the caption file" in capsys.readouterr().err
        assert [path.read_text() for path in texts] == [
            "by hand\n",
            f"{prompt}a picture of 010080\n",
            "corrected by hand\n",
            "a picture of 010080\n",
        ]


def test_notes_are_counted_and_written(
    tmp_path: Path, cli: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, 3)
    given = [Captioned("a", ("It is no drawing.", "It was cut.")), Captioned("b"), Captioned("c")]
    given[2] = replace(given[2], notes=("It is no drawing.",))

    def noted(*args: Any) -> Any:
        return replace(fake_captioner(*args), caption_batch=lambda images: given[: len(images)])

    monkeypatch.setattr(command, "_captioner", noted)
    for _ in range(2):  # the second run has them from the ledger
        assert cli(tmp_path, "--existing", "overwrite") == DONE
        said = capsys.readouterr().err
        assert "2 with the note: It is no drawing.\n1 with the note: It was cut.\n" in said
        rows = lines(tmp_path / "captions.jsonl")
        assert [tuple(row["notes"]) for row in rows] == [one.notes for one in given]
        table = read_csv((tmp_path / "captions.csv").read_bytes())
        assert [row[3] for row in table[1:]] == [" ".join(one.notes) for one in given]


def test_another_model_replaces_the_captions_of_the_first(tmp_path: Path, cli: Any) -> None:
    make_folder(tmp_path, 2)
    (tmp_path / "00" / "00001.txt").write_text("by hand\n")
    assert cli(tmp_path, "--model", "demo", "--prompt", "I don't know ") == DONE
    assert (tmp_path / "00" / "00000.txt").read_text().startswith("I don't know")
    assert cli(tmp_path, "--model", "real") == DONE
    assert (tmp_path / "00" / "00000.txt").read_text() == "a picture of 000080\n"
    assert (tmp_path / "00" / "00001.txt").read_text() == "by hand\n"


def test_names_as_long_as_the_disk_allows(tmp_path: Path, cli: Any, capsys: Any) -> None:
    """`NAME.jpg.txt` would have more than the 255 bytes that a file name may have."""
    stems = ["x" * 251, "猫" * 83 + "ab"]
    names = [f"{stem}.{suffix}" for stem in stems for suffix in ("jpg", "png")]
    assert {len(name.encode()) for name in names} == {255}
    for number, name in enumerate(names):
        make_picture(tmp_path / name, number)
    formats = ("--formats", "jsonl,txt,zip", "--existing", "append")
    for _ in range(2):
        assert cli(tmp_path, *formats) == DONE
    rows = lines(tmp_path / "captions.jsonl")
    assert sorted(row["file"] for row in rows) == sorted(names)
    texts = list(tmp_path.glob("*.txt"))
    assert sorted(path.read_text().strip() for path in texts) == sorted(
        row["caption"] for row in rows
    )
    assert all(path.name.endswith((".jpg.txt", ".png.txt")) for path in texts)
    (packed,) = tmp_path.glob("*.zip")
    zipfile.ZipFile(packed).extractall(tmp_path / "unpacked")
    assert len(list((tmp_path / "unpacked" / "captions").iterdir())) == 4
    assert "not foreseen" not in capsys.readouterr().err


def test_a_zip_with_the_longest_names(tmp_path: Path, cli: Any) -> None:
    path = make_zip(tmp_path / f"{'z' * 251}.zip", {f"{'a' * 400}/{'b' * 400}.png": png(1)})
    assert cli(path) == DONE
    (made,) = (found for found in tmp_path.glob("*.zip") if found != path)
    zipfile.ZipFile(made).extractall(tmp_path / "unpacked")
    assert len(list((tmp_path / "unpacked").rglob("*.txt"))) == 1


def test_captions_that_no_trainer_reads_are_named(tmp_path: Path, cli: Any, capsys: Any) -> None:
    for number, name in enumerate(["pair.jpg", "pair.png", "alone.png"]):
        make_picture(tmp_path / name, number)
    assert cli(tmp_path) == DONE
    said = capsys.readouterr().err
    assert "2 have the name of another image but for the ending" in said
    assert "  pair.jpg: pair.jpg.txt\n  pair.png: pair.png.txt\nRename one of them" in said
    assert {path.name for path in tmp_path.glob("*.txt")} == {
        "alone.txt",
        "pair.jpg.txt",
        "pair.png.txt",
    }


def test_a_caption_by_hand_is_kept_for_all_images_of_its_name(
    tmp_path: Path, cli: Any, capsys: Any
) -> None:
    for number, name in enumerate(["pair.jpg", "pair.png"]):
        make_picture(tmp_path / name, number)
    (tmp_path / "pair.txt").write_text("by hand\n")
    assert cli(tmp_path) == DONE
    assert "trainers" not in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("*.txt")] == ["pair.txt"]
    assert [row["caption"] for row in lines(tmp_path / "captions.jsonl")] == ["by hand"] * 2


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"formats must be among .* but got \['xml'\]"):
        Exports(tmp_path, (), ("xml",))


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(command, "_captioner", fake_captioner)
    return lambda *args: command.main([str(arg) for arg in args])


def test_the_command_over_a_folder(tmp_path: Path, cli: Any, capsys: Any) -> None:
    make_folder(tmp_path, 12, damaged_every=12)
    (tmp_path / "movie.mp4").write_bytes(b"x")
    assert cli(tmp_path, "--batch-size", "5", "--prompt", "hm ") == WITH_ERRORS
    said = capsys.readouterr().err
    assert "12 of 12 | 1 with an error" in said and "| done |" in said
    assert "1 without a caption:\n  00/00006.png: '00/00006.png' is damaged" in said
    assert "1 left out, such as movie.mp4: not an image by its name" in said
    made = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert made >= {"captions.jsonl", "captions.csv", "metadata.jsonl", command.LEDGER}
    assert (tmp_path / "00" / "00001.txt").read_text() == "hm a picture of 010080\n"
    assert len(list(tmp_path.rglob("*.txt"))) == 11


def test_the_command_appends_once(tmp_path: Path, cli: Any) -> None:
    make_folder(tmp_path, 3)
    (tmp_path / "00" / "00001.txt").write_text("old\n")
    for _ in range(3):
        assert cli(tmp_path, "--existing", "append", "--separator", " | ") == DONE
        assert (tmp_path / "00" / "00001.txt").read_text() == "old | a picture of 010080\n"
        assert (tmp_path / "00" / "00000.txt").read_text() == "a picture of 000080\n"


def test_the_command_over_a_zip(tmp_path: Path, cli: Any) -> None:
    members = {"a.png": png(1), "b/a.png": png(2), "b/a.jpg": png(2), "../c.png": png(3)}
    path = make_zip(tmp_path / "pictures.zip", members)
    for _ in range(2):
        assert cli(path) == WITH_ERRORS
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert names == {"pictures.zip", "pictures-captions.zip", command.LEDGER}
    with zipfile.ZipFile(tmp_path / "pictures-captions.zip") as archive:
        assert set(archive.namelist()) == {
            "captions/a.txt",
            "captions/b/a.png.txt",
            "captions/b/a.jpg.txt",
            "captions.jsonl",
            "captions.csv",
            "metadata.jsonl",
        }
        rows = [json.loads(line) for line in archive.read("captions.jsonl").splitlines()]
    assert [row["file"] for row in rows] == ["a.png", "b/a.png", "b/a.jpg", "_/c.png"]
    assert "leads out of the archive" in rows[-1]["error"]


def test_the_command_over_one_picture(tmp_path: Path, cli: Any) -> None:
    make_picture(tmp_path / "a.png", 1)
    assert cli("--device=cpu", tmp_path / "a.png", "--formats", "txt") == DONE
    assert (tmp_path / "a.txt").read_text() == "a picture of 010080\n"


def test_the_command_says_what_is_wrong(tmp_path: Path, cli: Any, capsys: Any) -> None:
    assert cli(tmp_path / "nowhere") == FAILED
    assert "There is no 'nowhere'." in capsys.readouterr().err
    assert cli(tmp_path) == FAILED
    assert "Check your input: There is no image in the folder." in capsys.readouterr().err
    for wrong in (
        ["--batch-size", "0"],
        ["--formats", "xml"],
        ["--top-p", "2"],
        ["--temperature", "-1"],
        ["--temperature", "6"],
        ["--existing", "burn"],
        ["--nonsense"],
        ["--nonsense=1"],
        ["--models-dir", str(tmp_path)],  # whose value might be taken for the folder
        ["--device=toaster"],
    ):
        with pytest.raises(SystemExit) as caught:
            cli(tmp_path, *wrong)
        assert caught.value.code == 2


def test_the_line_of_progress() -> None:
    shot = RunProgress(
        state="cancelled",
        done=1200,
        total=10_000,
        errors=3,
        from_model=1100,
        rate_per_s=2.0,
        time_left_s=4400.4,
        batch_size=8,
        recent=(("a.png", "a\ndog"),),
    )
    assert command.describe(shot) == (
        "1,200 of 10,000 | 3 with an error | 2.0 a second | 1:13:20 left | cancelled | a.png: a dog"
    )
