"""Open any video a person may have, and read exactly the frames that are asked for."""

from collections.abc import Callable
from pathlib import Path

from pipelines.core.errors import ReadingStopped
from pipelines.media import isolation
from pipelines.media.video.reader import VideoReader
from pipelines.video_apart import ApartVideo
from pipelines.video_pixels import Fit
from pipelines.video_results import VideoFrames, VideoInfo

__all__ = [
    "ApartVideo", "Fit", "ReadingStopped", "VideoFrames", "VideoInfo", "VideoReader", "open_video",
    "probe",
]  # fmt: skip


def open_video(
    path: Path, *, max_seconds: float = 0.0, should_stop: Callable[[], bool] | None = None
) -> VideoReader:
    """Open a video as `VideoReader` does; where `apart` is switched on, in a process of its own."""
    kind = ApartVideo if isolation.is_on() else VideoReader
    return kind(path, max_seconds=max_seconds, should_stop=should_stop)


def probe(path: Path, *, max_seconds: float = 0.0) -> VideoInfo:
    """Return what a video is.

    Raises:
        MediaError: not a video, damaged beyond use, or longer than `max_seconds`.
    """
    with open_video(path, max_seconds=max_seconds) as reader:
        return reader.info
