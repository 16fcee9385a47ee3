"""Pure functions: results on videos -> what a component or a script receives."""

import html
import io
import zipfile
from collections.abc import Sequence
from typing import Any

from components.render import scores as fmt
from pipelines.models.notes import repeated_notes
from pipelines.models.viclip.results import Moment, MomentSearch, SearchedVideo, VideoMatch

#: Points of a curve on the page.
POINTS_SHOWN = 400

#: Size of the curve's drawing, in its own units; the page stretches it.
_WIDTH, _HEIGHT = 640.0, 156.0
_TOP, _BASE = 20.0, 132.0


def clock(seconds: float, *, tenths: bool = True) -> str:
    """Return a time as people write it: 1:05.3, or 1:02:03.4 from an hour on."""
    units = round(seconds * 10) if tenths else round(seconds) * 10
    minutes, rest = divmod(units, 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{rest / 10:04.1f}" if tenths else f"{rest // 10:02d}"
    return f"{hours}:{minutes:02d}:{shown}" if hours else f"{minutes}:{shown}"


def as_label(match: VideoMatch, repeated: Sequence[str] = ()) -> dict[str, Any]:
    """Return the first result of `/match_video`, with what the model saw."""
    label = fmt.as_label(match.answer, repeated)
    return {**label, "frame_times_s": [round(t, 3) for t in match.frame_times_s]}


def as_text_scores(match: VideoMatch) -> list[dict[str, Any]]:
    """Return the rows of `/match_video`, best first."""
    return [
        {
            "text": score.label,
            "probability": score.probability,
            "cosine": score.cosine,
            "verdict": score.verdict,
            "note": score.note,
        }
        for score in match.answer.scores
    ]


def as_moments(search: MomentSearch) -> list[dict[str, Any]]:
    """Return the rows of `/find_moments`, best first; notes on the whole join the first row."""
    rows = [
        {
            "start_s": round(moment.start_s, 3),
            "end_s": round(moment.end_s, 3),
            "score": moment.score,
            "cosine": moment.cosine,
            "verdict": moment.verdict,
            "note": "",
        }
        for video in search.videos
        for moment in video.moments
    ]
    if rows:
        rows[0]["note"] = " ".join(search.notes)
    return rows


def moments_table(search: MomentSearch, names: Sequence[str]) -> str:
    """Return the moments of all videos as an HTML table, the best video first."""
    several = len(search.videos) > 1
    head = "<th>#</th>" + ("<th>Video</th>" if several else "") + "<th>From – to</th>"
    head += "<th title='How the text fares against neutral texts'>Score</th><th>Verdict</th>"
    rows = []
    for number, (video, moment) in enumerate(listed(search), start=1):
        name = f"<td class='name'>{_name(names[video.index])}</td>" if several else ""
        rows.append(
            f"<tr><td class='number'>{number}</td>{name}<td class='number'>{span(moment)}</td>"
            f"<td class='bar'><i style='width:{moment.score * 100:.1f}%'></i>"
            f"<b>{fmt.percent(moment.score)}</b></td><td>{fmt.pill(moment.verdict)}</td></tr>"
        )
    for video in search.videos:
        if video.error:
            rows.append(
                f"<tr><td></td><td class='name' colspan='4'>{_name(names[video.index])}"
                f"<small>{html.escape(video.error)}</small></td></tr>"
            )
    return f"<div class='scores moments'><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def listed(search: MomentSearch) -> list[tuple[SearchedVideo, Moment]]:
    """Return the moments in the order of the table, each with its video."""
    return [(video, moment) for video in search.videos for moment in video.moments]


def span(moment: Moment) -> str:
    """Return from when to when, as people write it."""
    return f"{clock(moment.start_s)} – {clock(moment.end_s)}"


def curves(search: MomentSearch, names: Sequence[str]) -> str:
    """Return a drawing of relevance over time for each video, as HTML."""
    drawn = [
        f"<figure class='curve'><figcaption>{_name(names[video.index])}</figcaption>"
        f"{curve(video)}</figure>"
        for video in search.videos
        if video.curve
    ]
    return "".join(drawn)


def curve(video: SearchedVideo) -> str:
    """Return relevance over time as an SVG drawing; the moments are bands in it.

    The height is relative to the highest point: what a score means, the verdict says.
    """
    duration = max(video.end_s, 1e-9)
    top = max(max(score for _, score in video.curve), 1e-9)

    def across(time_s: float) -> float:
        return _WIDTH * min(1.0, time_s / duration)

    bands = "".join(
        f"<rect class='band' x='{across(m.start_s):.1f}' y='{_TOP:g}' "
        f"width='{max(across(m.end_s) - across(m.start_s), 2):.1f}' height='{_BASE - _TOP:g}'/>"
        f"<text x='{across((m.start_s + m.end_s) / 2):.1f}' y='{_TOP - 4:g}'>{number}</text>"
        for number, m in enumerate(video.moments, start=1)
    )
    unit = (_BASE - _TOP - 4) / top
    points = [(across(time_s), _BASE - score * unit) for time_s, score in _thinned(video)]
    points = [(0.0, points[0][1]), *points, (_WIDTH, points[-1][1])]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    ticks = "".join(
        f"<text class='tick {place}' x='{_WIDTH * share:g}' y='{_HEIGHT - 5:g}'>"
        f"{clock(video.end_s * share, tenths=video.end_s < 20)}</text>"
        for share, place in ((0, "start"), (0.25, ""), (0.5, ""), (0.75, ""), (1, "end"))
    )
    return (
        f"<svg viewBox='0 0 {_WIDTH:g} {_HEIGHT:g}' role='img' "
        f"aria-label='Relevance over time'>{bands}"
        f"<polygon class='area' points='0,{_BASE:g} {line} {_WIDTH:g},{_BASE:g}'/>"
        f"<polyline class='line' points='{line}'/>"
        f"<line class='axis' x1='0' x2='{_WIDTH:g}' y1='{_BASE:g}' y2='{_BASE:g}'/>{ticks}</svg>"
    )


def _thinned(video: SearchedVideo) -> list[tuple[float, float]]:
    """Return few enough points of a curve; of neighbours the highest stays."""
    step = -(-len(video.curve) // POINTS_SHOWN)
    parts = [video.curve[start : start + step] for start in range(0, len(video.curve), step)]
    return [max(part, key=lambda point: point[1]) for part in parts]


def moments_csv(search: MomentSearch, names: Sequence[str]) -> str:
    """Return the moments of all videos as CSV."""
    head = ("video", "start_s", "end_s", "score", "cosine", "verdict", "query")
    rows = [
        (
            names[video.index],
            f"{m.start_s:.3f}",
            f"{m.end_s:.3f}",
            m.score,
            m.cosine,
            m.verdict,
            search.query,
        )
        for video, m in listed(search)
    ]
    return fmt.as_csv(head, rows)


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
    """Return what a person should know about a match."""
    verdicts = {score.verdict for score in match.answer.scores}
    notes = [*match.answer.notes, *repeated_notes(repeated)]
    if verdicts == {"no match"}:
        notes.append(
            "None of these texts fits the video. The probabilities only compare the texts with "
            "each other."
        )
    elif "match" not in verdicts:
        notes.append("None of these texts is a clear match; the best may still be wrong.")
    return notes


def search_notes(search: MomentSearch) -> list[str]:
    """Return what a person should know about a search."""
    verdicts = {moment.verdict for _, moment in listed(search)}
    if verdicts == {"no match"}:
        return [
            *search.notes,
            "The text fits nowhere: these are only the moments that come closest.",
        ]
    return list(search.notes)


def _stamp(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d},{rest % 1000:03d}"


def _name(file: str) -> str:
    return fmt.kept(html.escape(file[:80]))
