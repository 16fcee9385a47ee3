"""`python -m pipelines.index_folder`: killed at any moment, started again, and asked."""

import csv
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.core.settings import Settings
from pipelines.index_folder import KEY_FILE, main, own_key
from pipelines.search.indexes import Indexes, owner_of
from pipelines.serving.command import DONE, FAILED, WITH_ERRORS
from tests.conftest import draw_circle

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "assets" / "examples"


def flags(cache: Path) -> list[str]:
    return ["--models=bundled", "--device=cpu", "--dtype=float32", f"--cache-dir={cache}"]


def command(cache: Path, *args: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.index_folder", *args, *flags(cache)]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""

    def call(*args: str) -> Done:
        capsys.readouterr()
        status = main([*args, *flags(tmp_path / "cache"), "--decoders=inside"])
        said = capsys.readouterr()
        return Done(status, said.out, said.err)

    return call


def make_folder(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        colour = f"#{number % 256:02x}{number // 256:02x}c0"
        draw_circle(colour, 64).save(folder / f"{number:04}.png")


def indexed(cache: Path) -> tuple[int, int]:
    """Return how many files and how many vectors a folder's index holds."""
    if not (cache / "index").is_dir() or not (cache / KEY_FILE).is_file():
        return 0, 0
    indexes = Indexes(Settings(cache_dir=cache).index_uri)
    holding = indexes.summary(owner_of(own_key(cache)))
    return holding.pictures + holding.videos, holding.vectors


@pytest.mark.long
def test_killed_while_indexing_and_resumed(tmp_path: Path, run: Run) -> None:
    """Killed twice on the way; the last run encodes what is missing, no more and no less."""
    count = 1500
    make_folder(tmp_path / "pictures", count)
    cache = tmp_path / "cache"
    before = 0
    for _ in range(2):
        process = subprocess.Popen(
            command(cache, str(tmp_path / "pictures")),
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        give_up_at = time.monotonic() + 120
        while indexed(cache)[0] <= before and process.poll() is None:
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        now, _ = indexed(cache)
        assert before < now < count
        before = now
    last = run(str(tmp_path / "pictures"))
    assert last.returncode == DONE, last.stderr[-2000:]
    assert f"{count - before:,} added, {before:,} were there" in last.stderr
    assert indexed(cache) == (count, count)  # no vector is lost, none is there twice


def test_a_folder_is_indexed_searched_and_followed(tmp_path: Path, run: Run) -> None:
    folder, cache = tmp_path / "mine", tmp_path / "cache"
    (folder / "films").mkdir(parents=True)
    for name in ("red-circle.png", "yellow-star.png", "three-hearts.png"):
        shutil.copy(EXAMPLES / name, folder)
    shutil.copy(EXAMPLES / "circle-moves-left.mp4", folder / "films")
    (folder / "bad.png").write_text("no picture")
    (folder / "notes.txt").write_text("not looked at")
    first = run(str(folder))
    assert first.returncode == WITH_ERRORS
    assert "4 added" in first.stderr and "bad.png: " in first.stderr
    assert "Traceback" not in first.stderr

    (folder / "bad.png").unlink()
    (folder / "yellow-star.png").rename(folder / "films" / "star.png")
    (folder / "three-hearts.png").unlink()
    table = tmp_path / "found.csv"
    second = run(str(folder), "--query", "a yellow star", "--csv", str(table))
    assert second.returncode == DONE, second.stderr[-2000:]
    assert "0 added, 2 were there, 1 renamed, 0 twice in the folder, 1 no longer" in second.stderr
    assert str(folder / "films" / "star.png") in second.stdout.splitlines()[0]
    rows = list(csv.DictReader(table.open()))
    assert rows[0]["path"] == str(folder / "films" / "star.png")
    assert rows[0]["verdict"] == "match"
    assert not list(folder.rglob("*.jsonl")) and indexed(cache)[0] == 3

    moving = run("--query", "a red circle moves left")
    assert "circle-moves-left.mp4 0.0-" in moving.stdout.splitlines()[0]
    like = run("--like", str(EXAMPLES / "red-circle.png"))
    assert str(folder / "red-circle.png") in like.stdout


def test_what_cannot_be_done_is_said_in_a_sentence(tmp_path: Path, run: Run) -> None:
    for args, said in (
        ((str(tmp_path / "nowhere"),), "Expected a folder"),
        ((str(tmp_path),), "no picture and no video"),
        (("--query", "a star"), "Nothing is indexed here"),
        (("--query", "a star", "--index-key", "short"), "index_key must be"),
        (("--like", str(tmp_path / "no.png")), "Expected a picture for --like"),
    ):
        done = run(*args)
        assert done.returncode == FAILED
        assert said in done.stderr and "Traceback" not in done.stderr, args


def test_the_key_is_for_its_owner_only(tmp_path: Path) -> None:
    key = own_key(tmp_path / "cache")
    assert own_key(tmp_path / "cache") == key and len(key) >= 32
    assert (tmp_path / "cache" / KEY_FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("args", [[], ["--unknown", "x"]])
def test_wrong_arguments(args: list[str], run: Run) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*args)
