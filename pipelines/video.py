"""Open any video a person may have, and read exactly the frames that are asked for."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pipelines import apart
from pipelines.errors import InputError, MediaError, MemoryLimitError, ReadingStopped
from pipelines.video_choice import Numbers, Times, indices_at
from pipelines.video_crew import Crew, Run, num_cores
from pipelines.video_decoding import groups_of
from pipelines.video_fallback import open_with_decord
from pipelines.video_index import VideoIndex, build_index
from pipelines.video_opening import check_file, open_container, shown, unreadable
from pipelines.video_pixels import Fit, Framing, Pixels, Turn, display_size

__all__ = [
    "Fit", "ReadingStopped", "VideoFrames", "VideoInfo", "VideoReader", "open_video", "probe",
]  # fmt: skip

#: Most memory that the frames of one call may take; 1 GB = 1e9 bytes.
MAX_FRAMES_GB = 4.0

#: How many places of a damaged file are tried for a frame that shows what it looks like.
_NUM_TRIES = 12


@dataclass(frozen=True)
class VideoInfo:
    """What a video is.

    Attributes:
        duration_s: from the first frame to the end of the last.
        num_frames: frames that decoding the whole file gives.
        average_fps: frames per second, on average; 0.0 where there is no second frame.
        rotation_deg: how far stored frames are turned clockwise to be upright: 0, 90, 180, 270.
        width_px: width of an upright frame as it is displayed.
        height_px: height of the same.
        codec: the decoder's name, such as "h264".
        variable_rate: whether the time between two frames varies.
    """

    duration_s: float
    num_frames: int
    average_fps: float
    rotation_deg: int
    width_px: int
    height_px: int
    codec: str
    variable_rate: bool


@dataclass(frozen=True, eq=False)
class VideoFrames:
    """Frames of a video.

    Attributes:
        pixels: upright frames (N, H, W, 3), uint8, RGB, in the order asked for, without the lost.
        indices: number of each frame (N,).
        times_s: when each appears (N,).
        lost: numbers of the frames that were asked for and cannot be read, ascending.
        num_asked: how many different frames were asked for.
    """

    pixels: Pixels
    indices: Numbers
    times_s: Times
    lost: tuple[int, ...]
    num_asked: int

    @property
    def num_lost(self) -> int:
        """How many different frames were asked for and cannot be read."""
        return len(self.lost)

    @property
    def notice(self) -> str:
        """One sentence for a person where frames are lost, else ""."""
        if not self.lost:
            return ""
        return (
            f"{self.num_lost} of {self.num_asked} frames could not be read because the video is "
            "damaged there; the others are used."
        )


class VideoReader:
    """A video file whose frames can be read by number or by time; to be closed, or used by `with`.

    Attributes:
        info: what the video is.
        times_s: when each frame appears, from the first one's 0.0 on.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_seconds: float = 0.0,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """List the frames of a video; decodes no more than one of them.

        Args:
            path: the file.
            max_seconds: longest video that is taken; 0.0 takes any.
            should_stop: asked now and then; when true, `ReadingStopped` is raised.

        Raises:
            MediaError: not a video, damaged beyond use, or too long.
            ReadingStopped: the caller said so.
        """
        self._path = path
        stop, only = should_stop or _never, None
        check_file(path)
        try:
            with open_container(path) as container:
                _check_length(path, (container.duration or 0) / 1e6, max_seconds)
            self._index = build_index(path, stop)
        except (av.FFmpegError, ValueError) as error:
            opened = open_with_decord(path)
            if opened is None:
                raise unreadable(path) from error
            self._index, only = opened
        _check_length(path, self._index.end_s, max_seconds)
        self._crew = Crew(path, self._index, only)
        self._turn, self._source = self._look(stop)
        self.times_s = self._index.times_s
        self.info = _info(self._index, self._turn, self._source)

    def __enter__(self) -> "VideoReader":
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        self._crew.close()

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
        """Read frames by number.

        Args:
            indices: frame numbers 0 ≤ i < num_frames, in any order; one may be there twice.
            size: (height, width) of the result; None keeps the display size.
            fit: how a frame fills `size`: "squash", "cover" (cut off) or "contain" (black bars).
            threads: most threads; 0 takes one per core.
            should_stop: asked every 50 ms in the caller's thread.
            on_progress: called in the caller's thread with (frames read, frames wanted), as long
                as packets are decoded; some frames take many of them.

        Raises:
            InputError: a number that does not exist, none at all, or an impossible size.
            MediaError: none of the frames can be read.
            MemoryLimitError: the frames would take more than `MAX_FRAMES_GB`.
            ReadingStopped: the caller said so.
        """
        asked = _checked(indices, self.info.num_frames)
        framing = Framing.fitting(self._source, _checked_size(size), fit, self._turn)
        frames, places = np.unique(asked, return_inverse=True)
        _check_memory(len(asked), framing.size)
        pixels = np.zeros((len(frames), *framing.size, 3), np.uint8)
        rows = {int(packet): row for row, packet in enumerate(self._index.packets[frames])}
        done = np.zeros(len(frames), np.bool_)

        def take(packet: int, frame: Any, reformatter: VideoReformatter) -> None:
            framing.paint(frame, reformatter, pixels[rows[packet]])
            done[rows[packet]] = True

        run = Run(self._crew, groups_of(self._index, frames), take, threads or num_cores())
        lost_packets = run.all(should_stop or _never, _reporting(on_progress, done))
        lost = np.array(sorted(rows[packet] for packet in lost_packets), np.int64)
        if len(lost) == len(frames):
            raise MediaError(_nothing_left(self._path, len(frames)))
        return self._gathered(pixels, asked, places, lost)

    def _gathered(
        self, pixels: Pixels, asked: Numbers, places: Numbers, lost: Numbers
    ) -> VideoFrames:
        """Return what was read in the order asked for; `places` are rows of `pixels`."""
        kept = ~np.isin(places, lost)
        whole = kept.all() and np.array_equal(places, np.arange(len(pixels)))
        return VideoFrames(
            pixels=pixels if whole else pixels[places[kept]],
            indices=asked[kept],
            times_s=self.times_s[asked[kept]],
            lost=tuple(np.unique(asked)[lost].tolist()),
            num_asked=len(pixels),
        )

    def frames_at_times(
        self, times_s: Sequence[float] | Times, size: tuple[int, int] | None = None, **options: Any
    ) -> VideoFrames:
        """Read the frame on show at each time; `options` are those of `frames_at`."""
        return self.frames_at(indices_at(self.times_s, times_s), size, **options)

    def _look(self, stop: Callable[[], bool]) -> tuple[Turn, tuple[int, int]]:
        """Decode one frame to learn how frames lie and how large they are."""
        found: list[tuple[Turn, tuple[int, int]]] = []

        def take(packet: int, frame: Any, reformatter: VideoReformatter) -> None:
            turn = Turn.of(frame)
            aspect = self._index.pixel_aspect
            found.append((turn, display_size(frame.width, frame.height, aspect, turn)))

        _, firsts = np.unique(self._index.starts, return_index=True)
        for place in np.unique(np.linspace(0, len(firsts) - 1, _NUM_TRIES).astype(int)):
            if not len(firsts):
                break
            group = groups_of(self._index, firsts[place : place + 1])[0]
            with self._crew.one() as worker:
                worker.run(group, 1, take, stop)
            if found:
                return found[0]
        self.close()
        raise MediaError(_nothing_left(self._path, len(self._index.packets)))


def open_video(
    path: Path, *, max_seconds: float = 0.0, should_stop: Callable[[], bool] | None = None
) -> VideoReader:
    """Open a video as `VideoReader` does; where `apart` is switched on, in a process of its own."""
    kind = ApartVideo if apart.is_on() else VideoReader
    return kind(path, max_seconds=max_seconds, should_stop=should_stop)


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
        self._path = path
        self._lent = ExitStack()
        self._decoder = self._lent.enter_context(apart.crew().one())
        try:
            self.info, self.times_s = self._decoder.ask(
                shown(path), "open", path, max_seconds, should_stop=should_stop
            )
        except BaseException:
            self._lent.close()
            raise

    def close(self) -> None:
        """Close the file; it cannot be read any more."""
        try:
            if self._decoder.is_alive:
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


def probe(path: Path, *, max_seconds: float = 0.0) -> VideoInfo:
    """Return what a video is.

    Raises:
        MediaError: not a video, damaged beyond use, or longer than `max_seconds`.
    """
    with open_video(path, max_seconds=max_seconds) as reader:
        return reader.info


def _never() -> bool:
    return False


def _info(index: VideoIndex, turn: Turn, source: tuple[int, int]) -> VideoInfo:
    times = index.times_s
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    uneven = np.abs(steps - usual).max(initial=0.0) > max(0.0021, 0.02 * usual)
    span = float(times[-1])
    return VideoInfo(
        duration_s=index.end_s,
        num_frames=len(times),
        average_fps=len(steps) / span if span > 0 else 0.0,
        rotation_deg=turn.rotation_deg,
        width_px=source[1],
        height_px=source[0],
        codec=index.codec,
        variable_rate=bool(uneven),
    )


def _check_length(path: Path, seconds: float, limit: float) -> None:
    if limit and seconds > limit:
        raise MediaError(
            f"{shown(path)} is {seconds:.0f} s long; the limit is {limit:.0f} s. "
            "Trim it and try again."
        )


def _checked(indices: Sequence[int] | Numbers, num_frames: int) -> Numbers:
    asked = np.asarray(indices, np.int64)
    if asked.ndim != 1 or not len(asked):
        raise InputError("No frames were asked for. Ask for at least one.")
    if asked.min() < 0 or asked.max() >= num_frames:
        raise InputError(
            f"Frame numbers must be within 0..{num_frames - 1} "
            f"but got {asked.min()}..{asked.max()}. Choose others."
        )
    return asked


def _checked_size(size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is not None and not all(1 <= each <= 8192 for each in size):
        raise InputError(
            f"A frame's height and width must be within 1..8192 but got {size[0]} x {size[1]}."
        )
    return size


def _check_memory(num_frames: int, size: tuple[int, int]) -> None:
    needed = num_frames * size[0] * size[1] * 3 / 1e9
    if needed > MAX_FRAMES_GB:
        raise MemoryLimitError(
            f"{num_frames} frames of {size[1]} x {size[0]} need {needed:.1f} GB; the limit is "
            f"{MAX_FRAMES_GB:.0f} GB. Ask for fewer frames or a smaller size."
        )


def _reporting(
    on_progress: Callable[[int, int], None] | None, done: np.ndarray[Any, np.dtype[np.bool_]]
) -> Callable[[int], None]:
    """Return what tells the caller how many frames are done, where something has happened."""
    told = [(-1, -1)]

    def report(num_packets: int) -> None:
        at = (num_packets, int(done.sum()))
        if on_progress is not None and at != told[0]:
            told[0] = at
            on_progress(at[1], len(done))

    return report


def _nothing_left(path: Path, num_frames: int) -> str:
    what = f"none of its {num_frames} frames" if num_frames != 1 else "not even its only frame"
    if not num_frames:
        what = "not one frame"
    return (
        f"{shown(path)} is damaged: {what} could be read. "
        "Save or upload it again, or choose another video."
    )
