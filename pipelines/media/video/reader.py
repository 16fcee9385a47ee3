"""Read exactly the frames of a video that are asked for, in this process."""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.media.video.container import (
    announced_s,
    check_file,
    check_length,
    check_memory,
    checked_numbers,
    checked_order,
    checked_size,
    nothing_left,
    open_container,
    unreadable,
)
from pipelines.media.video.decoder import (
    DecordDecoder,
    FrameDecoder,
    Group,
    SequentialReading,
    Take,
    groups_of,
    open_with_decord,
    pieces_of,
)
from pipelines.media.video.frames import (
    Fit,
    Framing,
    Numbers,
    Pixels,
    Rotation,
    Times,
    VideoFrames,
    VideoInfo,
    display_size,
    indices_at,
)
from pipelines.media.video.index import VideoIndex, build_index

#: Seconds between two checks of the caller's token, and between two reports of progress.
POLL_S = 0.05

#: From so many packets between keyframe and last wanted frame on, one group is worth two threads.
_LONG_GROUP = 48


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(group: Group, threads: int) -> int:
    """Return with how many threads, at most so many, a group is decoded best."""
    return threads if int(group.wanted[-1]) - group.start >= _LONG_GROUP else 1


class ReaderPool:
    """The workers of one video: opened when they are needed, kept for the next request."""

    def __init__(self, path: Path, index: VideoIndex, only: DecordDecoder | None) -> None:
        """Remember the file; with `only` there is this one worker and never another."""
        self._path, self._index, self._lock = path, index, Lock()
        self._idle: list[FrameDecoder | DecordDecoder] = [] if only is None else [only]
        self.limit = None if only is None else 1

    @contextmanager
    def one(self) -> Iterator[FrameDecoder | DecordDecoder]:
        """Lend a worker that no other thread uses; after an error it opens the file anew."""
        with self._lock:
            worker = self._idle.pop() if self._idle else FrameDecoder(self._path, self._index)
        try:
            yield worker
        except BaseException:
            worker.close()
            raise
        finally:
            with self._lock:
                self._idle.append(worker)

    def close(self) -> None:
        """Close every copy; it is opened again when it is needed again."""
        with self._lock:
            for worker in self._idle:
                worker.close()


