"""Embeddings of videos, cached by the content of the files."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from pipelines.compute.lru import FileDigests, LruCache
from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.results import Step
from pipelines.media.video.frames import Pixels
from pipelines.media.video.open import open_video
from pipelines.media.video.reader import VideoReader
from pipelines.models.video_chat import MAX_FRAMES, Part
from pipelines.models.videochat_flash.frames import FramePlan, lost_notes, plan_frames, read_clips
from pipelines.models.videochat_flash.modeling_vision import VisualEncoder

#: Seconds between two checks of the token of a waiting thread.
_POLL_S = 0.05

Work = Literal["clip", "prompt token", "answer token"]

#: Weight of the newest measurement.
_NEWEST = 0.4


class ChatRates:
    """Measured seconds of the pieces of work on this machine.

    `token_share` is the cost of a prompt token as a share of that of a clip, by which one rate is
    guessed from the other until it is measured.
    """

    def __init__(self, token_share: float | None = None) -> None:
        self._token_share = token_share
        self._seconds: dict[Work, float] = {}
        self._lock = threading.Lock()

    def note(self, work: Work, number: int, seconds: float) -> None:
        """Record that `number` pieces took `seconds` together."""
        if number < 1:
            return
        each = seconds / number
        with self._lock:
            before = self._seconds.get(work, each)
            self._seconds[work] = before + _NEWEST * (each - before)

    def of(self, work: Work) -> float | None:
        """Return the seconds of one piece; None before the first measurement."""
        return self._seconds.get(work)

    def until_first_word(self, num_clips: int, num_tokens: int) -> float | None:
        """Return the seconds for these clips and prompt tokens; None if a rate is unknown."""
        clip, token = self._seconds.get("clip"), self._seconds.get("prompt token")
        if token is None and clip is not None and self._token_share is not None:
            token = clip * self._token_share
        if (num_clips and clip is None) or token is None:
            return None
        return num_clips * (clip or 0.0) + num_tokens * token


class ClipFeatures(LruCache[str, torch.Tensor]):
    """LRU cache of the (64, D) rows of clips, on the CPU, bounded in bytes; thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, lambda rows: rows.nbytes)
        self._running: dict[str, threading.Event] = {}
        self._choosing = threading.Lock()

    def get_or_encode(
        self, key: str, encode: Callable[[], torch.Tensor], cancel: CancelToken
    ) -> torch.Tensor:
        """Return the rows of a clip, from `encode` if they are not cached.

        A clip that one thread encodes, the others wait for.

        Raises:
            Cancelled: `cancel` is cancelled while another thread encodes the clip.
        """
        while True:
            with self._choosing:
                found = self.get(key)
                if found is not None:
                    return found
                running = self._running.get(key)
                if running is None:
                    mine = self._running[key] = threading.Event()
                    break
            if not running.wait(_POLL_S):
                cancel.check()
        try:
            rows = encode()
            self.put(key, rows)
            return rows
        finally:
            with self._choosing:
                del self._running[key]
            mine.set()


#: Cached plans, and files with unreadable frames.
PLANS_KEPT = 32

#: Most memory of cached thumbnails.
PICTURE_BYTES = 100_000_000


class VideoRows:
    """Frames and embeddings of videos, encoded clip by clip and cached.

    A clip is found by the file's content and its frames, whatever the file's name. `rates` records
    the time of each clip; `max_bytes` bounds cached clips, `max_seconds` and `max_frames` videos.
    """

    def __init__(
        self,
        visual: VisualEncoder,
        rates: ChatRates,
        *,
        max_bytes: int,
        max_seconds: float,
        max_frames: int = MAX_FRAMES,
    ) -> None:
        self._visual = visual
        self._max_frames = max_frames
        self._rates = rates
        self._max_seconds = max_seconds
        self.clips = ClipFeatures(max_bytes)
        self._digests = FileDigests()
        self._plans: LruCache[tuple[str, Part], FramePlan] = LruCache(PLANS_KEPT)
        self._lost: LruCache[str, set[int]] = LruCache(PLANS_KEPT)
        self._pictures: LruCache[str, list[Pixels]] = LruCache(
            PICTURE_BYTES, lambda pictures: sum(picture.nbytes for picture in pictures)
        )

    def plan(self, video: Path, part: Part, cancel: CancelToken = NEVER) -> FramePlan:
        """Return the choice of frames of a video.

        Raises:
            Cancelled: `cancel` is cancelled.
            InputError: the part is not in the video.
            MediaError: the file is not a readable video, or too long.
        """
        digest = self._digests.of(video)
        part = replace(part, max_frames=min(part.max_frames, self._max_frames))

        def make() -> FramePlan:
            with self._open(video, cancel) as reader:
                clip_frames = self._visual.config.vision.clip_frames
                return plan_frames(reader, digest, part, clip_frames=clip_frames)

        return self._plans.get_or_compute((digest, part), make)

    def of(
        self, video: Path, plan: FramePlan, cancel: CancelToken
    ) -> Iterator[tuple[Step | None, torch.Tensor]]:
        """Yield the (64, D) embeddings of every clip in order, with a step if it had to be encoded.

        Raises:
            Cancelled: `cancel` is cancelled.
        """
        found = [self.clips.get(key) for key in plan.keys]
        todo = [clip for clip, rows in zip(plan.clips, found, strict=True) if rows is None]
        if not todo:
            yield from ((None, rows) for rows in found if rows is not None)
            return
        total, done = len(plan.choice.indices), 0
        lost = self._lost_of(plan)
        side_px = self._visual.config.vision.image_px
        with self._open(video, cancel) as reader:
            pixels = read_clips(reader, todo, side_px, lost=lost, cancel=cancel)
            for key, frames, rows in zip(plan.keys, plan.clips, found, strict=True):
                done += plan.clip_frames
                if rows is not None:
                    yield None, rows
                    continue
                clip, pictures = next(pixels)
                if lost.intersection(frames):  # not cached: each answer has a note on it
                    encoded = self._visual.encode(clip[None], cancel)[0].cpu()
                else:
                    self._pictures.put(key, pictures)
                    encoded = self._encoded(key, clip, cancel)
                yield Step(done=done, total=total, unit="frames"), encoded

    def pictures(self, plan: FramePlan) -> list[Pixels]:
        """Return the thumbnails of the frames, (H, W, 3) uint8; none if they left the cache."""
        clips = [self._pictures.get(key) for key in plan.keys]
        if any(pictures is None for pictures in clips):
            return []
        return [picture for pictures in clips if pictures for picture in pictures]

    def lost_notes(self, plan: FramePlan) -> list[str]:
        """Return a note if frames could not be read; raises if none could."""
        return lost_notes(plan, self._lost_of(plan))

    def _encoded(self, key: str, clip: torch.Tensor, cancel: CancelToken) -> torch.Tensor:
        def encode() -> torch.Tensor:
            start = time.monotonic()
            rows = self._visual.encode(clip[None], cancel)[0].cpu()
            self._rates.note("clip", 1, time.monotonic() - start)
            return rows

        return self.clips.get_or_encode(key, encode, cancel)

    def _open(self, video: Path, cancel: CancelToken = NEVER) -> VideoReader:
        return open_video(video, max_seconds=self._max_seconds, cancel=cancel)

    def _lost_of(self, plan: FramePlan) -> set[int]:
        return self._lost.get_or_compute(plan.digest, set)
