"""decord, for the rare file that PyAV does not open."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pipelines.core.errors import ReadingStopped
from pipelines.media.video.container import looks_like_video
from pipelines.media.video.decoder import Group, Take
from pipelines.media.video.frames import Numbers
from pipelines.media.video.index import NONE, VideoIndex

#: Largest file given to decord.
_MAX_BYTES = 500_000_000


class DecordWorker:
    """Reads through decord what `video_decoding.Worker` reads through PyAV."""

    def __init__(self, reader: Any) -> None:
        """Take an open `decord.VideoReader`."""
        self._reader = reader
        self._reformatter = VideoReformatter()

    def close(self) -> None:
        """Keep the file: it is in memory, and goes with this object."""

    def run(self, group: Group, threads: int, take: Take, stopped: Callable[[], bool]) -> Numbers:
        """Decode a group, hand each frame to `take` and return the lost ones."""
        import decord

        lost = []
        for number in group.wanted.tolist():
            if stopped():
                raise ReadingStopped
            try:
                pixels = self._reader[number].asnumpy()
            except (decord.DECORDError, RuntimeError):
                lost.append(number)
                continue
            take(number, av.VideoFrame.from_ndarray(pixels, "rgb24"), self._reformatter)
        return np.array(lost, np.int64)


def open_with_decord(path: Path) -> tuple[VideoIndex, DecordWorker] | None:
    """Open a file with decord; None where it is not installed or cannot read the file either.

    decord keeps the whole file in memory and knows no list of formats, so only files that begin
    like a video, and are not larger than `_MAX_BYTES`, are given to it.
    """
    if not looks_like_video(path) or path.stat().st_size > _MAX_BYTES:
        return None
    try:
        import decord
    except ImportError:
        return None
    try:
        with path.open("rb") as file:  # by its name, decord would write that into the log
            reader = decord.VideoReader(file, num_threads=1)
        num_frames, rate = len(reader), float(reader.get_avg_fps()) or 25.0
        spans = np.asarray(reader.get_frame_timestamp(np.arange(num_frames)), np.float64)
    except (decord.DECORDError, RuntimeError):
        return None
    if not num_frames:
        return None
    unknown = np.full(num_frames, NONE)
    index = VideoIndex(
        pts=unknown,
        dts=unknown,
        names=None,
        named_by="",
        damaged=np.zeros(0, np.int64),
        packets=np.arange(num_frames),
        starts=np.zeros(num_frames, np.int64),
        times_s=spans[:, 0] - spans[0, 0],
        end_s=float(max(spans[-1].max(), spans[-1, 0] + 1 / rate) - spans[0, 0]),
        codec="unknown",
        pixel_aspect=1.0,
        padded=False,
    )
    return index, DecordWorker(reader)
