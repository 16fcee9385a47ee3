"""A question about a video, wherever its model runs. Torch-free."""

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
    """What a model looks at; times are those of a player's clock.

    Attributes:
        times_s: when each of the frames appears in the video; the last may come several times.
        start_s: where the part that they are from starts.
        end_s: where it ends.
        video_end_s: where the whole video ends.
        counted_from_s: what the model counts from when it names a time: its prompt tells it how
            long the part is, and not where in the video.
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
    """What a model says about a video.

    Attributes:
        text: the answer.
        model: key of the model.
        finish: why the text ended.
        history: the conversation with this question and its answer, to send with the next.
        seen: the frames that were looked at.
        context: how much of what was given was read.
        num_reused: tokens that were known from an earlier question.
        notes: what a person should know about this answer, one sentence each.
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
    """A piece of an answer as it is made; joined in order the texts are the answer.

    Attributes:
        text: the next piece; may be empty.
        step: how far looking at the video is, where that is what goes on.
        seen: the frames that are looked at, once they are chosen.
        pictures: of those frames, (H, W, 3) uint8 RGB, once all were looked at.
        result: the whole, in the last delta only.
    """

    text: str = ""
    step: Step | None = None
    seen: SeenFrames | None = None
    pictures: tuple[Pixels, ...] = ()
    result: VideoAnswer | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a question would take.

    Attributes:
        seen: the frames that would be looked at.
        num_frames: how many, repeated ones counted.
        num_tokens: tokens of the video, of `limit_tokens` that the model reads at once.
        limit_tokens: most tokens of video and conversation together.
        need_gb: memory beside the weights; 1 GB = 1e9 bytes.
        free_gb: memory that there is for it.
        seconds: until the first word, at the speed measured so far; None before any was.
        smaller: number of frames that fits where these do not; 0 where nothing does; None where
            they fit.
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
        """Whether it can be done as asked for."""
        return self.smaller is None


#: Frames that can be asked for: from one clip on.
MIN_FRAMES, MAX_FRAMES = 4, 1024


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a video, and how closely it is looked at; checked when made.

    Attributes:
        max_frames: most frames, spread evenly over the part; 4 to 1024.
        start_s: start of the part.
        end_s: its end; 0.0 means the end of the video.

    Raises:
        InputError: a value is no number, or there are too few frames or too many.
    """

    max_frames: int = 64
    start_s: float = 0.0
    end_s: float = 0.0

    def __post_init__(self) -> None:
        """Check every value."""
        frames = whole_number("max_frames", self.max_frames, MIN_FRAMES, MAX_FRAMES)
        object.__setattr__(self, "max_frames", frames)
        for name in ("start_s", "end_s"):
            object.__setattr__(self, name, number(name, getattr(self, name)))


#: All of a video.
WHOLE = Part()


History = Sequence[Mapping[str, Any]] | None
DEFAULTS = GenerationOptions(max_new_tokens=256)

Sign = TypeVar("Sign")

Emit = Callable[[AnswerDelta], None]


class VideoChatModel(ABC):
    """Holds conversations about videos."""

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

        Closing the stream ends the work.

        Args:
            video: a video file.
            question: what is asked now.
            history: earlier messages, `{"role": "user" or "assistant", "content": text}`, oldest
                first.
            options: how the text is generated.
            part: what of the video is looked at.
            compress: skim the video, where the model can: faster on long ones.

        Yields:
            Deltas, the last one with the `VideoAnswer`; empty ones as signs of life.

        Raises:
            InputError: no question, a history of another form, a part that is not in the video,
                or what the model does not do.
            MediaError: the file is not a video that can be read, or too long.
            ServerError: the server of a remote model gives no answer.
        """
        if not isinstance(question, str) or not question.strip():
            raise InputError("The question is empty. Ask something about the video.")
        work = self._asked(video, question, history, options, part, compress)
        for delta in stream_work(work):
            yield AnswerDelta() if delta is None else delta

    @abstractmethod
    def _asked(
        self,
        video: Path,
        question: str,
        history: History,
        options: GenerationOptions,
        part: Part,
        compress: bool,
    ) -> Callable[[Emit, CancelToken], None]:
        """Return the work of answering, which ends soon once it is told to.

        Raises:
            InputError: what is asked for cannot be.
        """


#: Height of the small pictures that show people what was looked at, and most of their width.
PICTURE_PX = 90


WIDEST_PX = 4 * PICTURE_PX


def picture_size(height_px: int, width_px: int) -> tuple[int, int]:
    """Return (height, width) of the small picture of a frame."""
    return PICTURE_PX, min(max(2, round(width_px * PICTURE_PX / height_px)), WIDEST_PX)


def decode_film(
    video: Path, times_s: Sequence[float], *, max_seconds: float, sign: Sign
) -> Generator[Sign, None, dict[float, Pixels]]:
    """Return small pictures, (H, W, 3) uint8 RGB, by the times that are asked for.

    Those that cannot be read are left out. Closing the generator ends the reading.

    Args:
        video: a video file.
        times_s: when the frames are on show.
        max_seconds: longest video that is taken; 0 for any.
        sign: yielded a few times a second.

    Raises:
        MediaError: the file is not a video that can be read, or too long.
    """

    def decode(cancel: CancelToken) -> dict[float, Pixels]:
        with open_video(video, max_seconds=max_seconds, cancel=cancel) as reader:
            size = picture_size(reader.info.height_px, reader.info.width_px)
            frames = reader.frames_at_times(times_s, size, cancel=cancel)
            return dict(zip(frames.times_s.tolist(), frames.pixels, strict=True))

    return (yield from await_work(decode, sign))
