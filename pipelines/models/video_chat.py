"""Interface and results of all video chat models, local and remote."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipelines.compute.background import await_work, stream_work
from pipelines.core.cancel import CancelToken
from pipelines.core.errors import InputError
from pipelines.core.options import GenerationOptions, number, whole_number
from pipelines.core.results import ContextUse, Finish, Step
from pipelines.media.video.frames import Pixels
from pipelines.media.video.open import open_video


@dataclass(frozen=True, kw_only=True)
class SeenFrames:
    """Times of the frames that a model reads, in seconds on the player's clock.

    They cover a part of a video; the last one may be repeated. `counted_from_s` is the zero of the
    times that the model names: its prompt states the length of the part but not its position.
    """

    times_s: tuple[float, ...]
    start_s: float
    end_s: float
    video_end_s: float
    counted_from_s: float = 0.0

    @property
    def every_s(self) -> float:
        """Seconds from one frame to the next, on average."""
        return (self.end_s - self.start_s) / max(1, len(set(self.times_s)))


@dataclass(frozen=True, kw_only=True)
class VideoAnswer:
    """An answer about a video, by the model with the key `model`.

    Attributes:
        history: the conversation including this turn, to send with the next question.
        seen: the frames that the model read.
        num_reused: tokens that were cached from an earlier question.
        notes: hints for the person who asked, one sentence each.
    """

    text: str
    model: str
    finish: Finish
    history: tuple[dict[str, str], ...]
    seen: SeenFrames
    context: ContextUse
    num_reused: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AnswerDelta:
    """A piece of an answer being generated; the texts joined in order are the answer.

    Attributes:
        step: progress of reading the video, during that phase.
        seen: the frames, once they are chosen.
        pictures: previews of those frames, (H, W, 3) uint8 RGB, once all are read.
        result: the complete answer, in the last delta only.
    """

    text: str = ""
    step: Step | None = None
    seen: SeenFrames | None = None
    pictures: tuple[Pixels, ...] = ()
    result: VideoAnswer | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Cost of a question about the frames `seen`.

    Attributes:
        num_frames: number of frames, with repetitions.
        num_tokens: tokens of the video.
        limit_tokens: most tokens of video and conversation together.
        need_gb: memory beside the weights, of which `free_gb` are free; 1 GB = 1e9 bytes.
        seconds: until the first word, at the measured speed; None before the first measurement.
        smaller: a number of frames that fits, 0 if none does; None if the frames fit.
    """

    seen: SeenFrames
    num_frames: int
    num_tokens: int
    limit_tokens: int
    need_gb: float
    free_gb: float
    seconds: float | None
    smaller: int | None

    @property
    def fits(self) -> bool:
        """Whether the question can be answered with these frames."""
        return self.smaller is None


#: Range of `max_frames`; the least is one clip.
MIN_FRAMES, MAX_FRAMES = 4, 1024


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a video; at most `max_frames` (4..1024) are read, spread evenly over it.

    `end_s` 0.0 means the end of the video.

    Raises:
        InputError: a value is not a number, or `max_frames` is out of range.
    """

    max_frames: int = 64
    start_s: float = 0.0
    end_s: float = 0.0

    def __post_init__(self) -> None:
        frames = whole_number("max_frames", self.max_frames, MIN_FRAMES, MAX_FRAMES)
        object.__setattr__(self, "max_frames", frames)
        for name in ("start_s", "end_s"):
            object.__setattr__(self, name, number(name, getattr(self, name)))


#: The whole video.
WHOLE = Part()


History = Sequence[Mapping[str, Any]] | None
DEFAULTS = GenerationOptions(max_new_tokens=256)

Sign = TypeVar("Sign")

Emit = Callable[[AnswerDelta], None]


class VideoChatModel(ABC):
    """Conversations about videos."""

    def ask(
        self,
        video: Path,
        question: str,
        history: History = None,
        options: GenerationOptions = DEFAULTS,
        part: Part = WHOLE,
        *,
        compress: bool = False,
    ) -> Iterator[AnswerDelta]:
        """Answer the next question of a conversation about a video, piece by piece.

        Closing the stream ends the work. `compress` drops visual tokens inside the model, if it
        can: faster on long videos.

        Yields:
            Deltas, the last one with the `VideoAnswer`; empty ones as heartbeats.

        Raises:
            InputError: no question, a malformed history, a part outside the video, or an option
                that the model does not support.
            MediaError: the file is not a readable video, or too long.
            ServerError: the server of a remote model gives no answer.
        """
        if not isinstance(question, str) or not question.strip():
            raise InputError("The question is empty. Ask something about the video.")
        work = self._answer_work(video, question, history, options, part, compress)
        for delta in stream_work(work):
            yield AnswerDelta() if delta is None else delta

    @abstractmethod
    def _answer_work(
        self,
        video: Path,
        question: str,
        history: History,
        options: GenerationOptions,
        part: Part,
        compress: bool,
    ) -> Callable[[Emit, CancelToken], None]:
        """Return the work of answering; it ends soon after its token is cancelled.

        Raises:
            InputError: the model cannot do this.
        """


#: Height and greatest width of previews, in pixels.
PREVIEW_PX = 90
PREVIEW_WIDTH_PX = 4 * PREVIEW_PX


def preview_size(height_px: int, width_px: int) -> tuple[int, int]:
    """Return the (height, width) of a frame's preview."""
    return PREVIEW_PX, min(max(2, round(width_px * PREVIEW_PX / height_px)), PREVIEW_WIDTH_PX)


def decode_previews(
    video: Path, times_s: Sequence[float], *, max_seconds: float, sign: Sign
) -> Generator[Sign, None, dict[float, Pixels]]:
    """Return previews, (H, W, 3) uint8 RGB, by their times; unreadable frames are left out.

    `sign` is yielded several times a second; closing the generator ends the decoding.

    Raises:
        MediaError: not a readable video, or longer than `max_seconds` (0: any length).
    """

    def decode(cancel: CancelToken) -> dict[float, Pixels]:
        with open_video(video, max_seconds=max_seconds, cancel=cancel) as reader:
            size = preview_size(reader.info.height_px, reader.info.width_px)
            frames = reader.frames_at_times(times_s, size, cancel=cancel)
            return dict(zip(frames.times_s.tolist(), frames.pixels, strict=True))

    return (yield from await_work(decode, sign))
