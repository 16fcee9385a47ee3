"""SeeSay's reader of frames and those it is compared with, for `bench_video`.

Each reads in a process of its own, with nothing else loaded: two copies of ffmpeg's libraries in
one process disturb each other. As a program, `python benchmarks/video_readers.py NAME FILE HEIGHT
WIDTH` reads frame numbers as JSON from its input and says what came of them.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.measuring import Row, forget_highest_mb, highest_mb  # noqa: E402
from benchmarks.numbered_videos import number_of  # noqa: E402

Size = tuple[int, int]

#: Seconds after which a reading counts as failed: on damaged files decord tries very long.
HANG_S = 120.0

#: Frames of a clip.
CLIP = 4

#: Given a file, frame numbers and (height, width): in this order each frame or, if it was looked
#: at already, the number that it shows; None where lost.
Reading = Callable[[Path, list[int], Size], list[Any]]


def ours(path: Path, asked: list[int], size: Size) -> list[Any]:
    """SeeSay's own reader."""
    from pipelines.media.video.reader import VideoReader

    with VideoReader(path) as reader:
        inside = [number for number in asked if number < reader.info.num_frames]
        read = reader.frames_at(inside, size)
        found = dict(zip(read.indices.tolist(), read.pixels, strict=True))
    return [found.get(number) for number in asked]


def ours_for_chat(path: Path, asked: list[int], size: Size) -> list[Any]:
    """SeeSay's own reader as Video chat uses it: clips of a few frames, which are then let go."""
    from pipelines.media.video.reader import VideoReader
    from pipelines.models.videochat_flash.frames import read_clips

    clips = [asked[start : start + CLIP] for start in range(0, len(asked), CLIP)]
    lost: set[int] = set()
    shown: list[int] = []
    with VideoReader(path) as reader:
        read = read_clips(reader, clips, size[0], lost=lost)
        for _, pictures in read:
            shown += [number_of(picture) for picture in pictures]
    pairs = zip(asked, shown, strict=True)
    return [None if number in lost else found for number, found in pairs]


def by_decord(path: Path, asked: list[int], size: Size) -> list[Any]:
    """Use decord: told the size, all frames in one batch."""
    import decord

    reader = decord.VideoReader(str(path), height=size[0], width=size[1])
    return list(reader.get_batch(asked).asnumpy())


def by_decord_whole(path: Path, asked: list[int], size: Size) -> list[Any]:
    """Use decord as VideoChat-Flash's reference does: one thread, whole frames, then PIL."""
    import decord
    from PIL import Image

    reader = decord.VideoReader(str(path), num_threads=1)
    frames = reader.get_batch(asked).asnumpy()
    bicubic = Image.Resampling.BICUBIC
    return [np.asarray(Image.fromarray(each).resize(size[::-1], bicubic)) for each in frames]


def by_opencv(path: Path, asked: list[int], size: Size) -> list[Any]:
    """OpenCV from the first frame to the last one wanted; only wanted ones are converted."""
    import cv2

    capture, found = cv2.VideoCapture(str(path)), {}
    wanted = set(asked)
    for number in range(max(asked) + 1):
        if not capture.grab():
            break
        if number in wanted:
            found[number] = _scaled(capture.retrieve()[1], size)[..., ::-1]
    capture.release()
    return [found.get(number) for number in asked]


def by_opencv_jumps(path: Path, asked: list[int], size: Size) -> list[Any]:
    """OpenCV, set to each frame number."""
    import cv2

    capture, found = cv2.VideoCapture(str(path)), []
    for number in asked:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        there, picture = capture.read()
        found.append(_scaled(picture, size)[..., ::-1] if there else None)
    capture.release()
    return found


def by_torchcodec(path: Path, asked: list[int], size: Size) -> list[Any]:
    """Torchcodec in its exact mode, scaled by OpenCV afterwards."""
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    decoder = VideoDecoder(str(path), dimension_order="NHWC", seek_mode="exact")
    return [_scaled(picture, size) for picture in decoder.get_frames_at(asked).data.numpy()]


