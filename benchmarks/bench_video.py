"""Reading frames in SeeSay beside other readers: `python benchmarks/bench_video.py [--quick]`.

Files are made first, of four codecs and two lengths. Times are CPU seconds of all threads, opening
included, the best of several alternating repetitions; memory is what one reading adds to a process
of its own. Then, per kind of file, how many frames are right, wrong or lost. torchcodec takes part
where it is installed. The last line is JSON; `--write` also keeps it beside this script for the
README's tables.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.video_readers import FAILURES, READERS, RIVALS, SIZE  # noqa: E402, I001 -- av first

import numpy as np  # noqa: E402

from benchmarks.measuring import Row, report, row  # noqa: E402
from benchmarks.numbered_videos import FAST, KINDS, Kind, make, number_of  # noqa: E402
from pipelines.video_choice import spread_indices  # noqa: E402

#: (what is asked for, frames of the file, height, width, frames asked for).
CASES = (("120 s of 720p, 64 frames", 3600, 720, 1280, 64),
         ("10 min of 360p, 512 frames", 18000, 360, 640, 512))  # fmt: skip
QUICK_CASES = (("8 s of 720p, 8 frames", 240, 720, 1280, 8),
               ("40 s of 360p, 64 frames", 1200, 360, 640, 64))  # fmt: skip

#: Not timed: it takes minutes for what the others do in seconds.
SLOW = "OpenCV jumping"

WHOLE = "decord, whole frames"


def timed(path: Path, num_frames: int, count: int, times: int) -> dict[str, Row]:
    """Return CPU and wall seconds of each reader for `count` frames spread over a file."""
    asked = spread_indices(num_frames, count).tolist()
    best: dict[str, Row] = {}
    for _ in range(times):
        for name, read in READERS.items():
            if name == SLOW:
                continue
            wall, cpu = time.perf_counter(), time.process_time()
            found = read(path, asked, SIZE)
            spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
            if name not in best or spent["cpu_s"] < best[name]["cpu_s"]:
                best[name] = {key: round(value, 4) for key, value in spent.items()}
            best[name]["right"] = _verdicts(found, asked)["right"]
    return best


def memory_mb(name: str, path: Path, num_frames: int, count: int) -> float:
    """Return the MB that one reading by `name` adds to a process of its own."""
    script = ROOT / "benchmarks" / "video_readers.py"
    command = [sys.executable, str(script), name, str(path), str(num_frames), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def _verdicts(found: list[Any], asked: list[int]) -> dict[str, int]:
    counts = {"right": 0, "wrong": 0, "lost": 0}
    for picture, number in zip(found, asked, strict=True):
        if picture is None:
            counts["lost"] += 1
        else:
            counts["right" if number_of(picture) == number else "wrong"] += 1
    return counts


def checked(folder: Path, num_frames: int) -> Iterator[Row]:
    """Yield how each reader did with each kind of file, frames asked for in a shuffled order."""
    order = np.random.default_rng(2).permutation(num_frames)[: num_frames // 3]
    for kind in KINDS:
        path = make(folder / kind.file, kind, num_frames, 144, 256)
        asked = [int(each) for each in order if kind.damage != "cut" or each < num_frames // 2]
        shown = [number + kind.hidden for number in asked]
        for name, read in READERS.items():
            try:
                counts = _verdicts(read(path, asked, (144, 256)), shown)
            except FAILURES:
                counts = {"right": 0, "wrong": 0, "lost": len(asked)}
            yield {"kind": kind.name, "reader": name, **counts}


def speeds(folder: Path, quick: bool) -> Iterator[Row]:
    """Yield the lines of the table: each request of each codec."""
    for what, num_frames, height, width, count in QUICK_CASES if quick else CASES:
        for kind in FAST:
            path = make(folder / kind.file, kind, num_frames, height, width)
            found = timed(path, num_frames, count, 2 if quick else 3)
            own = found["SeeSay"]["cpu_s"]
            best = min(RIVALS, key=lambda name: found[name]["cpu_s"])
            told = f"{what}, {kind.name}"
            yield row(f"{told}: SeeSay / the fastest other reader, {best}", own,
                      found[best]["cpu_s"], 0.7, readers=found)  # fmt: skip
            if "512" in what or quick:
                yield row(f"{told}: SeeSay / decord as the reference of VideoChat-Flash uses it",
                          own, found[WHOLE]["cpu_s"], 0.5)  # fmt: skip
                used = {name: memory_mb(name, path, num_frames, count) for name in ("SeeSay", WHOLE)}
                made = row(f"{told}: memory added, SeeSay / decord so used", used["SeeSay"],
                           used[WHOLE], 0.1)  # fmt: skip
                made["ours_mb"], made["theirs_mb"] = made.pop("ours_s"), made.pop("theirs_s")
                yield made
            path.unlink()


def show(counts: list[Row]) -> None:
    """Print the table of frames."""
    print(f"\n{'Frames right / wrong / lost':<32}" + _columns(READERS))
    for kind in dict.fromkeys(each["kind"] for each in counts):
        cells = ["{right} / {wrong} / {lost}".format(**c) for c in counts if c["kind"] == kind]
        print(f"{kind:<32}" + _columns(cells))


def _columns(cells: Any) -> str:
    return "".join(f"{cell:<22}" for cell in cells)


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, to see that it runs")
    parser.add_argument("--write", action="store_true", help="keep the figures for the README")
    args = parser.parse_args()
    with TemporaryDirectory() as name:
        counts = list(checked(Path(name), 120 if args.quick else 300))
        show(counts)
        rows = list(speeds(Path(name), args.quick))
    report(__file__, rows, args, f"frames of {SIZE[0]} x {SIZE[1]}", frames=counts)


if __name__ == "__main__":
    main()
