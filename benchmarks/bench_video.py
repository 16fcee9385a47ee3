"""Reading frames in SeeSay beside other readers: `python benchmarks/bench_video.py [--quick]`.

Files are made first. Times are CPU seconds of all threads, opening included, the best of several
alternating repetitions; then, per kind of file, how many frames are right, wrong or lost. The last
line is JSON; `--write` also keeps it beside this script for the README's table.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DECORD_EOF_RETRY_MAX", "64")
os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder says much

import av  # noqa: E402, F401 -- first: after decord it would take some of decord's own codecs
import cv2  # noqa: E402
import decord  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.numbered_videos import KINDS, Kind, make, number_of  # noqa: E402
from pipelines.errors import PipelineError  # noqa: E402
from pipelines.video import VideoReader  # noqa: E402
from pipelines.video_choice import spread_indices  # noqa: E402
from pipelines.video_crew import num_cores  # noqa: E402

#: Given a file, frame numbers and (height, width): each frame in this order, None where lost.
Reading = Callable[[Path, list[int], tuple[int, int]], list[Any]]
Row = dict[str, Any]

#: What readers raise on files that they cannot read.
FAILURES = (RuntimeError, OSError, ValueError, IndexError, PipelineError,
            decord.DECORDError)  # fmt: skip


def ours(path: Path, asked: list[int], size: tuple[int, int]) -> list[Any]:
    """SeeSay's own reader."""
    with VideoReader(path) as reader:
        inside = [number for number in asked if number < reader.info.num_frames]
        read = reader.frames_at(inside, size)
        found = dict(zip(read.indices.tolist(), read.pixels, strict=True))
    return [found.get(number) for number in asked]


def by_decord(path: Path, asked: list[int], size: tuple[int, int]) -> list[Any]:
    """decord, told the size, all frames in one batch."""
    reader = decord.VideoReader(str(path), height=size[0], width=size[1])
    return list(reader.get_batch(asked).asnumpy())


def by_opencv(path: Path, asked: list[int], size: tuple[int, int]) -> list[Any]:
    """OpenCV from the first frame to the last one wanted; only wanted ones are converted."""
    capture, found = cv2.VideoCapture(str(path)), {}
    wanted = set(asked)
    for number in range(max(asked) + 1):
        if not capture.grab():
            break
        if number in wanted:
            found[number] = _rgb(capture.retrieve()[1], size)
    capture.release()
    return [found.get(number) for number in asked]


def by_opencv_jumps(path: Path, asked: list[int], size: tuple[int, int]) -> list[Any]:
    """OpenCV, set to each frame number."""
    capture, found = cv2.VideoCapture(str(path)), []
    for number in asked:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        there, picture = capture.read()
        found.append(_rgb(picture, size) if there else None)
    capture.release()
    return found


def by_torchcodec(path: Path, asked: list[int], size: tuple[int, int]) -> list[Any]:
    """Torchcodec in its exact mode, scaled by OpenCV afterwards."""
    decoders = import_module("torchcodec.decoders")
    decoder = decoders.VideoDecoder(str(path), dimension_order="NHWC", seek_mode="exact")
    pictures = decoder.get_frames_at(asked).data.numpy()
    return [cv2.resize(picture, size[::-1]) for picture in pictures]


READERS: dict[str, Reading] = {
    "ours": ours,
    "decord": by_decord,
    "OpenCV in order": by_opencv,
    "OpenCV jumping": by_opencv_jumps,
}
if find_spec("torchcodec") is not None:
    READERS["torchcodec"] = by_torchcodec


def _rgb(picture: Any, size: tuple[int, int]) -> Any:
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)[..., ::-1]


def timed(path: Path, num_frames: int, count: int, times: int) -> dict[str, Row]:
    """Return CPU and wall seconds of each reader for `count` frames spread over a file."""
    asked = spread_indices(num_frames, count).tolist()
    best: dict[str, Row] = {}
    for _ in range(times):
        for name, read in READERS.items():
            if name == "OpenCV jumping":
                continue
            wall, cpu = time.perf_counter(), time.process_time()
            found = read(path, asked, (224, 224))
            spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
            if name not in best or spent["cpu_s"] < best[name]["cpu_s"]:
                best[name] = {key: round(value, 4) for key, value in spent.items()}
            best[name]["right"] = _verdicts(found, asked)["right"]
    return best


