"""Pure functions: a run -> what the Batch tab and its endpoint show."""

import base64
import html
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.batch.control import RunProgress
from pipelines.batch.job import GalleryImage
from pipelines.batch.results import BatchResult
from pipelines.media.inputs import Skipped

#: Rows on the page: files without a caption, and the newest captions; the files have them all.
FAILED_SHOWN = 50
NEWEST_SHOWN = 50

#: Files left out of an archive that are named.
SKIPPED_SHOWN = 5

#: A run goes on, is over, or was ended by its visitor in one of two ways, or by a fault.
State = Literal["running", "done", "pause", "cancel", "failed"]


@dataclass
class Tally:
    """The results so far, as much of them as is shown."""

    num_failed: int = 0
    num_captions: int = 0
    failed: list[BatchResult] = field(default_factory=list)
    newest: deque[BatchResult] = field(default_factory=lambda: deque(maxlen=NEWEST_SHOWN))

    def add(self, results: Sequence[BatchResult]) -> None:
        """Take more results in."""
        for result in results:
            if result.error:
                self.num_failed += 1
                if len(self.failed) < FAILED_SHOWN:
                    self.failed.append(result)
            else:
                self.num_captions += 1
                self.newest.append(result)


def as_rows(results: Sequence[BatchResult]) -> list[dict[str, Any]]:
    """Return rows of `/caption_images`."""
    return [
        {"file": r.file, "caption": r.caption, "error": r.error, "notes": list(r.notes)}
        for r in results
    ]


def progress_line(state: State, stage: str, progress: RunProgress | None, known: int = 0) -> str:
    """Return a bar with how far a run is, as HTML.

    Args:
        state: of the run.
        stage: what it is doing before there is progress.
        progress: how far it is, or None.
        known: captions that an earlier run had made.
    """
    if progress is None:
        shown = stage if state == "running" else _ended(state)
        return _bar(0.0, [f"{shown} …" if state == "running" else shown], state)
    parts = [f"{progress.done:,} of {progress.total:,}"]
    if state != "running":
        parts[0] = f"{_ended(state)}: {parts[0]}"
    elif not progress.from_model and progress.done == progress.errors:
        parts.insert(0, f"{stage} …")
    if progress.errors:
        parts.append(f"{progress.errors:,} without a caption")
    if known:
        parts.append(f"{known:,} known already")
    if progress.rate_per_s:
        parts.append(_rate(progress.rate_per_s))
    if state == "running" and progress.time_left_s is not None:
        parts.append(f"{duration(progress.time_left_s)} left")
    return _bar(progress.done / max(1, progress.total), parts, state)


def duration(seconds: float) -> str:
    """Return seconds as people say them: "40 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def pictures_strip(pictures: Sequence[GalleryImage]) -> str:
    """Return the last pictures with their captions, as HTML; "" if there are none."""
    figures = "".join(
        f"<figure>{_image(picture)}<figcaption translate='no'>{_shown(picture.caption, 140)}"
        f"<small>{_shown(picture.file, 60)}</small></figcaption></figure>"
        for picture in pictures
    )
    return f"<div class='strip'>{figures}</div>" if figures else ""


def results_table(tally: Tally) -> str:
    """Return the files without a caption and the newest captions, as HTML; "" without any."""
    blocks = []
    if tally.failed:
        rows = [_row(result.file, result.error, "bad") for result in tally.failed]
        blocks.append(_table("Without a caption", "Why", rows, tally.num_failed))
    if tally.newest:
        rows = [_row(result.file, result.caption) for result in reversed(tally.newest)]
        blocks.append(_table("Captions", "Caption", rows, tally.num_captions))
    return "".join(blocks)


def skipped_note(skipped: Sequence[Skipped]) -> list[str]:
    """Return a note on what an archive holds besides pictures."""
    if not skipped:
        return []
    named = ", ".join(f"{one.name[:60]} ({one.reason})" for one in skipped[:SKIPPED_SHOWN])
    more = f" and {len(skipped) - SKIPPED_SHOWN:,} more" if len(skipped) > SKIPPED_SHOWN else ""
    return [f"Left out of the zip: {named}{more}."]


def _ended(state: State) -> str:
    return {
        "running": "",
        "done": "Done",
        "pause": "Paused",
        "cancel": "Cancelled",
        "failed": "Stopped",
    }[state]


def _rate(per_s: float) -> str:
    return f"{per_s:.1f} a second" if per_s >= 0.95 else f"{per_s * 60:.1f} a minute"


def _bar(share: float, parts: Sequence[str], state: State) -> str:
    text = " · ".join(html.escape(part) for part in parts if part)
    return (
        f"<div class='batch-progress {state}' role='status'><div class='track'>"
        f"<i style='width:{share * 100:.1f}%'></i></div><p>{text}</p></div>"
    )


def _image(picture: GalleryImage) -> str:
    if not picture.jpeg:
        return ""
    data = base64.b64encode(picture.jpeg).decode("ascii")
    return f"<img src='data:image/jpeg;base64,{data}' alt='{_shown(picture.file, 60)}'>"


def _table(first: str, second: str, rows: Sequence[str], total: int) -> str:
    more = ""
    if total > len(rows):
        which = "first" if second == "Why" else "newest"
        more = f"<p class='more'>The {which} {len(rows)}; the files hold all {total:,}.</p>"
    heading = f"<tr><th>{first} ({total:,})</th><th>{second}</th></tr>"
    return f"<div class='scores batch'><table>{heading}{''.join(rows)}</table></div>{more}"


def _row(name: str, text: str, kind: str = "") -> str:
    ours = "yes" if kind == "bad" else "no"
    return (
        f"<tr class='{kind}'><td class='name' translate='no'>{_shown(name, 120)}</td>"
        f"<td class='said' translate='{ours}'>{_shown(text, 400)}</td></tr>"
    )


def _shown(text: str, longest: int) -> str:
    return html.escape(text if len(text) <= longest else text[: longest - 1] + "…")
