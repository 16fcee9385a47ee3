"""Results of conversations about videos: frozen, of plain values. Torch-free."""

from dataclasses import dataclass

from pipelines.core.results import ContextUse, Finish, Step
from pipelines.video_pixels import Pixels


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