def by_decoding_alone(path: Path, asked: list[int], size: Size) -> list[Any]:
    """Decode what any reader must where each frame is needed for the next, and convert nothing.

    Of each group of frames those up to the last one wanted, one after the other, in one thread
    (more take longer in all). `size` plays no part. This is no reader: nobody gets a picture.
    """
    import av

    wanted, found = set(asked), set()
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        rate = stream.average_rate
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        starts = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        for start, end in zip(starts, [*starts[1:], len(packets)], strict=True):
            inside = [number for number in range(start, end) if number in wanted]
            stream.codec_context.flush_buffers()
            for packet in packets[start : max(inside, default=start - 1) + 1]:
                for frame in packet.decode():
                    found.add(round(float(frame.pts * frame.time_base * rate)))
    return [number if number in found else None for number in asked]


def _scaled(picture: Any, size: Size) -> Any:
    import cv2

    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)


def has_torchcodec() -> bool:
    """Say whether torchcodec is installed and finds its libraries."""
    if find_spec("torchcodec") is None:
        return False
    command = [sys.executable, "-c", "import torchcodec.decoders"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


#: The names are the columns of the tables; of each the modules that it needs.
READERS: dict[str, tuple[Reading, tuple[str, ...]]] = {
    "SeeSay": (ours, ("pipelines.media.video.open",)),
    "SeeSay, for chat": (
        ours_for_chat,
        ("pipelines.media.video.open", "pipelines.models.videochat_flash.frames"),
    ),
    "decord": (by_decord, ("decord",)),
    "decord, whole frames": (by_decord_whole, ("decord", "PIL.Image")),
    "OpenCV in order": (by_opencv, ("cv2",)),
    "OpenCV jumping": (by_opencv_jumps, ("cv2",)),
    "torchcodec": (by_torchcodec, ("torchcodec.decoders", "cv2")),
    "decoding alone": (by_decoding_alone, ("av",)),
}


def read_apart(name: str, path: Path, asked: list[int], shown: list[int], size: Size) -> Row:
    """Read frames with the reader `name` in a process of its own.

    Args:
        name: one of `READERS`.
        path: the video.
        asked: the frame numbers to ask for.
        shown: what each of them must show.
        size: (height, width) of the frames wanted.

    Returns:
        "cpu_s" over all threads and "wall_s", opening included; "added_mb" at its highest; how
        many frames were "right", "wrong" and "lost", all of them where the reader failed or
        took longer than `HANG_S`.
    """
    command = [sys.executable, __file__, name, str(path), *map(str, size)]
    try:
        done = subprocess.run(
            command, input=json.dumps([asked, shown]), check=True, capture_output=True,
            text=True, timeout=HANG_S,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return {"right": 0, "wrong": 0, "lost": len(asked), "cpu_s": float("inf")}
    facts: Row = json.loads(done.stdout.splitlines()[-1])
    return facts


def _read_here(name: str, path: Path, size: Size, asked: list[int], shown: list[int]) -> Row:
    read, modules = READERS[name]
    for module in modules:
        __import__(module)
    forget_highest_mb()
    before, wall, cpu = highest_mb(), time.perf_counter(), time.process_time()
    found = read(path, asked, size)
    facts = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall,
             "added_mb": highest_mb() - before}  # fmt: skip
    numbers = [number_of(each) if isinstance(each, np.ndarray) else each for each in found]
    right = sum(number == want for number, want in zip(numbers, shown, strict=True))
    lost = numbers.count(None)
    told = {key: round(value, 4) for key, value in facts.items()}
    return {**told, "right": right, "wrong": len(asked) - right - lost, "lost": lost}


if __name__ == "__main__":
    wanted = (int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(_read_here(sys.argv[1], Path(sys.argv[2]), wanted, *json.load(sys.stdin))))