class FrameRun:
    """The groups of one request, decoded by several threads."""

    def __init__(self, crew: ReaderPool, groups: list[Group], take: Take, threads: int) -> None:
        """Plan to decode `groups`, on at most `threads` cores, giving each frame to `take`."""
        self._crew, self._todo, self._take = crew, deque(groups), take
        self._num_workers = max(1, min(crew.limit or threads, threads, len(groups)))
        self._threads_each = max(1, threads // self._num_workers)
        self._end, self._packet_end = CancelToken(), CancelToken(self._count_packet)
        self._num_packets = 0

    def all(self, cancel: CancelToken, report: Callable[[int], None]) -> set[int]:
        """Decode every group; checks `cancel` and reports in the caller's thread.

        Args:
            cancel: checked every 50 ms.
            report: called as often, with a number that grows as packets are decoded: while the
                threads hang it stays the same.

        Returns:
            The packets that are lost.

        Raises:
            Cancelled: `cancel` is cancelled.
        """
        with ThreadPoolExecutor(self._num_workers) as pool:
            try:
                jobs = {pool.submit(self._work) for _ in range(self._num_workers)}
                left = jobs
                while left:
                    ended, left = wait(left, timeout=POLL_S)
                    for job in ended:
                        job.result()
                    cancel.check()
                    report(self._num_packets)
            finally:
                self._end.cancel()
        return set().union(*(job.result() for job in jobs))

    def _work(self) -> set[int]:
        """Decode groups until none is left; returns their lost packets."""
        lost: set[int] = set()
        with self._crew.one() as worker:
            while not self._end.is_cancelled:
                try:
                    group = self._todo.popleft()
                except IndexError:
                    break
                threads = threads_for(group, self._threads_each)
                lost.update(worker.run(group, threads, self._take, self._packet_end).tolist())
        return lost

    def _count_packet(self) -> bool:
        """Count a packet, before which the token is checked; return whether the run has ended."""
        self._num_packets += 1
        return self._end.is_cancelled


#: How many places of a damaged file are tried for a frame that shows what it looks like.
_NUM_TRIES = 12


class VideoReader:
    """A video file whose frames can be read by number or by time; to be closed, or used by `with`.

    Attributes:
        info: what the video is.
        times_s: when each frame appears on a player's clock; see `pipelines.media.video.index`.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_seconds: float = 0.0,
        cancel: CancelToken = NEVER,
    ) -> None:
        """List the frames of a video; decodes no more than one of them.

        Args:
            path: the file.
            max_seconds: longest video that is taken; 0.0 takes any.
            cancel: ends the work with `Cancelled`.

        Raises:
            MediaError: not a video, damaged beyond use, or too long.
            Cancelled: `cancel` is cancelled.
        """
        self._path = path
        only = None
        check_file(path)
        try:
            with open_container(path) as container:
                check_length(path, announced_s(container), max_seconds)
            self._index = build_index(path, cancel)
        except (av.FFmpegError, ValueError) as error:
            opened = open_with_decord(path)
            if opened is None:
                raise unreadable(path) from error
            self._index, only = opened
        check_length(path, self._index.duration_s, max_seconds)
        self._crew = ReaderPool(path, self._index, only)
        self._turn, self._source = self._look(cancel)
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
        cancel: CancelToken = NEVER,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> VideoFrames:
        """Read frames by number.

        Args:
            indices: frame numbers 0 ≤ i < num_frames, in any order; one may be there twice.
            size: (height, width) of the result; None keeps the display size.
            fit: how a frame fills `size`: "squash", "cover" (cut off) or "contain" (black bars).
            threads: most threads; 0 takes one per core.
            cancel: checked every 50 ms in the caller's thread.
            on_progress: called in the caller's thread with (frames read, frames wanted), as long
                as packets are decoded; some frames take many of them.

        Raises:
            InputError: a number that does not exist, none at all, or an impossible size.
            MediaError: none of the frames can be read.
            MemoryLimitError: the frames would take more than `MAX_FRAMES_GB`.
            Cancelled: `cancel` is cancelled.
        """
        asked = checked_numbers(indices, self.info.num_frames)
        framing = Framing.fitting(self._source, checked_size(size), fit, self._turn)
        check_memory(len(asked), framing.size)
        read = self._read(asked, framing, threads, cancel, on_progress)
        if read.num_lost == read.num_asked:
            raise nothing_left(self._path, read.num_asked)
        return read

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
        """Read frames one part after the other, however many; what lies between is decoded once.

        Reading the same parts by `frames_at` would begin anew at the last keyframe for each.

        Args:
            indices: ascending frame numbers 0 ≤ i < num_frames.
            size: as for `frames_at`.
            fit: as for `frames_at`.
            at_once: most frames of a part, which are in memory together.
            threads: as for `frames_at`.
            cancel: checked every 50 ms, or at every packet, in the caller's thread.
            on_progress: as for `frames_at`, while a part is waited for.

        Yields:
            Parts of 1 to `at_once` frames in order. Where the video is damaged a part may hold no
            frame at all: `lost` tells which they were.

        Raises:
            InputError: a number that does not exist, none at all, not ascending, or an impossible
                size.
            MemoryLimitError: the frames of a part would take too much.
            Cancelled: `cancel` is cancelled.
        """
        asked = checked_order(checked_numbers(indices, self.info.num_frames), at_once)
        framing = Framing.fitting(self._source, checked_size(size), fit, self._turn)
        check_memory(min(at_once, len(asked)), framing.size)
        read = 0

        def report(done: int, _: int) -> None:
            if on_progress is not None:
                on_progress(read + done, len(asked))

        for piece in pieces_of(self._index.starts[asked], at_once):
            parts = self._piece(asked[piece], framing, at_once, threads, cancel, report)
            with closing(parts):
                for frames in parts:
                    read += frames.num_asked
                    yield frames
                    del frames

    def _piece(
        self,
        asked: Numbers,
        framing: Framing,
        at_once: int,
        threads: int,
        cancel: CancelToken,
        report: Callable[[int, int], None],
    ) -> Generator[VideoFrames, None, None]:
        """Yield frames of some groups together, or of one long group part by part."""
        if len(asked) > at_once and not self._crew.limit:
            yield from self._group(
                asked, framing, at_once, threads, _reporting_token(cancel, report)
            )
            return
        for start in range(0, len(asked), at_once):  # decord goes on where it stopped
            yield self._read(asked[start : start + at_once], framing, threads, cancel, report)

    def _group(
        self,
        asked: Numbers,
        framing: Framing,
        at_once: int,
        threads: int,
        cancel: CancelToken,
    ) -> Iterator[VideoFrames]:
        """Yield frames of one group of pictures while it is decoded, in this thread."""
        (group,) = groups_of(self._index, asked)
        threads = threads_for(group, threads or num_cores())
        with self._crew.one() as worker:
            assert isinstance(worker, FrameDecoder)  # decord's is never asked for this
            decoded = SequentialReading(worker, group, self._index.ranks()).frames(threads, cancel)
            read = 0
            while read < len(asked):
                frames = self._painted(decoded, worker, asked[read : read + at_once], framing)
                if not frames.num_asked:
                    break
                read += frames.num_asked
                yield frames
                del frames  # not held while the next part is decoded
        for start in range(read, len(asked), at_once):  # times and pictures in different orders
            yield self._read(asked[start : start + at_once], framing, threads, cancel, None)

    def _painted(
        self, decoded: Iterator[Any], worker: FrameDecoder, asked: Numbers, framing: Framing
    ) -> VideoFrames:
        """Return the next frames of a group, which are those asked for or the first of them."""
        pixels = np.zeros((len(asked), *framing.size, 3), np.uint8)
        whole = np.zeros(len(asked), np.bool_)
        num = 0
        for frame in islice(decoded, len(asked)):
            if frame is not None:
                framing.paint(frame, worker.reformatter, pixels[num])
                whole[num] = True
            num += 1
        lost = np.flatnonzero(~whole[:num])
        return self._gathered(pixels[:num], asked[:num], np.arange(num), lost)

    def _read(
        self,
        asked: Numbers,
        framing: Framing,
        threads: int,
        cancel: CancelToken,
        on_progress: Callable[[int, int], None] | None,
    ) -> VideoFrames:
        """Read frames by number, several groups of pictures at a time."""
        frames, places = np.unique(asked, return_inverse=True)
        pixels = np.zeros((len(frames), *framing.size, 3), np.uint8)
        rows = {int(packet): row for row, packet in enumerate(self._index.packets[frames])}
        done = np.zeros(len(frames), np.bool_)

        def take(packet: int, frame: Any, reformatter: VideoReformatter) -> None:
            framing.paint(frame, reformatter, pixels[rows[packet]])
            done[rows[packet]] = True

        run = FrameRun(self._crew, groups_of(self._index, frames), take, threads or num_cores())
        lost_packets = run.all(cancel, _reporting(on_progress, done))
        lost = np.array(sorted(rows[packet] for packet in lost_packets), np.int64)
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

    def _look(self, cancel: CancelToken) -> tuple[Rotation, tuple[int, int]]:
        """Decode one frame to learn how frames lie and how large they are."""
        found: list[tuple[Rotation, tuple[int, int]]] = []

        def take(packet: int, frame: Any, reformatter: VideoReformatter) -> None:
            turn = Rotation.of(frame)
            aspect = self._index.pixel_aspect
            found.append((turn, display_size(frame.width, frame.height, aspect, turn)))

        _, firsts = np.unique(self._index.starts, return_index=True)
        for place in np.unique(np.linspace(0, len(firsts) - 1, _NUM_TRIES).astype(int)):
            if not len(firsts):
                break
            group = groups_of(self._index, firsts[place : place + 1])[0]
            with self._crew.one() as worker:
                worker.run(group, 1, take, cancel)
            if found:
                return found[0]
        self.close()
        raise nothing_left(self._path, len(self._index.packets))


def _info(index: VideoIndex, turn: Rotation, source: tuple[int, int]) -> VideoInfo:
    times = index.times_s
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    uneven = np.abs(steps - usual).max(initial=0.0) > max(0.0021, 0.02 * usual)
    span = float(times[-1] - times[0])
    return VideoInfo(
        start_s=float(times[0]),
        duration_s=index.duration_s,
        num_frames=len(times),
        average_fps=len(steps) / span if span > 0 else 0.0,
        rotation_deg=turn.rotation_deg,
        width_px=source[1],
        height_px=source[0],
        codec=index.codec,
        variable_rate=bool(uneven),
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


def _reporting_token(cancel: CancelToken, report: Callable[[int, int], None]) -> CancelToken:
    """Return a token derived from `cancel` whose checks, one a packet, also report progress."""
    told = [time.monotonic()]

    def condition() -> bool:
        if time.monotonic() - told[0] > POLL_S:
            told[0] = time.monotonic()
            report(0, 0)
        return cancel.is_cancelled

    return CancelToken(condition)
