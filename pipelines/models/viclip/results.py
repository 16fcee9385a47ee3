"""Results of ViCLIP: frozen, of plain Python values."""

from dataclasses import dataclass

from pipelines.core.results import Classification, Verdict


@dataclass(frozen=True, kw_only=True)
class VideoMatch:
    """Scores of texts, best first, for the part of a video from `start_s` to `end_s`.

    `frame_times_s` are the times of the frames that the model read, ascending.
    """

    answer: Classification
    frame_times_s: tuple[float, ...]
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A part of a video that fits a query.

    Attributes:
        score: 0..1 for its best window, against neutral texts; 0.5 is half-way between "no match"
            and "match".
        cosine: similarity of that window and the query, -1..1.
        evidence: verdict score, in nats.
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
    """One video of a search, by its position in the request, from 0.

    Attributes:
        moments: best first; none for an unreadable video, of which `error` says why.
        curve: (time in seconds, score 0..1) of each window's middle, ascending in time.
        end_s: end of the video on a player's clock.
    """

    index: int
    moments: tuple[Moment, ...] = ()
    curve: tuple[tuple[float, float], ...] = ()
    end_s: float = 0.0
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class MomentSearch:
    """Moments for a query; the video with the best moment comes first, unreadable ones last."""

    videos: tuple[SearchedVideo, ...]
    query: str
    model: str
    notes: tuple[str, ...] = ()