def _verdicts(found: list[Any], asked: list[int]) -> dict[str, int]:
    counts = {"right": 0, "wrong": 0, "lost": 0}
    for picture, number in zip(found, asked, strict=True):
        if picture is None:
            counts["lost"] += 1
        else:
            counts["right" if number_of(picture) == number else "wrong"] += 1
    return counts


def checked(folder: Path, num_frames: int) -> Iterator[tuple[str, str, dict[str, int]]]:
    """Yield (kind, reader, counts) for frames asked for in a shuffled order, one batch each."""
    order = np.random.default_rng(2).permutation(num_frames)[: num_frames // 3]
    for kind in KINDS:
        path = make(folder / kind.file, kind, num_frames, 144, 256)
        asked = [int(each) for each in order if kind.damage != "cut" or each < num_frames // 2]
        for name, read in READERS.items():
            try:
                counts = _verdicts(read(path, asked, (144, 256)), asked)
            except FAILURES:
                counts = {"right": 0, "wrong": 0, "lost": len(asked)}
            yield kind.name, name, counts


def speeds(folder: Path, quick: bool) -> list[Row]:
    """Time the two standard requests."""
    cases = [("120 s of 720p, 64 frames", 3600, 720, 1280, 64),
             ("10 min of 360p, 512 frames", 18000, 360, 640, 512)]  # fmt: skip
    if quick:
        cases = [("8 s of 720p, 8 frames", 240, 720, 1280, 8),
                 ("40 s of 360p, 64 frames", 1200, 360, 640, 64)]  # fmt: skip
    rows = []
    for number, (what, num_frames, height, width, count) in enumerate(cases):
        kind = Kind(what, "", "libx264", {"preset": "veryfast"})
        path = make(folder / f"speed-{number}.mp4", kind, num_frames, height, width)
        found = timed(path, num_frames, count, 2 if quick else 4)
        ratio = found["ours"]["cpu_s"] / found["decord"]["cpu_s"]
        rows.append({"what": what, "size_mb": round(path.stat().st_size / 1e6, 1),
                     "ratio_to_decord": round(ratio, 3), "readers": found})  # fmt: skip
    return rows


def show(rows: list[Row], counts: list[tuple[str, str, dict[str, int]]]) -> None:
    """Print both tables."""
    print(f"{'CPU seconds (wall), frames that are right':<44}" + _columns(READERS))
    for row in rows:
        cells = [
            f"{each['cpu_s']:.2f} ({each['wall_s']:.2f}), {each['right']}"
            for each in (row["readers"].get(name) for name in READERS)
            if each is not None
        ]
        blank = [] if len(cells) == len(READERS) else ["-"]
        print(f"{row['what']:<44}" + _columns(cells[:3] + blank + cells[3:]))
        print(f"    ours / decord: {row['ratio_to_decord']}")
    print(f"\n{'Frames right / wrong / lost':<44}" + _columns(READERS))
    for kind in dict.fromkeys(kind for kind, _, _ in counts):
        cells = ["{right} / {wrong} / {lost}".format(**c) for k, _, c in counts if k == kind]
        print(f"{kind:<44}" + _columns(cells))


def _columns(cells: Any) -> str:
    return "".join(f"{cell:<22}" for cell in cells)


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, to see that it runs")
    parser.add_argument("--write", action="store_true", help="keep the figures for the README")
    args = parser.parse_args()
    with TemporaryDirectory() as name:
        rows = speeds(Path(name), args.quick)
        counts = list(checked(Path(name), 120 if args.quick else 300))
    show(rows, counts)
    machine = f"Measured on {num_cores()} cores; CPU time of all threads, frames of 224 x 224."
    facts = {"machine": machine, "quick": args.quick, "rows": rows,
             "frames": [{"kind": k, "reader": r, **c} for k, r, c in counts]}  # fmt: skip
    if args.write:
        target = Path(__file__).with_suffix(".json")
        target.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
