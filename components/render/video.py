"""Results on videos as HTML, CSV, JSON and subtitles."""

import io
import zipfile
from collections.abc import Sequence
from typing import Any

from components.render import scores as fmt
from components.render.html import render
from pipelines.models.notes import repeated_notes
from pipelines.models.viclip.results import Moment, MomentSearch, SearchedVideo, VideoMatch

#: Points of a curve on the page.
POINTS_SHOWN = 400

#: Notes where no text fits a video, and where none is a clear match.
NO_TEXT = (
    "None of these texts fits the video. The probabilities only compare the texts with each other.",
    "None of these texts is a clear match; the best may still be wrong.",
)


def as_label(match: VideoMatch, repeated: Sequence[str] = ()) -> dict[str, Any]:
    """Return the first result of `/match_video`, with what the model saw."""
    label = fmt.as_label(match.answer, repeated)
    return {**label, "frame_times_s": [round(t, 3) for t in match.frame_times_s]}


def as_text_scores(match: VideoMatch) -> list[dict[str, Any]]:
    """Return the rows of `/match_video`, best first."""
    return [{"text": row.pop("label"), **row} for row in fmt.as_scores(match.answer)]


def as_moments(search: MomentSearch) -> list[dict[str, Any]]:
    """Return the rows of `/find_moments`, best first; notes on the whole join the first row."""
    rows = fmt.rows_of(
        (moment for _, moment in listed(search)),
        ("start_s", "end_s", "score", "cosine", "verdict"),
    )
    for row in rows:
        row.update(start_s=round(row["start_s"], 3), end_s=round(row["end_s"], 3), note="")
    if rows:
        rows[0]["note"] = " ".join(search.notes)
    return rows


def moments_table(search: MomentSearch, names: Sequence[str]) -> str:
    """Return a table of the moments of all videos, the best video first."""
    return render("video.moments_table", moments=listed(search), videos=search.videos, names=names)


def listed(search: MomentSearch) -> list[tuple[SearchedVideo, Moment]]:
    """Return the moments in the order of the table, each with its video."""
    return [(video, moment) for video in search.videos for moment in video.moments]


def curves(search: MomentSearch, names: Sequence[str]) -> str:
    """Return a drawing of relevance over time for each video."""
    drawn = [(names[video.index], _Drawing(video)) for video in search.videos if video.curve]
    return render("video.curves", drawn=drawn)


class _Drawing:
    """Relevance over time in the units of an SVG drawing.

    The height is relative to the highest point: what a score means, the verdict says.
    """

    width, height, top, base = 640, 156, 20, 132

    def __init__(self, video: SearchedVideo) -> None:
        self.end_s = video.end_s
        self.bands = [(self._x(m.start_s), self._x(m.end_s)) for m in video.moments]
        unit = (self.base - self.top - 4) / max(1e-9, *(score for _, score in video.curve))
        points = [(self._x(at), self.base - score * unit) for at, score in _thinned(video)]
        points = [(0.0, points[0][1]), *points, (self.width, points[-1][1])]
        self.line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)

    def _x(self, time_s: float) -> float:
        return self.width * min(1.0, time_s / max(self.end_s, 1e-9))


def _thinned(video: SearchedVideo) -> list[tuple[float, float]]:
    """Return few enough points of a curve; of neighbours the highest stays."""
    step = -(-len(video.curve) // POINTS_SHOWN)
    parts = [video.curve[start : start + step] for start in range(0, len(video.curve), step)]
    return [max(part, key=lambda point: point[1]) for part in parts]


def moments_csv(search: MomentSearch, names: Sequence[str]) -> str:
    """Return the moments of all videos as CSV."""
    head = ("video", "start_s", "end_s", "score", "cosine", "verdict", "query")
    rows = [
        (names[video.index], f"{m.start_s:.3f}", f"{m.end_s:.3f}", m.score, m.cosine, m.verdict)
        for video, m in listed(search)
    ]
    return fmt.as_csv(head, [(*row, search.query) for row in rows])


def moments_srt(video: SearchedVideo, query: str) -> str:
    """Return the moments of a video as subtitles, in the order of time."""
    text = " ".join(query.split()).replace("-->", "→")
    parts = [
        f"{number}\n{_stamp(m.start_s)} --> {_stamp(m.end_s)}\n{text} ({m.score:.0%})\n"
        for number, m in enumerate(sorted(video.moments, key=lambda m: m.start_s), start=1)
    ]
    return "\n".join(parts)


def subtitles(search: MomentSearch, names: Sequence[str]) -> tuple[str, str | bytes]:
    """Return name and content of the subtitles: a file, or a zip of one for each video."""
    videos = [video for video in search.videos if video.moments]
    if len(videos) == 1:
        return "moments.srt", moments_srt(videos[0], search.query)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for video in videos:
            stem = names[video.index].rpartition(".")[0] or names[video.index]
            file.writestr(f"{video.index + 1}-{stem}.srt", moments_srt(video, search.query))
    return "moments-srt.zip", buffer.getvalue()


def match_notes(match: VideoMatch, repeated: Sequence[str]) -> list[str]:
    """Return the notes on a match."""
    no_match = fmt.verdict_summary(match.answer, NO_TEXT)
    return [*match.answer.notes, *repeated_notes(repeated), *no_match]


def search_notes(search: MomentSearch) -> list[str]:
    """Return the notes on a search."""
    nowhere = "The text fits nowhere: these are only the moments that come closest."
    verdicts = {moment.verdict for _, moment in listed(search)}
    return [*search.notes, nowhere] if verdicts == {"no match"} else list(search.notes)


def _stamp(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d},{rest % 1000:03d}"
