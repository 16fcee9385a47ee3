"""Opening of videos, isolated or in this process, and reading of key frames."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import DecoderLost, MediaError, shown_name
from pipelines.media import isolation
from pipelines.media.video.container import check_file
from pipelines.media.video.frames import Numbers, Pixels, VideoFrames, VideoInfo, indices_at
from pipelines.media.video.reader import VideoReader


class IsolatedVideo(VideoReader):
    """`VideoReader` that decodes in a decoder process; a closed one cannot be reopened."""

    def __init__(
        self, path: Path, *, max_seconds: float = 0.0, cancel: CancelToken = NEVER
    ) -> None:
        check_file(path)
        self._name, self._is_open = shown_name(path.name), True
        self._lease = ExitStack()
        self._decoder = self._lease.enter_context(isolation.decoder_pool().lease())
        try:
            self.info, self.times_s = self._decoder.request(
                self._name, "open", path, max_seconds, cancel=cancel
            )
        except BaseException:
            self._lease.close()
            raise

    def close(self) -> None:
        """Close the file."""
        was_open, self._is_open = self._is_open, False  # the decoder may serve others from now on
        try:
            if was_open and self._decoder.is_alive:
                self._decoder.request(self._name, "close")
        finally:
            self._lease.close()

    def frames_at(
        self,
        indices: Sequence[int] | Numbers,
        size: tuple[int, int] | None = None,
        *,
        cancel: CancelToken = NEVER,
        on_progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> VideoFrames:
        """Read frames by number, see `VideoReader`."""
        request = ("frames", np.asarray(indices, np.int64), size, options)
        frames: VideoFrames = self._decoder.request(
            self._name, *request, cancel=cancel, on_progress=on_progress
        )
        return frames

    def frames_in_order(
        self,
        indices: Sequence[int] | Numbers,
        size: tuple[int, int] | None = None,
        *,
        cancel: CancelToken = NEVER,
        on_progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> Iterator[VideoFrames]:
        """Read frames in parts, see `VideoReader`."""
        asked = np.asarray(indices, np.int64)
        number = self._decoder.request(self._name, "start", asked, size, options)
        try:
            while True:
                frames: VideoFrames | None = self._decoder.request(
                    self._name, "next", number, cancel=cancel, on_progress=on_progress
                )
                if frames is None:
                    return
                yield frames
        finally:
            if self._is_open and self._decoder.is_alive:
                self._decoder.request(self._name, "end", number)


def open_video(path: Path, *, max_seconds: float = 0.0, cancel: CancelToken = NEVER) -> VideoReader:
    """Open a video as `VideoReader` does, in a decoder process if isolation is enabled."""
    reader = IsolatedVideo if isolation.is_enabled() else VideoReader
    return reader(path, max_seconds=max_seconds, cancel=cancel)


def probe(path: Path, *, max_seconds: float = 0.0) -> VideoInfo:
    """Return the properties of a video; raises like `VideoReader`."""
    with open_video(path, max_seconds=max_seconds) as reader:
        return reader.info


#: Maximum width of a key frame in pixels.
_MAX_WIDTH = 640


def key_frames(
    path: Path, times_s: Sequence[float], *, height_px: int = 120, cancel: CancelToken = NEVER
) -> list[Pixels]:
    """Return a small upright frame (H, W, 3), uint8, for each time; black if it is unreadable.

    Raises:
        MediaError: the file is not a readable video.
        DecoderLost: the decoder crashed or hung.
        Cancelled: `cancel` is cancelled.
    """
    if not times_s:
        return []
    with open_video(path, cancel=cancel) as reader:
        info = reader.info
        width = min(max(2, round(info.width_px * height_px / info.height_px)), _MAX_WIDTH)
        asked = indices_at(reader.times_s, list(times_s))
        frames: dict[int, Pixels] = {}
        try:
            read = reader.frames_at(np.unique(asked), (height_px, width), cancel=cancel)
        except DecoderLost:
            raise
        except MediaError:  # the video is damaged at these times
            read = None
        if read is not None:
            frames = dict(zip(read.indices.tolist(), read.pixels, strict=True))
    black = np.zeros((height_px, width, 3), np.uint8)
    return [frames.get(int(index), black) for index in asked]
