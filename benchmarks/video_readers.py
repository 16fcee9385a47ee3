"""SeeSay's reader of frames and those it is compared with, for `bench_video`.

Run as a program it says what one of them adds to the memory of a process of its own:
`python benchmarks/video_readers.py "decord" FILE NUM_FRAMES COUNT` prints MB.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DECORD_EOF_RETRY_MAX", "64")
os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder says much

import av  # noqa: E402, F401 -- first: after decord it would take some of decord's own codecs
import cv2  # noqa: E402
import decord  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from pipelines.errors import PipelineError  # noqa: E402
from pipelines.video import VideoReader  # noqa: E402
from pipelines.video_choice import spread_indices  # noqa: E402

#: Given a file, frame numbers and (height, width): each frame in this order, None where lost.
Reading = Callable[[Path, list[int], tuple[int, int]], list[Any]]

#: What readers raise on files that they cannot read.
FAILURES = (RuntimeError, OSError, ValueError, IndexError, PipelineError,
            decord.DECORDError)  # fmt: skip

#: (height, width) of the frames that are timed.
SIZE = (224, 224)


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


def by_decord_whole(path: Path, asked: list[int], size: tuple[int, int]) -> list[Any]:
    """decord as the reference of VideoChat-Flash uses it: one thread, whole frames, then PIL."""
    reader = decord.VideoReader(str(path), num_threads=1)
    frames = reader.get_batch(asked).asnumpy()
    return [_by_pil(frame, size) for frame in frames]


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
    return [_scaled(picture, size) for picture in pictures]


def _scaled(picture: Any, size: tuple[int, int]) -> Any:
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)


def _rgb(picture: Any, size: tuple[int, int]) -> Any:
    return _scaled(picture, size)[..., ::-1]


def _by_pil(frame: Any, size: tuple[int, int]) -> Any:
    return np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BICUBIC))


def _has_torchcodec() -> bool:
    """Say whether torchcodec is installed and finds its libraries."""
    if find_spec("torchcodec") is None:
        return False
    try:
        import_module("torchcodec.decoders")
    except (ImportError, RuntimeError, OSError):
        return False
    return True


#: The names are the columns of the tables.
READERS: dict[str, Reading] = {
    "SeeSay": ours,
    "decord": by_decord,
    "decord, whole frames": by_decord_whole,
    "OpenCV in order": by_opencv,
    "OpenCV jumping": by_opencv_jumps,
}
if _has_torchcodec():
    READERS["torchcodec"] = by_torchcodec

#: Those that the fastest is looked for among.
RIVALS = tuple(name for name in ("decord", "torchcodec", "OpenCV in order") if name in READERS)


def highest_mb() -> float:
    """Return the highest resident memory of this process since `forget_highest`, in MB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status does not say VmHWM: this is measured on Linux only.")


def forget_highest() -> None:
    """Let the highest memory be counted anew from here."""
    Path("/proc/self/clear_refs").write_text("5")


def added_mb(name: str, path: Path, num_frames: int, count: int) -> float:
    """Return the MB that one reading adds to this process at its highest."""
    asked = spread_indices(num_frames, count).tolist()
    forget_highest()
    before = highest_mb()
    kept = READERS[name](path, asked, SIZE)
    added = highest_mb() - before
    del kept
    return added


if __name__ == "__main__":
    print(round(added_mb(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])), 1))
