"""Reading frames in SeeSay beside other readers: `python benchmarks/bench_video.py [--quick]`.

Files are made first, of four codecs and two lengths. Each reading has a process of its own; times
are its CPU seconds over all threads, opening included, the best of several rounds in which the
readers take turns; memory is what it adds at its highest. Then, per kind of file, how many frames
are right, wrong or lost. torchcodec takes part where it is installed. The last line is JSON;
`--write` also stores it beside this script for docs/speed.md. `--memory` measures the lines
of memory anew, `--only` those of one kind of file, and leaves the others as they were kept.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder says much

import numpy as np  # noqa: E402

from benchmarks.measuring import Row, report, row  # noqa: E402
from benchmarks.numbered_videos import FAST, KINDS, Kind, make  # noqa: E402
from benchmarks.video_readers import READERS, has_torchcodec, read_apart  # noqa: E402
from pipelines.media.video.frames import spread_indices  # noqa: E402

#: (what is asked for, frames of the file, height, width, frames asked for).
CASES = (("120 s of 720p, 64 frames", 3600, 720, 1280, 64),
         ("10 min of 360p, 512 frames", 18000, 360, 640, 512))  # fmt: skip
QUICK_CASES = (("8 s of 720p, 8 frames", 240, 720, 1280, 8),
               ("40 s of 360p, 64 frames", 1200, 360, 640, 64))  # fmt: skip

#: Those that the fastest is looked for among, and the one that the reference uses.
RIVALS, WHOLE = ("decord", "torchcodec", "OpenCV in order"), "decord, whole frames"

#: How Video chat reads, which resizes as well: it is looked at for its memory only.
CHAT = "SeeSay, for chat"

#: What it costs to decode, and nothing more, where each frame is needed for the next.
ALONE = "decoding alone"

#: (height, width) of the frames that are timed.
SIZE = (224, 224)


def timed(names: list[str], path: Path, num_frames: int, count: int, times: int) -> dict[str, Row]:
    """Return the best round of each reader for `count` frames spread over a file."""
    asked = spread_indices(num_frames, count).tolist()
    best: dict[str, Row] = {}
    for _ in range(times):
        for name in names:
            found = read_apart(name, path, asked, asked, SIZE)
            if name not in best or found["cpu_s"] < best[name]["cpu_s"]:
                best[name] = found
    return best


def checked(names: list[str], folder: Path, num_frames: int) -> Iterator[Row]:
    """Yield how each reader did with each kind of file, frames asked for in a shuffled order."""
    order = np.random.default_rng(2).permutation(num_frames)[: num_frames // 3]
    for kind in KINDS:
        path = make(folder / kind.file, kind, num_frames, 144, 256)
        asked = [int(each) for each in order if kind.damage != "cut" or each < num_frames // 2]
        shown = [number + kind.hidden for number in asked]
        for name in names:
            found = read_apart(name, path, asked, shown, (144, 256))
            counts = {key: found[key] for key in ("right", "wrong", "lost")}
            yield {"kind": kind.name, "reader": name, **counts}


def speeds(names: list[str], folder: Path, quick: bool, kinds: Sequence[Kind]) -> Iterator[Row]:
    """Yield the lines of the table: each request of each codec."""
    rivals = [name for name in RIVALS if name in names]
    asked = ["SeeSay", CHAT, WHOLE, *rivals]
    for what, num_frames, height, width, count in QUICK_CASES if quick else CASES:
        for kind in kinds:
            path = make(folder / kind.file, kind, num_frames, height, width)
            every = [*asked, ALONE] if kind.name == "VP9" else asked
            found = timed(every, path, num_frames, count, 2 if quick else 3)
            found = {name: each for name, each in found.items() if not math.isinf(each["cpu_s"])}
            own, whole = found["SeeSay"], found[WHOLE]
            best = min(found.keys() & set(rivals), key=lambda name: found[name]["cpu_s"])
            told = f"{what}, {kind.name}"
            if kind.name == "VP9":
                alone = f"{told}: decoding alone what any reader must / the fastest other reader"
                yield row(alone, found[ALONE]["cpu_s"], found[best]["cpu_s"], 1) | {"goal": ""}
            yield row(
                f"{told}: SeeSay / the fastest other reader, {best}",
                own["cpu_s"], found[best]["cpu_s"], 0.7, readers=found,
            )  # fmt: skip
            if (what, num_frames, height, width, count) == CASES[1] or quick:
                yield row(f"{told}: SeeSay / decord as the reference uses it",
                          own["cpu_s"], whole["cpu_s"], 0.5)  # fmt: skip
                yield memory_row(told, found)
            path.unlink()


def memory_row(told: str, found: dict[str, Row]) -> Row:
    """Return the line of the memory that reading took."""
    what = f"{told}: memory added, SeeSay as Video chat reads / decord so used"
    made = row(what, found[CHAT]["added_mb"], found[WHOLE]["added_mb"], 0.1)
    made["ours_mb"], made["theirs_mb"] = made.pop("ours_s"), made.pop("theirs_s")
    return made


def memories(folder: Path, quick: bool, kinds: Sequence[Kind]) -> Iterator[Row]:
    """Yield the lines of memory alone."""
    what, num_frames, height, width, count = (QUICK_CASES if quick else CASES)[1]
    for kind in kinds:
        path = make(folder / kind.file, kind, num_frames, height, width)
        found = timed([CHAT, WHOLE], path, num_frames, count, 2 if quick else 3)
        yield memory_row(f"{what}, {kind.name}", found)
        path.unlink()


def with_kept(rows: list[Row], about: Callable[[Row], str]) -> tuple[list[Row], list[Row]]:
    """Return the kept lines, those about the same as new ones replaced, and the table of frames."""
    kept = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
    new: dict[str, list[Row]] = {}
    for each in rows:
        new.setdefault(about(each), []).append(each)
    replaced = set(new)
    lines: list[Row] = []
    for each in kept["rows"]:
        lines += new.pop(about(each), []) if about(each) in replaced else [each]
    return lines, kept["frames"]


def show(names: list[str], counts: list[Row]) -> None:
    """Print the table of frames."""
    print(f"{'Frames right / wrong / lost':<32}" + _columns(names))
    for kind in dict.fromkeys(each["kind"] for each in counts):
        cells = ["{right} / {wrong} / {lost}".format(**c) for c in counts if c["kind"] == kind]
        print(f"{kind:<32}" + _columns(cells))


def _columns(cells: Any) -> str:
    return "".join(f"{cell:<22}" for cell in cells)


def _name(line: Row) -> str:
    return str(line["what"])


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, to see that it runs")
    parser.add_argument("--write", action="store_true", help="store the figures for docs/speed.md")
    parser.add_argument("--memory", action="store_true", help="memory only; the rest stays as kept")
    parser.add_argument(
        "--only", choices=[kind.name for kind in FAST], help="speed with these files only"
    )
    args = parser.parse_args()
    names = [name for name in READERS if name != "torchcodec" or has_torchcodec()]
    names = [name for name in names if name not in {CHAT, ALONE}]
    if args.memory or args.only:
        kinds = [kind for kind in FAST if args.only in (None, kind.name)]
        with TemporaryDirectory() as folder:
            if args.memory:
                rows, counts = with_kept(list(memories(Path(folder), args.quick, kinds)), _name)
            else:
                measured = list(speeds(names, Path(folder), args.quick, kinds))
                rows, counts = with_kept(measured, lambda line: _name(line).split(":")[0])
        report(__file__, rows, args, f"frames of {SIZE[0]} x {SIZE[1]}", frames=counts)
        return
    with TemporaryDirectory() as folder:
        counts = list(checked(names, Path(folder), 120 if args.quick else 300))
        show(names, counts)
        rows = list(speeds(names, Path(folder), args.quick, FAST))
    report(__file__, rows, args, f"frames of {SIZE[0]} x {SIZE[1]}", frames=counts)


if __name__ == "__main__":
    main()
