"""Encoding of videos as unit vectors of their windows, in bounded memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipelines.compute.lru import FileDigests, LruCache, SharedCache
from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.messages import Message
from pipelines.core.options import SquareFit, check_fit
from pipelines.media.video.frames import VideoInfo, indices_between
from pipelines.media.video.open import open_video
from pipelines.media.video.reader import VideoReader, num_cores
from pipelines.models.notes import lost_frames_notes
from pipelines.models.viclip.processing_viclip import Pixels, ViClipProcessor, fit_frames
from pipelines.models.viclip.windows import (
    MAX_WINDOWS,
    SearchOptions,
    Values,
    check_number,
    clip_indices,
    windows_over,
)

#: Most bytes of decoded and resized frames at once, but at least a frame per core; and most frames
#: that are resized at once.
DECODED_BYTES = 16_000_000
RESIZED_AT_ONCE = 8

#: Latest time in a video, in seconds.
MAX_TIME_S = 1e6

#: Cache sizes: windows of plans, and files with digests or unreadable frames. One request fits.
WINDOWS_KEPT = 2 * MAX_WINDOWS
FILES_KEPT = MAX_WINDOWS

#: Cache size for the vectors of windows: more than the longest search needs.
VIDEO_VECTOR_BYTES = 128_000_000


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """N windows over the video with this content digest, and their (N, T) frames.

    `fit` is how frames are made square, None for the model's own way. The video starts with its
    first frame and ends when its last one ends. `notes` are on the times of its frames.
    """

    digest: str
    starts_s: Values
    ends_s: Values
    indices: np.ndarray
    video_start_s: float
    video_end_s: float
    fit: SquareFit | None = None
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> list[str]:
        """Cache key of each window."""
        start = f"{self.digest}:{self.fit}:" if self.fit else f"{self.digest}:"
        return [start + ",".join(map(str, row)) for row in self.indices.tolist()]

    def between(self, first: int, end: int) -> "WindowPlan":
        """Return the plan of the windows from `first` to `end`, exclusive."""
        rows = slice(first, end)
        return replace(
            self,
            starts_s=self.starts_s[rows],
            ends_s=self.ends_s[rows],
            indices=self.indices[rows],
        )


class LostFrames:
    """Known unreadable frames of files."""

    def __init__(self) -> None:
        self._known: LruCache[str, set[int]] = LruCache(FILES_KEPT)

    def of(self, digest: str) -> set[int]:
        """Return the mutable set of frame numbers of a file."""
        return self._known.get_or_compute(digest, set)

    def snapshot(self) -> dict[tuple[str, int], bool]:
        """Return all known frames."""
        known = self._known.snapshot()
        return {(digest, number): True for digest, lost in known.items() for number in [*lost]}

    def update(self, values: Mapping[tuple[str, int], bool]) -> None:
        """Add frames from another process."""
        for digest, number in values:
            self.of(digest).add(number)

    def enter_worker(self, kind: str) -> None:
        """Do nothing: the numbers are valid in any process."""


class VideoEncoder:
    """Video encoder of a model: decoding, batches, and a cache.

    The cache key of a window is the file's content and the window's frames, so that windows of
    different strides on the same frames share it. The vector of an unreadable window is 0.
    """

    def __init__(
        self,
        embed: Callable[[list[Pixels]], torch.Tensor],
        processor: ViClipProcessor,
        *,
        dim: int,
        clips_per_batch: int,
        max_seconds: float,
    ) -> None:
        """Use `embed`, (N clips) -> (N, dim)."""
        self._embed = embed
        self._processor = processor
        self._kept: LruCache[str, torch.Tensor] = LruCache(
            VIDEO_VECTOR_BYTES, lambda vector: vector.nbytes
        )
        self._dim = dim
        self._clips_per_batch = clips_per_batch
        self._max_seconds = max_seconds
        self._plans: LruCache[tuple[str, float, float], WindowPlan] = LruCache(
            WINDOWS_KEPT, weigh=lambda plan: len(plan.indices)
        )
        self._digests = FileDigests(FILES_KEPT)
        self._lost = LostFrames()

    @property
    def caches(self) -> tuple[SharedCache, ...]:
        """Caches of window vectors and of unreadable frames."""
        return self._kept, self._lost

    def open(self, path: Path, cancel: CancelToken = NEVER) -> VideoReader:
        """Open a video that is not too long."""
        return open_video(path, max_seconds=self._max_seconds, cancel=cancel)

    def plan(self, path: Path, options: SearchOptions, cancel: CancelToken = NEVER) -> WindowPlan:
        """Return the windows over a video.

        Raises:
            MediaError: it is unreadable or too long.
            InputError: it has too many windows.
        """
        digest = self._digests.of(path)

        def make() -> WindowPlan:
            with self.open(path, cancel) as reader:
                info = reader.info
                starts, ends = windows_over(info.duration_s, options)
                starts, ends = starts + info.start_s, ends + info.start_s
                indices = clip_indices(reader.times_s, starts, ends, self._processor.num_frames)
            return WindowPlan(
                digest, starts, ends, indices, info.start_s, info.end_s, notes=_time_notes(info)
            )

        plan = self._plans.get_or_compute((digest, options.window_s, options.stride_s), make)
        return replace(plan, fit=self._special_fit(options.fit))

    def prepare(self, path: Path, plan: WindowPlan, cancel: CancelToken = NEVER) -> Iterator[int]:
        """Compute and cache the missing vectors of a plan.

        Yields:
            The number of finished windows, after each batch; nothing if none is missing.
        """
        todo = self._kept.missing(plan.keys)
        for done in self._compute(path, plan, todo, cancel):
            yield len(plan.indices) - len(todo) + done

    def in_order(
        self, path: Path, plan: WindowPlan, first: int
    ) -> Iterator[tuple[WindowPlan, torch.Tensor]]:
        """Compute the missing vectors of a plan and yield all windows in order from `first`.

        Yields:
            After each batch the plan of the newly finished windows, possibly empty, and their
            (N, D) vectors; see `vectors`.
        """
        rest = plan.between(first, len(plan.indices))
        todo = self._kept.missing(rest.keys)
        begin = 0
        for done in self._compute(path, rest, todo, NEVER):
            end = todo[done] if done < len(todo) else len(rest.indices)
            some = rest.between(begin, end)
            yield some, self.vectors(path, some)
            begin = end
        if not todo:
            yield rest, self.vectors(path, rest)

    def _compute(
        self, path: Path, plan: WindowPlan, todo: list[int], cancel: CancelToken
    ) -> Iterator[int]:
        """Compute and cache vectors of windows; yield the number so far after each batch."""
        if not todo:
            return
        keys = plan.keys
        with self.open(path, cancel) as reader:
            done = 0
            clips = self._clips(reader, plan, todo, cancel)
            for batch in _batched(clips, self._clips_per_batch):
                part = [keys[row] for row in todo[done : done + len(batch)]]
                self._kept.update(dict(zip(part, self._vectors(batch), strict=True)))
                done += len(batch)
                yield done

    def vectors(self, path: Path, plan: WindowPlan, cancel: CancelToken = NEVER) -> torch.Tensor:
        """Return the (N, D) unit vectors of a plan's windows; 0 for an unreadable one."""

        def compute(rows: list[int]) -> list[torch.Tensor]:
            with self.open(path, cancel) as reader:
                clips = self._clips(reader, plan, rows, cancel)
                batches = [self._vectors(b) for b in _batched(clips, self._clips_per_batch)]
            return [vector for batch in batches for vector in batch]

        if not len(plan.indices):
            return torch.empty(0, self._dim, dtype=torch.float32)
        return torch.stack(self._kept.get_many(plan.keys, compute))

    def lost(self, plan: WindowPlan) -> frozenset[int]:
        """Return the known unreadable frames of a plan."""
        return frozenset(np.unique(plan.indices).tolist()) & self._lost.of(plan.digest)

    def frame_notes(self, plan: WindowPlan) -> list[str]:
        """Return notes on mended times of a video and on unreadable frames of a plan."""
        lost = lost_frames_notes(len(self.lost(plan)), len(np.unique(plan.indices)))
        return [*plan.notes, *lost]

    def part(
        self,
        path: Path,
        start_s: float,
        end_s: float,
        cancel: CancelToken = NEVER,
        fit: str = "",
    ) -> tuple[WindowPlan, tuple[float, ...], list[str]]:
        """Return a plan with one window, its frames' times, and notes.

        Raises:
            MediaError: the video is unreadable or too long.
            InputError: the part is not in the video.
        """
        check_number(start_s, "start_s", 0.0, MAX_TIME_S, unit=" s")
        check_number(end_s, "end_s", 0.0, MAX_TIME_S, unit=" s")
        with self.open(path, cancel) as reader:
            info, times = reader.info, reader.times_s
        indices_between(times, start_s, end_s)  # checks the range
        end = np.array([min(end_s or info.end_s, info.end_s)])
        start = np.minimum(max(start_s, info.start_s), end)
        indices = clip_indices(times, start, end, self._processor.num_frames)
        digest = self._digests.of(path)
        square = self._special_fit(fit)
        plan = WindowPlan(
            digest, start, end, indices, info.start_s, info.end_s, square, _time_notes(info)
        )
        frames = np.unique(indices)
        notes: list[str] = []
        if end_s > info.end_s + 0.5:
            notes.append(
                Message("The video ends at {end:.1f} s: the part ends there.", end=info.end_s)
            )
        if len(frames) < indices.shape[1]:
            what = (
                Message("one frame")
                if len(frames) == 1
                else Message("{count} frames", count=len(frames))
            )
            notes.append(
                Message(
                    "This part has only {what}, so little or no motion can be seen in it.",
                    what=what,
                )
            )
        return plan, tuple(times[frames].tolist()), notes

    def _special_fit(self, fit: str) -> SquareFit | None:
        """Return `fit` as a `SquareFit`, None if it is the model's own."""
        square = check_fit(fit)
        return None if square == self._processor.fit else square

    def _vectors(self, clips: list[Pixels | None]) -> list[torch.Tensor]:
        vectors = torch.zeros(len(clips), self._dim, dtype=torch.float32)
        readable = [row for row, clip in enumerate(clips) if clip is not None]
        if readable:
            vectors[readable] = self._embed([clip for clip in clips if clip is not None])
        return [vector.clone() for vector in vectors]  # a view would keep the whole batch

    def _clips(
        self, reader: VideoReader, plan: WindowPlan, rows: list[int], cancel: CancelToken
    ) -> Iterator[Pixels | None]:
        """Yield each window's frames for the model; None if all are unreadable.

        Frames are decoded once, in order, few at a time, and dropped after their last window. An
        unreadable frame is replaced by the nearest of its window.
        """
        held: dict[int, Pixels] = {}
        windows = plan.indices[rows]
        parts = self._parts(reader, np.unique(windows), plan, cancel)
        read = -1
        for row, window in enumerate(windows):
            cancel.check()
            while read < window[-1]:
                read, frames = next(parts)
                held |= frames
            readable = np.array([index for index in np.unique(window) if index in held])
            if len(readable):
                nearest = readable[np.abs(readable[None, :] - window[:, None]).argmin(axis=1)]
                yield np.stack([held[int(index)] for index in nearest])
            else:
                yield None
            if row + 1 < len(windows):
                held = {i: frame for i, frame in held.items() if i >= windows[row + 1, 0]}

    def _parts(
        self, reader: VideoReader, wanted: np.ndarray, plan: WindowPlan, cancel: CancelToken
    ) -> Iterator[tuple[int, dict[int, Pixels]]]:
        """Yield resized frames by number, part by part, each with the last number read."""
        side, fit = self._processor.image_size, plan.fit or self._processor.fit
        lost = self._lost.of(plan.digest)
        pixels = reader.info.height_px * reader.info.width_px + side**2
        at_once = max(num_cores(), DECODED_BYTES // (3 * pixels))
        for frames in reader.frames_in_order(wanted, at_once=at_once, cancel=cancel):
            lost.update(frames.lost)
            small: dict[int, Pixels] = {}
            for start in range(0, len(frames.indices), RESIZED_AT_ONCE):
                cancel.check()
                part = slice(start, start + RESIZED_AT_ONCE)
                fitted = fit_frames(frames.pixels[part], side, fit)
                small.update(zip(frames.indices[part].tolist(), fitted, strict=True))
            read = frames.highest
            del frames  # free memory before the model encodes
            yield read, small


def _batched(clips: Iterator[Pixels | None], size: int) -> Iterator[list[Pixels | None]]:
    batch: list[Pixels | None] = []
    for clip in clips:
        batch.append(clip)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _time_notes(info: VideoInfo) -> tuple[str, ...]:
    return (info.notice,) if info.notice else ()
