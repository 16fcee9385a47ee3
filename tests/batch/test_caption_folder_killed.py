"""The command in a process of its own: killed at any moment, on a full disk, twice at once."""

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from pipelines.caption_folder import LEDGER
from pipelines.serving.command import DONE, FAILED, STOPPED, WITH_ERRORS
from tests.fakes.batch_captioner import (
    ROOT,
    arguments,
    lines,
    make_folder,
    mean_colour,
    pick_moments,
    result_lines,
    run_command,
)

pytestmark = pytest.mark.long


def start(folder: Path, *more: str, **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        arguments(folder, *more),
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(claim: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    give_up_at = time.monotonic() + 60
    while not claim() and process.poll() is None:
        assert time.monotonic() < give_up_at
        time.sleep(0.002)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def kill_and_resume(folder: Path, tmp_path: Path, *, num_images: int, sleep_s: float) -> None:
    """Kill runs over `num_images`, 1 % of them damaged, at ten moments, and let the last one end.

    The moments are counted from a run's first word on disk, so that most lie in its work, and
    some of them in the line that it writes.
    """
    make_folder(folder, num_images, damaged_every=100)
    ledger, calls = folder / LEDGER, tmp_path / "calls"
    env = {"FAKE_SLEEP_S": str(sleep_s), "FAKE_CALLS": str(calls)}
    num_killed = 0
    for moment_s in pick_moments(seed=7, count=10, longest_s=1.6 * num_images * sleep_s / 10):
        before = size(ledger)
        process = start(folder, **env)
        wait_until(lambda before=before: size(ledger) != before, process)  # type: ignore[misc]
        time.sleep(moment_s)
        process.send_signal(signal.SIGKILL)
        num_killed += process.wait() == -signal.SIGKILL
    assert num_killed >= 8

    last = run_command(folder, env=env)
    assert last.returncode == WITH_ERRORS, last.stderr[-2000:]
    pictures = sorted(folder.rglob("*.png"))
    expected = {}
    for path in pictures:
        try:
            expected[path.relative_to(folder).as_posix()] = mean_colour(Image.open(path))
        except (OSError, SyntaxError):
            expected[path.relative_to(folder).as_posix()] = ""
    assert sum(not caption for caption in expected.values()) == num_images // 100

    rows = lines(folder / "captions.jsonl")
    assert [row["file"] for row in rows] == list(expected)  # none lost, none twice, in order
    assert {row["file"]: row["caption"] for row in rows} == expected
    assert all(bool(row["error"]) != bool(row["caption"]) for row in rows)
    assert not list(folder.rglob("*part*"))  # nothing half written lies about
    kept = result_lines(ledger)
    assert sorted(row["file"] for row in kept) == sorted(expected)  # one line each
    assert {row["file"]: row["caption"] for row in kept} == expected
    beside = {
        path.relative_to(folder).with_suffix("").as_posix(): path.read_text().strip()
        for path in folder.rglob("*.txt")
    }
    assert beside == {name.removesuffix(".png"): said for name, said in expected.items() if said}
    # what was done again is no more than the batch that each kill interrupted
    num_calls = len(calls.read_text().splitlines())
    assert num_images * 0.99 <= num_calls <= num_images * 0.99 + 8 * num_killed


def test_killed_at_ten_moments(tmp_path: Path) -> None:
    kill_and_resume(tmp_path / "pictures", tmp_path, num_images=300, sleep_s=0.004)


@pytest.mark.slow
def test_killed_at_ten_moments_in_two_thousand(tmp_path: Path) -> None:
    kill_and_resume(tmp_path / "pictures", tmp_path, num_images=2000, sleep_s=0.004)


def peak_mb(folder: Path) -> float:
    done = run_command(folder, "--batch-size", "4")
    assert done.returncode == DONE, done.stderr[-2000:]
    return float(done.stdout.split("peak_kb ")[1]) / 1e3


@pytest.mark.parametrize(
    ("few", "many", "picture_px"),
    [(30, 150, 640), pytest.param(200, 2000, 1024, marks=pytest.mark.slow)],
)
def test_memory_does_not_grow_with_the_folder(
    tmp_path: Path, few: int, many: int, picture_px: int
) -> None:
    """A decoded picture takes 1.2 MB (3.1 MB in the long version); kept, they would show."""
    make_folder(tmp_path / "few", few, size=picture_px)
    make_folder(tmp_path / "many", many, size=picture_px)
    picture_mb = picture_px * picture_px * 3 / 1e6
    # how far reading is ahead differs from run to run; what is kept is there in every one
    least, most = (min(peak_mb(tmp_path / folder) for _ in range(3)) for folder in ("few", "many"))
    print(f"peak of {few}: {least:.1f} MB, of {many}: {most:.1f} MB")
    assert most - least < 0.1 * (many - few) * picture_mb


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None] | None]]:
    """A folder where 64 kB fit: a disk of that size, or else files that may get no longer."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") and not subprocess.run(mount, capture_output=True).returncode:
        yield folder, None
        subprocess.run(["umount", str(folder)], check=True)
    else:
        yield folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))


def test_a_full_disk_ends_in_words_and_costs_nothing(
    tmp_path: Path, small_disk: tuple[Path, Callable[[], None] | None]
) -> None:
    output, limit = small_disk
    make_folder(tmp_path / "pictures", 600)
    args = ("--output", str(output), "--formats", "csv")
    full = run_command(tmp_path / "pictures", *args, preexec_fn=limit)
    assert full.returncode == FAILED
    assert "Disk full: The disk is full" in full.stderr
    assert "Traceback" not in full.stderr and str(tmp_path) not in full.stderr
    kept = result_lines(output / LEDGER)
    assert 100 < len(kept) < 600
    # the ledger goes to a larger disk, and the run goes on
    larger, calls = tmp_path / "larger", tmp_path / "calls"
    larger.mkdir()
    shutil.copy(output / LEDGER, larger)
    args = ("--output", str(larger), "--formats", "csv")
    assert run_command(tmp_path / "pictures", *args, env={"FAKE_CALLS": str(calls)}).returncode == 0
    assert len(calls.read_text().splitlines()) == 600 - len(kept)
    assert len({row["hash"] for row in result_lines(larger / LEDGER)}) == 600


def test_two_runs_at_once(tmp_path: Path) -> None:
    make_folder(tmp_path, 40)
    first = start(tmp_path, FAKE_SLEEP_S="0.05")
    wait_until(lambda: size(tmp_path / LEDGER) > 0, first)
    second = run_command(tmp_path)
    assert second.returncode == FAILED
    assert "Another run is writing these results" in second.stderr
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == STOPPED, said
    assert "Ending after this batch" in said and "Traceback" not in said
    done = len(result_lines(tmp_path / LEDGER))
    assert 0 < done < 40 and len(lines(tmp_path / "captions.partial.jsonl")) == done
    assert run_command(tmp_path).returncode == DONE
    assert len(result_lines(tmp_path / LEDGER)) == 40
