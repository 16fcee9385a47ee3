"""Small videos made on the spot; each frame carries its number as 16 black or white squares."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

HEIGHT, WIDTH, FPS = 96, 160, 30
NUM_FRAMES = 90


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return a grey frame (height, width, 3) with its number and a moving bar."""
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    bar = number * 2 % (HEIGHT - 60)
    picture[56 + bar : 60 + bar] = (200, 60, 40)
    for bit in range(16):
        top, left = 8 + bit // 8 * 22, 4 + bit % 8 * 19
        picture[top : top + 18, left : left + 17] = 255 if number >> bit & 1 else 0
    return np.kron(picture, np.ones((height // HEIGHT, width // WIDTH, 1), np.uint8))


def number_of(picture: np.ndarray) -> int:
    """Read a frame's number; -1 where a square is neither black nor white."""
    number = 0
    down, right = picture.shape[0] / HEIGHT, picture.shape[1] / WIDTH
    for bit in range(16):
        top, left = 8 + bit // 8 * 22, 4 + bit % 8 * 19
        square = picture[
            round((top + 5) * down) : round((top + 13) * down),
            round((left + 5) * right) : round((left + 12) * right),
        ]
        level = float(square.mean())
        if 70 < level < 185:
            return -1
        number |= (level >= 185) << bit
    return number


def numbers_of(pictures: np.ndarray) -> list[int]:
    return [number_of(picture) for picture in pictures]


@contextmanager
def same_scheduling() -> Iterator[None]:
    """Restore the scheduling policy of this thread after the block.

    The AV1 encoder makes the thread that opens it real-time if it may. Processes that are started
    later inherit that, and two of them that wait for others in a loop take the whole machine.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def encode(
    path: Path,
    codec: str,
    options: dict[str, str] | None = None,
    *,
    num_frames: int = NUM_FRAMES,
    times: Sequence[int] | None = None,
    ticks: int = FPS,
    setup: Callable[[Any], None] | None = None,
    sound: bool = False,
    container_options: dict[str, str] | None = None,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> Path:
    """Write numbered frames at `times` (in 1/`ticks` s), the decoder's choice of container."""
    with same_scheduling(), av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=FPS, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
        stream.codec_context.time_base = Fraction(1, ticks)
        if setup is not None:
            setup(stream)
        voice: Any = container.add_stream("aac", rate=44100) if sound else None
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(numbered(number, *size), "rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, ticks)
            container.mux(stream.encode(frame))
            if voice is not None and number % 3 == 0:
                container.mux(voice.encode(tone(number * 1470, 4410)))
        container.mux(stream.encode(None))
        if voice is not None:
            container.mux(voice.encode(None))
    return path


def tone(start: int, length: int) -> av.AudioFrame:
    """Return sound of one channel at 44.1 kHz."""
    wave = np.sin((start + np.arange(length)) * 0.06).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(wave * 0.2, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
    return frame


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        voice: Any = container.add_stream("aac", rate=44100)
        for part in range(10):
            container.mux(voice.encode(tone(part * 4410, 4410)))
        container.mux(voice.encode(None))
    return path


def remuxed(source: Path, target: Path, shift_s: float, **options: str) -> Path:
    """Copy the packets of a file with all times shifted; what lies before 0 is cut by edit list."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = old.streams.video[0]
        copied = new.add_stream_from_template(stream)
        shift = round(shift_s / float(stream.time_base or 1))
        for packet in old.demux(stream):
            if packet.size:
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = copied
                new.mux(packet)
    return target


VFR_TIMES = [n * 40 + (n * n * 7) % 31 + (900 if n >= 50 else 0) for n in range(NUM_FRAMES)]


def _b_frames(stream: Any) -> None:
    stream.codec_context.max_b_frames = 2


OPEN_GOP = {"x264-params": "open-gop=1:keyint=20:min-keyint=20:scenecut=0:bframes=3"}
HEVC = {"x265-params": "keyint=25:min-keyint=25:log-level=none:bframes=3", "preset": "ultrafast"}
LAYERS = {"x265-params": "keyint=30:log-level=none:bframes=7:temporal-layers=3"}
LIBVPX = {"g": "40", "deadline": "realtime", "cpu-used": "8", "threads": "1"}

#: name -> (codec, options, more of `encode`)
KINDS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "h264-b-frames.mp4": ("libx264", {"g": "60", "bf": "3"}, {}),
    "h264-one-group.mp4": ("libx264", {"g": "999", "preset": "fast"}, {}),
    "h264-baseline.mp4": ("libx264", {"profile": "baseline", "g": "25"}, {}),
    "h264-open-groups.mkv": ("libx264", OPEN_GOP, {}),
    "h264-open-groups.mp4": ("libx264", OPEN_GOP, {"sound": True}),
    "h264-intra-refresh.mkv": (
        "libx264",
        {"x264-params": "intra-refresh=1:keyint=20:bframes=0"},
        {},
    ),
    "h264-variable.mp4": ("libx264", {"g": "20"}, {"times": VFR_TIMES, "ticks": 1000}),
    "h264-variable.mkv": ("libx264", {"g": "20"}, {"times": VFR_TIMES, "ticks": 1000}),
    "h264-fragments.mp4": (
        "libx264",
        {"g": "20"},
        {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "sound": True},
    ),
    "h264.ts": ("libx264", {"g": "20", "bf": "2"}, {"sound": True}),
    "h264-no-times.h264": ("libx264", {"g": "20", "bf": "2"}, {}),
    "h264.flv": ("libx264", {"g": "20", "bf": "2"}, {}),
    "hevc.mp4": ("libx265", HEVC, {}),
    "hevc-layers.mkv": ("libx265", LAYERS, {}),
    "vp9.webm": ("libvpx-vp9", LIBVPX, {}),
    "vp8.webm": ("libvpx", LIBVPX, {}),
    "av1.mp4": ("libsvtav1", {"preset": "12", "g": "40"}, {}),
    "h264-b-frames.avi": ("libx264", {"g": "20", "bf": "3"}, {"sound": True}),
    "mpeg4.avi": ("mpeg4", {"g": "20"}, {"setup": _b_frames, "sound": True}),
    "mpeg4.mp4": ("mpeg4", {"g": "20"}, {"setup": _b_frames}),
    "mpeg2.mpg": ("mpeg2video", {"g": "12"}, {"setup": _b_frames}),
    "mjpeg.avi": ("mjpeg", {"q": "5"}, {}),
    "picture.gif": ("gif", {}, {}),
}


def make(kind: str, folder: Path) -> Path:
    """Return the video of this name, made if it is not there yet."""
    path = folder / kind
    if not path.exists():
        codec, options, more = KINDS[kind]
        encode(path, codec, options, **more)
    return path
