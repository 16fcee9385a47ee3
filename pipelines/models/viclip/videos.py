"""Videos -> unit vectors of their parts, kept by what the file holds, within bounded memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipelines.compute.lru import FileDigests, LruCache, SharedCache
from pipelines.compute.vector_cache import VectorCache
from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.messages import Message
from pipelines.core.options import SquareFit, check_fit
from pipelines.media.video.frames import indices_between
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

#: Bytes of frames, as they are and as the model reads them, that are decoded at once, but a frame
#: for each core though they be larger; frames that are resized at once, which takes whole numbers
#: of 4 bytes several times over.
DECODED_BYTES = 16_000_000
RESIZED_AT_ONCE = 8

#: Latest time in a video that can be asked for.
MAX_TIME_S = 1e6

#: Windows whose plans are remembered, and files whose contents or lost frames are: those of one
#: request always fit.
WINDOWS_KEPT = 2 * MAX_WINDOWS
FILES_KEPT = MAX_WINDOWS


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """The windows over one video.

    Attributes:
        digest: of the file's content.
        starts_s: (N,) starts of the windows.
        ends_s: (N,) their ends.
        indices: (N, T) frames that stand for them.
        fit: how their frames are made square; None for the model's own way.
        video_start_s: when the first frame of the video appears.
        video_end_s: when its last frame ends.
    """

    digest: str
    starts_s: Values
    ends_s: Values
    indices: np.ndarray
    video_start_s: float
    video_end_s: float
    fit: SquareFit | None = None

    @property
    def keys(self) -> list[str]:
        """What the vector of each window is kept under."""
        start = f"{self.digest}:{self.fit}:" if self.fit else f"{self.digest}:"
        return [start + ",".join(map(str, row)) for row in self.indices.tolist()]

    def between(self, first: int, end: int) -> "WindowPlan":
        """Return the plan of the windows from `first` up to and without `end`."""
        rows = slice(first, end)
        return replace(
            self,
            starts_s=self.starts_s[rows],
            ends_s=self.ends_s[rows],
            indices=self.indices[rows],
        )


class LostFrames:
    """Which frames of which files could not be read; see `SharedCache`."""

    def __init__(self) -> None:
        """Know of none yet."""
        self._known: LruCache[str, set[int]] = LruCache(FILES_KEPT)

    def of(self, digest: str) -> set[int]:
        """Return the numbers of the frames of a file, to be added to."""
        return self._known.get_or_compute(digest, set)

    def snapshot(self) -> dict[tuple[str, int], bool]:
        """Return every frame that is known of."""
        known = self._known.snapshot()
        return {(digest, number): True for digest, lost in known.items() for number in [*lost]}

    def update(self, values: Mapping[tuple[str, int], bool]) -> None:
        """Know of frames that another process could not read."""
        for digest, number in values:
            self.of(digest).add(number)

    def enter_worker(self, kind: str) -> None:
        """Be as ready in a forked process."""


class VideoEncoder:
    """The video half of a model: decodes, encodes in batches, keeps what it computed.

    A window is found again by the file's content and its frames, whatever the file is called,
    so windows of another stride that fall on the same frames are shared too. A window none of
    whose frames can be read has the vector 0.
    """

    def __init__(
        self,
        embed: Callable[[list[Pixels]], torch.Tensor],
        processor: ViClipProcessor,
        kept: VectorCache,
        *,
        dim: int,
        clips_per_batch: int,
        max_seconds: float,
    ) -> None:
        """Encode with `embed`, (N clips) -> (N, dim); vectors are kept in `kept`."""
        self._embed = embed
        self._processor = processor
        self._kept = kept
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
        """The vectors of windows, and the frames that could not be read for them."""
        return self._kept, self._lost

    def open(self, path: Path, cancel: CancelToken = NEVER) -> VideoReader:
        """Open a video that is not too long."""
        return open_video(path, max_seconds=self._max_seconds, cancel=cancel)

    def plan(self, path: Path, options: SearchOptions, cancel: CancelToken = NEVER) -> WindowPlan:
        """Return the windows over a video.

        Raises:
            MediaError: it cannot be read, or is too long.
            InputError: it has too many windows.
            Cancelled: `cancel` is cancelled.
        """
        digest = self._digests.of(path)

        def make() -> WindowPlan:
            with self.open(path, cancel) as reader:
                info = reader.info
                starts, ends = windows_over(info.duration_s, options)
                starts, ends = starts + info.start_s, ends + info.start_s
                indices = clip_indices(reader.times_s, starts, ends, self._processor.num_frames)
            return WindowPlan(digest, starts, ends, indices, info.start_s, info.end_s)

        plan = self._plans.get_or_compute((digest, options.window_s, options.stride_s), make)
        return replace(plan, fit=self._unlike_own(options.fit))

    def prepare(self, path: Path, plan: WindowPlan, cancel: CancelToken = NEVER) -> Iterator[int]:
        """Compute and keep the vectors of a plan that are nowhere kept.

        Yields:
            After each batch, the number of windows that are ready; nothing where none is missing.

        Raises:
            Cancelled: `cancel` is cancelled.
        """
        todo = self._kept.missing(plan.keys)
        for done in self._compute(path, plan, todo, cancel):
            yield len(plan.indices) - len(todo) + done

    def in_order(
        self, path: Path, plan: WindowPlan, first: int
    ) -> Iterator[tuple[WindowPlan, torch.Tensor]]:
        """Compute what of a plan is nowhere kept, and yield all of it in order, from `first` on.

        Yields:
            After each batch the plan of the windows that are ready since the last one, of none
            where none is left; and their (N, D) vectors, see `vectors`.
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
        """Compute and keep the vectors of some windows; yields how many, after each batch."""
        if not todo:
            return
        keys = plan.keys
        with self.open(path, cancel) as reader:
            done = 0
            clips = self._clips(reader, plan, todo, cancel)
            for batch in _batched(clips, self._clips_per_batch):
                part = [keys[row] for row in todo[done : done + len(batch)]]
                vectors = self._vectors(batch)
                self._kept.get(part, vectors.__getitem__)
                done += len(batch)
                yield done

    def vectors(self, path: Path, plan: WindowPlan, cancel: CancelToken = NEVER) -> torch.Tensor:
        """Return the (N, D) unit vectors of a plan's windows; 0 for one that cannot be read.

        Raises:
            Cancelled: `cancel` is cancelled.
        """

        def compute(rows: list[int]) -> torch.Tensor:
            with self.open(path, cancel) as reader:
                clips = self._clips(reader, plan, rows, cancel)
                batches = [self._vectors(b) for b in _batched(clips, self._clips_per_batch)]
            return torch.cat(batches)

        if not len(plan.indices):
            return torch.empty(0, self._dim, dtype=torch.float32)
        return self._kept.get(plan.keys, compute)

    def lost(self, plan: WindowPlan) -> frozenset[int]:
        """Return which frames of a plan could not be read, as far as is known."""
        return frozenset(np.unique(plan.indices).tolist()) & self._lost.of(plan.digest)

    def lost_notes(self, plan: WindowPlan) -> list[str]:
        """Return a note where frames of a plan could not be read."""
        return lost_frames_notes(len(self.lost(plan)), len(np.unique(plan.indices)))

    def part(
        self,
        path: Path,
        start_s: float,
        end_s: float,
        cancel: CancelToken = NEVER,
        fit: str = "",
    ) -> tuple[WindowPlan, tuple[float, ...], list[str]]:
        """Return the one window that is a part of a video, its frames' times, and notes.

        Raises:
            MediaError: the video cannot be read, or is too long.
            InputError: the part is not in the video.
            Cancelled: `cancel` is cancelled.
        """
        check_number(start_s, "start_s", 0.0, MAX_TIME_S, unit=" s")
        check_number(end_s, "end_s", 0.0, MAX_TIME_S, unit=" s")
        with self.open(path, cancel) as reader:
            info, times = reader.info, reader.times_s
        indices_between(times, start_s, end_s)  # refuses what is not in the video
        end = np.array([min(end_s or info.end_s, info.end_s)])
        start = np.minimum(max(start_s, info.start_s), end)
        indices = clip_indices(times, start, end, self._processor.num_frames)
        digest = self._digests.of(path)
        square = self._unlike_own(fit)
        plan = WindowPlan(digest, start, end, indices, info.start_s, info.end_s, square)
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

    def _unlike_own(self, fit: str) -> SquareFit | None:
        """Return how frames are made square, None if as the model does it by itself."""
        square = check_fit(fit)
        return None if square == self._processor.fit else square

    def _vectors(self, clips: list[Pixels | None]) -> torch.Tensor:
        vectors = torch.zeros(len(clips), self._dim, dtype=torch.float32)
        readable = [row for row, clip in enumerate(clips) if clip is not None]
        if readable:
            vectors[readable] = self._embed([clip for clip in clips if clip is not None])
        return vectors

    def _clips(
        self, reader: VideoReader, plan: WindowPlan, rows: list[int], cancel: CancelToken
    ) -> Iterator[Pixels | None]:
        """Yield the frames of each window as the model reads them; None where all are lost.

        Frames are decoded once, in order and few at a time, and held no longer than a window
        needs them. A frame that cannot be read is replaced by the nearest of its window.
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
            there = np.array([index for index in np.unique(window) if index in held])
            if len(there):
                nearest = there[np.abs(there[None, :] - window[:, None]).argmin(axis=1)]
                yield np.stack([held[int(index)] for index in nearest])
            else:
                yield None
            if row + 1 < len(windows):
                held = {i: frame for i, frame in held.items() if i >= windows[row + 1, 0]}

    def _parts(
        self, reader: VideoReader, wanted: np.ndarray, plan: WindowPlan, cancel: CancelToken
    ) -> Iterator[tuple[int, dict[int, Pixels]]]:
        """Yield frames as the model reads them, part by part, each with the last number of it."""
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
            del frames  # not held while the model encodes
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
