"""A video that is decoded in a process of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from pipelines.media import isolation
from pipelines.media.video.container import check_file, shown
from pipelines.media.video.frames import Numbers
from pipelines.media.video.reader import VideoReader
from pipelines.video_pixels import Fit
from pipelines.video_results import VideoFrames


class ApartVideo(VideoReader):
    """A `VideoReader` whose file is decoded in a process of its own."""

    def __init__(
        self,
        path: Path,
        *,
        max_seconds: float = 0.0,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """List the frames of a video, as `VideoReader` does."""
        check_file(path)
        self._path, self._is_open = path, True
        self._lent = ExitStack()
        self._decoder = self._lent.enter_context(isolation.crew().one())
        try:
            self.info, self.times_s = self._decoder.ask(
                shown(path), "open", path, max_seconds, should_stop=should_stop
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
        should_stop: Callable[[], bool] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> VideoFrames:
        """Read frames by number, as `VideoReader` does."""
        frames: VideoFrames = self._decoder.ask(
            shown(self._path),
            "frames",
            np.asarray(indices, np.int64),
            size,
            {"fit": fit, "threads": threads},
            should_stop=should_stop,
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
        should_stop: Callable[[], bool] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[VideoFrames]:
        """Read frames one part after the other, as `VideoReader` does."""
        name, asked = shown(self._path), np.asarray(indices, np.int64)
        options = {"fit": fit, "at_once": at_once, "threads": threads}
        order = self._decoder.ask(name, "order", asked, size, options)
        try:
            while True:
                frames: VideoFrames | None = self._decoder.ask(
                    name, "next", order, should_stop=should_stop, on_progress=on_progress
                )
                if frames is None:
                    return
                yield frames
        finally:
            if self._is_open and self._decoder.is_alive:
                self._decoder.ask(name, "forget", order)
