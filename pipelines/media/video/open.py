"""Open any video a person may have, and read exactly the frames that are asked for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import DecoderLost, MediaError
from pipelines.media import isolation
from pipelines.media.video.container import check_file, shown
from pipelines.media.video.frames import Fit, Numbers, Pixels, VideoFrames, VideoInfo, indices_at
from pipelines.media.video.reader import VideoReader


class IsolatedVideo(VideoReader):
    """A `VideoReader` whose file is decoded in a process of its own."""

    def __init__(
        self,
        path: Path,
        *,
        max_seconds: float = 0.0,
        cancel: CancelToken = NEVER,
    ) -> None:
        """List the frames of a video, as `VideoReader` does."""
        check_file(path)
        self._path, self._is_open = path, True
        self._lent = ExitStack()
        self._decoder = self._lent.enter_context(isolation.decoder_pool().one())
        try:
            self.info, self.times_s = self._decoder.ask(
                shown(path), "open", path, max_seconds, cancel=cancel
            )
        except BaseException:
            self._lent.close()
            raise

    def close(self) -> None:
        """Close the file; it cannot be read any more."""
        was_open, self._is_open = self._is_open, False  # the decoder is another one's from now on
        try:
            if was_open and self._decoder.is_alive:
                self._decoder.ask(shown(self._path), "close")
        finally:
            self._lent.close()

    def frames_at(
        self,
        indices: Sequence[int] | Numbers,
        size: tuple[int, int] | None = None,
        *,
        fit: Fit = "squash",
        threads: int = 0,
        cancel: CancelToken = NEVER,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> VideoFrames:
        """Read frames by number, as `VideoReader` does."""
        frames: VideoFrames = self._decoder.ask(
            shown(self._path),
            "frames",
            np.asarray(indices, np.int64),
            size,
            {"fit": fit, "threads": threads},
            cancel=cancel,
            on_progress=on_progress,
        )
        return frames

    def frames_in_order(
        self,
        indices: Sequence[int] | Numbers,
        size: tuple[int, int] | None = None,
        *,
        fit: Fit = "squash",
        at_once: int = 16,
        threads: int = 0,
        cancel: CancelToken = NEVER,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[VideoFrames]:
        """Read frames one part after the other, as `VideoReader` does."""
        name, asked = shown(self._path), np.asarray(indices, np.int64)
        options = {"fit": fit, "at_once": at_once, "threads": threads}
        order = self._decoder.ask(name, "order", asked, size, options)
        try:
            while True:
                frames: VideoFrames | None = self._decoder.ask(
                    name, "next", order, cancel=cancel, on_progress=on_progress
                )
                if frames is None:
                    return
                yield frames
        finally:
            if self._is_open and self._decoder.is_alive:
                self._decoder.ask(name, "forget", order)


def open_video(path: Path, *, max_seconds: float = 0.0, cancel: CancelToken = NEVER) -> VideoReader:
    """Open a video as `VideoReader` does; where `apart` is switched on, in a process of its own."""
    kind = IsolatedVideo if isolation.is_enabled() else VideoReader
    return kind(path, max_seconds=max_seconds, cancel=cancel)


def probe(path: Path, *, max_seconds: float = 0.0) -> VideoInfo:
    """Return what a video is.

    Raises:
        MediaError: not a video, damaged beyond use, or longer than `max_seconds`.
    """
    with open_video(path, max_seconds=max_seconds) as reader:
        return reader.info


#: Widest frame, in pixels.
_MAX_WIDTH = 640


def key_frames(
    path: Path,
    times_s: Sequence[float],
    *,
    height_px: int = 120,
    cancel: CancelToken = NEVER,
) -> list[Pixels]:
    """Return the small upright frames on show at some times, (H, W, 3) uint8, one each, in order.

    One that cannot be read is black.

    Raises:
        MediaError: the file is not a video that can be read.
        DecoderLost: reading it made a decoder crash or hang.
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
        except MediaError:  # none of them: the video is damaged just there
            read = None
        if read is not None:
            frames = dict(zip(read.indices.tolist(), read.pixels, strict=True))
    black = np.zeros((height_px, width, 3), np.uint8)
    return [frames.get(int(index), black) for index in asked]
