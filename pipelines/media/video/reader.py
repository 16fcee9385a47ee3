"""Reader of single frames of a video in this process."""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.media.video.container import (
    check_file,
    check_length,
    check_memory,
    checked_numbers,
    checked_order,
    checked_size,
    no_frames_error,
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
from pipelines.media.video.index import VideoIndex, index_of

#: Seconds between two checks of the caller's token, and between two reports of progress.
POLL_S = 0.05

#: Minimum number of packets from keyframe to last wanted frame for several threads.
_LONG_GROUP = 48


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads_for(group: Group, threads: int) -> int:
    return threads if int(group.wanted[-1]) - group.start >= _LONG_GROUP else 1


class FrameDecoderPool:
    """Decoders of one video, created on demand; `only` is the single one of decord."""

    def __init__(self, path: Path, index: VideoIndex, only: DecordDecoder | None) -> None:
        self._path, self._index, self._lock = path, index, Lock()
        self._idle: list[FrameDecoder | DecordDecoder] = [] if only is None else [only]
        self.limit = None if only is None else 1

    @contextmanager
    def lease(self) -> Iterator[FrameDecoder | DecordDecoder]:
        """Lease a decoder; it reopens the file after an error."""
        with self._lock:
            decoder = self._idle.pop() if self._idle else FrameDecoder(self._path, self._index)
        try:
            yield decoder
        except BaseException:
            decoder.close()
            raise
        finally:
            with self._lock:
                self._idle.append(decoder)

    def close(self) -> None:
        """Close the files of all decoders; they reopen them on demand."""
        with self._lock:
            for decoder in self._idle:
                decoder.close()


class ParallelDecoding:
    """Decoding of groups by a pool on at most `threads` cores; `take` receives the frames."""

    def __init__(
        self, pool: FrameDecoderPool, groups: list[Group], take: Take, threads: int
    ) -> None:
        self._pool, self._todo, self._take = pool, deque(groups), take
        self._num_workers = max(1, min(pool.limit or threads, threads, len(groups)))
        self._threads_each = max(1, threads // self._num_workers)
        self._end, self._packet_end = CancelToken(), CancelToken(self._count_packet)
        self._num_packets = 0

    def run(self, cancel: CancelToken, report: Callable[[int], None]) -> set[int]:
        """Decode all groups and return the lost packets.

        Every 50 ms, in the caller's thread, `cancel` is checked and `report` is called with the
        number of decoded packets.

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
        lost: set[int] = set()
        with self._pool.lease() as decoder:
            while not self._end.is_cancelled:
                try:
                    group = self._todo.popleft()
                except IndexError:
                    break
                threads = _threads_for(group, self._threads_each)
                lost.update(decoder.run(group, threads, self._take, self._packet_end).tolist())
        return lost

    def _count_packet(self) -> bool:
        self._num_packets += 1
        return self._end.is_cancelled


#: Number of positions in a damaged file that are tried for a readable frame.
_NUM_TRIES = 12


class VideoReader:
    """Reader of video frames by number or time; to be closed, or used in a `with` block.

    `times_s` are the presentation times of all frames, see `pipelines.media.video.times`.
    """

    def __init__(
        self, path: Path, *, max_seconds: float = 0.0, cancel: CancelToken = NEVER
    ) -> None:
        """List the frames of a video and decode one of them.

        Raises:
            MediaError: not a video, unreadable, or longer than `max_seconds` (0.0: no limit).
            Cancelled: `cancel` is cancelled.
        """
        self._path = path
        only = None
        check_file(path)
        try:
            with open_container(path) as container:
                self._index = index_of(container, path, cancel)
        except (av.FFmpegError, ValueError) as error:
            opened = open_with_decord(path)
            if opened is None:
                raise unreadable(path) from error
            self._index, only = opened
        check_length(path, self._index.duration_s, max_seconds)
        self._pool = FrameDecoderPool(path, self._index, only)
        self._rotation, self._source = self._frame_geometry(cancel)
        self.times_s = self._index.times_s
        self.info = _info(self._index, self._rotation, self._source)

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the next read reopens it."""
        self._pool.close()

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
            indices: frame numbers 0 ≤ i < num_frames in any order, repetitions allowed.
            size: (height, width) of the result; None keeps the display size.
            fit: resizing to `size`: "squash", "cover" (crop) or "contain" (black bars).
            threads: maximum number of threads; 0 for one per core.
            cancel: checked every 50 ms in the caller's thread.
            on_progress: called in the caller's thread with (frames read, frames requested), also
                as long as packets are decoded without a requested frame.

        Raises:
            InputError: no number, a number out of range, or a size out of range.
            MediaError: none of the frames can be read.
            MemoryLimitError: the frames exceed `MAX_FRAMES_GB`.
            Cancelled: `cancel` is cancelled.
        """
        asked = checked_numbers(indices, self.info.num_frames)
        framing = Framing.fitting(self._source, checked_size(size), fit, self._rotation)
        check_memory(len(asked), framing.size)
        frames = self._read(asked, _Options(framing, threads, cancel, on_progress))
        if frames.num_lost == frames.num_asked:
            raise no_frames_error(self._path, frames.num_asked)
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
        """Read any number of frames in parts, decoding each packet once.

        `indices` ascend; the other arguments are those of `frames_at`, but `cancel` is also checked
        at every packet.

        Yields:
            Parts of 1 to `at_once` requested frames in order; in a damaged video all of them may
            be lost.

        Raises:
            InputError: no number, a number out of range or order, or a size out of range.
            MemoryLimitError: the frames of a part exceed `MAX_FRAMES_GB`.
            Cancelled: `cancel` is cancelled.
        """
        asked = checked_order(checked_numbers(indices, self.info.num_frames), at_once)
        framing = Framing.fitting(self._source, checked_size(size), fit, self._rotation)
        check_memory(min(at_once, len(asked)), framing.size)
        read = 0

        def report(done: int, _: int) -> None:
            if on_progress is not None:
                on_progress(read + done, len(asked))

        options = _Options(framing, threads, cancel, report)
        for piece in pieces_of(self._index.starts[asked], at_once):
            with closing(self._piece(asked[piece], at_once, options)) as parts:
                for frames in parts:
                    read += frames.num_asked
                    yield frames
                    del frames

    def _piece(
        self, asked: Numbers, at_once: int, options: "_Options"
    ) -> Generator[VideoFrames, None, None]:
        """Yield the frames of several groups together, or of one long group in parts."""
        read = 0
        if len(asked) > at_once and not self._pool.limit:  # decord continues where it stopped
            with closing(self._group(asked, at_once, options)) as parts:
                for frames in parts:
                    read += frames.num_asked
                    yield frames
                    del frames  # not held while the next part is decoded
        for start in range(read, len(asked), at_once):
            yield self._read(asked[start : start + at_once], options)

    def _group(
        self, asked: Numbers, at_once: int, options: "_Options"
    ) -> Generator[VideoFrames, None, None]:
        """Yield the frames of one group during its decoding, as far as their order is right."""
        (group,) = groups_of(self._index, asked)
        threads = _threads_for(group, options.threads or num_cores())
        with self._pool.lease() as decoder:
            assert isinstance(decoder, FrameDecoder)  # decord's pool has a limit
            reading = SequentialReading(decoder, group, self._index.ranks())
            decoded = reading.frames(threads, _reporting_token(options))
            for start in range(0, len(asked), at_once):
                part = asked[start : start + at_once]
                frames = self._painted(decoded, decoder, part, options.framing)
                if frames.num_asked:
                    yield frames
                if frames.num_asked < len(part):
                    return
                del frames

    def _painted(
        self, decoded: Iterator[Any], decoder: FrameDecoder, asked: Numbers, framing: Framing
    ) -> VideoFrames:
        pixels = np.zeros((len(asked), *framing.size, 3), np.uint8)
        intact = np.zeros(len(asked), np.bool_)
        num = 0
        for frame in islice(decoded, len(asked)):
            if frame is not None:
                framing.paint(frame, decoder.reformatter, pixels[num])
                intact[num] = True
            num += 1
        lost = np.flatnonzero(~intact[:num])
        return self._gathered(pixels[:num], asked[:num], np.arange(num), lost)

    def _read(self, asked: Numbers, options: "_Options") -> VideoFrames:
        frames, rows = np.unique(asked, return_inverse=True)
        pixels = np.zeros((len(frames), *options.framing.size, 3), np.uint8)
        row_of = {int(packet): row for row, packet in enumerate(self._index.packets[frames])}
        done = np.zeros(len(frames), np.bool_)

        def take(packet: int, frame: Any, reformatter: VideoReformatter) -> None:
            options.framing.paint(frame, reformatter, pixels[row_of[packet]])
            done[row_of[packet]] = True

        groups, threads = groups_of(self._index, frames), options.threads or num_cores()
        decoding = ParallelDecoding(self._pool, groups, take, threads)
        lost_packets = decoding.run(options.cancel, _reporting(options.on_progress, done))
        lost = np.array(sorted(row_of[packet] for packet in lost_packets), np.int64)
        return self._gathered(pixels, asked, rows, lost)

    def _gathered(
        self, pixels: Pixels, asked: Numbers, rows: Numbers, lost: Numbers
    ) -> VideoFrames:
        """Return the requested frames, whose `rows` are those of `pixels`, without lost rows."""
        kept = ~np.isin(rows, lost)
        complete = kept.all() and np.array_equal(rows, np.arange(len(pixels)))
        return VideoFrames(
            pixels=pixels if complete else pixels[rows[kept]],
            indices=asked[kept],
            times_s=self.times_s[asked[kept]],
            lost=tuple(np.unique(asked)[lost].tolist()),
            num_asked=len(pixels),
        )

    def frames_at_times(
        self, times_s: Sequence[float] | Times, size: tuple[int, int] | None = None, **options: Any
    ) -> VideoFrames:
        """Read the frame shown at each time; `options` are those of `frames_at`."""
        return self.frames_at(indices_at(self.times_s, times_s), size, **options)

    def _frame_geometry(self, cancel: CancelToken) -> tuple[Rotation, tuple[int, int]]:
        found: list[tuple[Rotation, tuple[int, int]]] = []

        def take(packet: int, frame: Any, reformatter: VideoReformatter) -> None:
            rotation = Rotation.of(frame)
            aspect = self._index.pixel_aspect
            found.append((rotation, display_size(frame.width, frame.height, aspect, rotation)))

        _, firsts = np.unique(self._index.starts, return_index=True)
        for place in np.unique(np.linspace(0, len(firsts) - 1, _NUM_TRIES).astype(int)):
            if not len(firsts):
                break
            group = groups_of(self._index, firsts[place : place + 1])[0]
            with self._pool.lease() as decoder:
                decoder.run(group, 1, take, cancel)
            if found:
                return found[0]
        self.close()
        raise no_frames_error(self._path, len(self._index.packets))


@dataclass(frozen=True)
class _Options:
    framing: Framing
    threads: int
    cancel: CancelToken
    on_progress: Callable[[int, int], None] | None


def _info(index: VideoIndex, rotation: Rotation, source: tuple[int, int]) -> VideoInfo:
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
        rotation_deg=rotation.rotation_deg,
        width_px=source[1],
        height_px=source[0],
        codec=index.codec,
        variable_rate=bool(uneven),
        num_mended=index.num_mended,
    )


def _reporting(
    on_progress: Callable[[int, int], None] | None, done: np.ndarray[Any, np.dtype[np.bool_]]
) -> Callable[[int], None]:
    """Return a function that reports progress if packets were decoded since its last call."""
    last = [(-1, -1)]

    def report(num_packets: int) -> None:
        state = (num_packets, int(done.sum()))
        if on_progress is not None and state != last[0]:
            last[0] = state
            on_progress(state[1], len(done))

    return report


def _reporting_token(options: _Options) -> CancelToken:
    """Return a token for checks at every packet, which report progress every `POLL_S`."""
    last = [time.monotonic()]

    def condition() -> bool:
        if time.monotonic() - last[0] > POLL_S and options.on_progress is not None:
            last[0] = time.monotonic()
            options.on_progress(0, 0)
        return options.cancel.is_cancelled

    return CancelToken(condition)
