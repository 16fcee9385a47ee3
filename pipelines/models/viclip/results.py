"""Results of ViCLIP: frozen, of plain Python values."""

from dataclasses import dataclass

from pipelines.core.results import Classification, Verdict


@dataclass(frozen=True, kw_only=True)
class VideoMatch:
    """A video, or a part of it, against texts.

    Attributes:
        answer: a score for each text, best first, and notes.
        frame_times_s: times of the frames that the model read, ascending.
        start_s: start of the part.
        end_s: its end.
    """

    answer: Classification
    frame_times_s: tuple[float, ...]
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A part of a video that fits a query.

    Attributes:
        start_s: its start.
        end_s: its end.
        score: 0..1 for its best window, against neutral texts; 0.5 is half-way between "no match"
            and "match".
        cosine: similarity of that window and the query, -1..1.
        evidence: verdict score, in nats.
        verdict: verdict on `evidence`.
        key_s: time of its key frame.
    """

    start_s: float
    end_s: float
    score: float
    cosine: float
    evidence: float
    verdict: Verdict
    key_s: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.start_s < self.end_s:
            raise ValueError(f"a moment must end after it starts: {self.start_s}..{self.end_s}")
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"score must be within 0..1 but got {self.score}")


@dataclass(frozen=True, kw_only=True)
class SearchedVideo:
    """One video of a search.

    Attributes:
        index: its position in the request, from 0.
        moments: best first; none for an unreadable video.
        curve: (time in seconds, score 0..1) of each window's middle, ascending in time.
        end_s: end of the video on a player's clock.
        error: why it could not be searched, or "".
    """

    index: int
    moments: tuple[Moment, ...] = ()
    curve: tuple[tuple[float, float], ...] = ()
    end_s: float = 0.0
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class MomentSearch:
    """Moments of one or several videos for a query.

    Attributes:
        videos: the one with the best moment first, unreadable ones last.
        query: the text.
        model: key of the model.
        notes: hints for the person who asked, one sentence each.
    """

    videos: tuple[SearchedVideo, ...]
    query: str
    model: str
    notes: tuple[str, ...] = ()
