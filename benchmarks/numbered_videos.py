"""Videos for benchmarks, among them ones whose frames show their own number."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

OPEN_GROUPS = {"x264-params": "open-gop=1:keyint=30:min-keyint=30:scenecut=0:bframes=3"}
LIBVPX = {"g": "60", "deadline": "realtime", "cpu-used": "8", "threads": "1"}


@dataclass(frozen=True)
class Kind:
    """One way to write a video.

    Attributes:
        name: what the table calls it.
        file: the file's name.
        codec: PyAV's name of the encoder.
        options: the encoder's options.
        uneven: whether the time between two frames varies.
        damage: "", "cut" (the last two fifths are missing) or "zeros" (in the middle).
        turned: whether the file holds the pictures upside down and says so.
        hidden: frames at the start that an edit list takes away.
    """

    name: str
    file: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    uneven: bool = False
    damage: str = ""
    turned: bool = False
    hidden: int = 0


KINDS = (
    Kind("H.264, B-frames", "a.mp4", "libx264", {"g": "120", "bf": "3"}),
    Kind("H.264 baseline", "b.mp4", "libx264", {"g": "60", "profile": "baseline"}),
    Kind("H.264, open groups", "c.mkv", "libx264", OPEN_GROUPS),
    Kind("H.264, variable rate", "d.mp4", "libx264", {"g": "60"}, uneven=True),
    Kind("H.264, transport stream", "e.ts", "libx264", {"g": "30", "bf": "2"}),
    Kind("HEVC", "f.mp4", "libx265", {"x265-params": "keyint=60:log-level=none"}),
    Kind("VP9", "g.webm", "libvpx-vp9", LIBVPX),
    Kind("AV1", "h.mp4", "libsvtav1", {"preset": "12", "g": "60"}),
    Kind("MPEG-4, AVI", "i.avi", "mpeg4", {"g": "30"}),
    Kind("H.264, B-frames, AVI", "n.avi", "libx264", {"g": "60", "bf": "3"}),
    Kind("MPEG-2", "j.mpg", "mpeg2video", {"g": "12", "bf": "2"}),
    Kind("H.264, cut off", "k.mkv", "libx264", {"g": "60"}, damage="cut"),
    Kind("H.264, zeros in it", "l.mp4", "libx264", {"g": "30"}, damage="zeros"),
    Kind("HEVC, zeros in it", "m.mp4", "libx265", {"x265-params": "keyint=30:log-level=none"},
         damage="zeros"),
    Kind("H.264, turned by 180°", "o.mp4", "libx264", {"g": "60"}, turned=True),
    Kind("H.264, edit list", "p.mp4", "libx264", {"g": "60", "bf": "2"}, hidden=10),
)  # fmt: skip

#: What is timed: quick to write, with groups as long as each encoder makes them by itself.
FAST = (
    Kind("H.264 with B-frames", "speed.mp4", "libx264", {"preset": "veryfast", "bf": "3"}),
    Kind("HEVC", "speed.mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    Kind("VP9", "speed.webm", "libvpx-vp9", LIBVPX | {"g": "128"}),
    Kind("H.264 of variable rate", "speed.mp4", "libx264", {"preset": "veryfast"}, uneven=True),
)


def texture(height: int, width: int) -> Pixels:
    """Return a soft, coloured pattern, wider than a frame, to be moved along."""
    small = np.random.default_rng(5).integers(40, 200, (height // 24, width // 12, 3))
    frame = av.VideoFrame.from_ndarray(small.astype(np.uint8), "rgb24")
    made: Any = frame.reformat(2 * width, height).to_ndarray()
    return np.ascontiguousarray(made)


def draw(number: int, background: Pixels, width: int) -> Pixels:
    """Return a frame: the pattern, moved, and 16 squares that are the number's bits."""
    shift = number * 3 % width
    picture = background[:, shift : shift + width].copy()
    side = width // 16
    for bit in range(16):
        picture[:side, bit * side : (bit + 1) * side] = 235 if number >> bit & 1 else 16
    return picture


def number_of(picture: Any) -> int:
    """Read the number of a frame of any size, -1 where it cannot be read."""
    height, width = picture.shape[:2]
    number, side = 0, width / 16
    deep = max(1, round(height * 0.07))
    for bit in range(16):
        left = round((bit + 0.3) * side)
        level = float(
            picture[deep // 3 : deep, left : max(left + 1, round((bit + 0.7) * side))].mean()
        )
        if 80 < level < 170:
            return -1
        number |= (level >= 170) << bit
    return number


def write_video(path: Path, frames: Iterable[Pixels], fps: float) -> None:
    """Write frames, (H, W, 3) uint8 RGB with even sides, as an H.264 file."""
    with iio.imopen(path, "w", plugin="pyav") as file:
        file.init_video_stream("libx264", fps=fps)
        for frame in frames:
            file.write_frame(frame)


def make(path: Path, kind: Kind, num_frames: int, height: int, width: int) -> Path:
    """Write a video of 30 frames a second, `num_frames` of which are shown."""
    background = texture(height, width)
    target = path.with_stem(f"{path.stem}-whole") if kind.hidden else path
    scheduling = os.sched_getscheduler(0), os.sched_getparam(0)
    with av.open(str(target), "w") as container:
        stream: Any = container.add_stream(kind.codec, rate=30, options=kind.options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        ticks = 1000 if kind.uneven else 30
        stream.codec_context.time_base = Fraction(1, ticks)
        if kind.turned:
            stream.set_display_matrix([-1 << 16, 0, 0, 0, -1 << 16, 0, 0, 0, 1 << 30])
        for number in range(num_frames + kind.hidden):
            picture = draw(number, background, width)
            picture = np.ascontiguousarray(picture[::-1, ::-1]) if kind.turned else picture
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = number * 40 + number * number * 7 % 31 if kind.uneven else number
            frame.time_base = Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    os.sched_setscheduler(0, *scheduling)  # the AV1 encoder makes this thread real-time
    if kind.hidden:
        _hide(target, path, kind.hidden / 30)
        target.unlink()
    if kind.damage:
        _damage(path, kind.damage)
    return path


def _hide(source: Path, target: Path, seconds: float) -> None:
    """Copy a video so that its first `seconds` lie before its start: an edit list cuts them off."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copied = new.add_stream_from_template(stream)
        shift = round(seconds / float(stream.time_base or 1))
        for packet in old.demux(stream):
            if packet.size and packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copied
                new.mux(packet)


def _damage(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    start, length = len(data) * 2 // 5, len(data) // 50
    data = data[: start * 3 // 2] if damage == "cut" else data
    if damage == "zeros":
        data[start : start + length] = bytes(length)
    path.write_bytes(data)
