"""Results of ViCLIP: frozen, of plain Python values."""

from dataclasses import dataclass

from pipelines.core.results import Classification, Verdict


@dataclass(frozen=True, kw_only=True)
class VideoTextScores:
    """N videos against M texts.

    Attributes:
        cosines: N tuples of M values, -1..1.
        probabilities: N tuples of M values, 0..1: softmax of 100 times the cosines of a row.
        notes: hints for the person who asked, one sentence each.
    """

    cosines: tuple[tuple[float, ...], ...]
    probabilities: tuple[tuple[float, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shapes = [[len(row) for row in table] for table in (self.cosines, self.probabilities)]
        if shapes[0] != shapes[1] or len(set(shapes[0])) > 1:
            raise ValueError(f"cosines and probabilities must be of one shape but got {shapes}")
        if any(not -1.001 <= value <= 1.001 for row in self.cosines for value in row):
            raise ValueError("every cosine must be within -1..1")
        if any(not 0.0 <= value <= 1.0 for row in self.probabilities for value in row):
            raise ValueError("every probability must be within 0..1")

    def best(self, video: int, count: int = 5) -> tuple[tuple[int, float], ...]:
        """Return up to `count` pairs of a text's index and its probability, best first."""
        row = self.probabilities[video]
        order = sorted(range(len(row)), key=lambda index: -row[index])
        return tuple((index, row[index]) for index in order[: max(count, 0)])


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
