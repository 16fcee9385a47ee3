"""Moving scenes as video files."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from demo_models.world.motion import Motion
from demo_models.world.motion_rendering import render_frames


@dataclass(frozen=True)
class FileFormat:
    """Size, rate, length and quality of a video file."""

    width: int
    height: int
    fps: int
    seconds: float
    crf: int  # of H.264: 0 is lossless, more is worse

    @property
    def name(self) -> str:
        """Return a short description."""
        return f"{self.width}x{self.height} at {self.fps} fps, {self.seconds:g} s, crf {self.crf}"


FORMATS = (
    FileFormat(320, 240, 25, 4.0, 23),
    FileFormat(320, 240, 12, 2.0, 23),
    FileFormat(320, 240, 30, 6.0, 28),
    FileFormat(64, 64, 8, 2.0, 0),
    FileFormat(160, 120, 15, 3.0, 30),
    FileFormat(128, 128, 25, 4.0, 35),
)


def write_video(path: Path, frames: NDArray[np.uint8], fps: int, crf: int = 23) -> None:
    """Write (T, H, W, 3) uint8 frames of even sizes as H.264; crf 0 keeps every luma value."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        stream: Any = container.add_stream("libx264", rate=Fraction(fps), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_motion(path: Path, motion: Motion, form: FileFormat) -> None:
    """Render a whole motion into a video file."""
    count = round(form.seconds * form.fps)
    times = np.arange(count) / count * motion.duration
    write_video(path, render_frames(motion, times, form.height, form.width), form.fps, form.crf)
