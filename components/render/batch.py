"""A run of the Batch tab and its endpoint as HTML and JSON."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from components.render.html import render
from components.server.translate import say
from pipelines.batch.export import BatchResult
from pipelines.batch.job import GalleryImage
from pipelines.batch.progress import RunProgress
from pipelines.core.messages import Message, joined
from pipelines.core.text import bounded_name
from pipelines.media.inputs import Skipped

#: Rows on the page: files without a caption, and the newest captions; the files have them all.
FAILED_SHOWN = 50
NEWEST_SHOWN = 50

#: Files left out of an archive that are named.
SKIPPED_SHOWN = 5

#: A run goes on, is over, or was ended by its visitor in one of two ways, or by a fault.
State = Literal["running", "done", "pause", "cancel", "failed"]

_ENDED = {"done": "Done", "pause": "Paused", "cancel": "Cancelled", "failed": "Stopped"}


@dataclass
class Tally:
    """Counts of the results so far, and those of them that are shown."""

    num_failed: int = 0
    num_captions: int = 0
    failed: list[BatchResult] = field(default_factory=list)
    newest: deque[BatchResult] = field(default_factory=lambda: deque(maxlen=NEWEST_SHOWN))

    def add(self, results: Sequence[BatchResult]) -> None:
        """Add results."""
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
        {"file": one.file, "caption": one.caption, "error": one.error, "notes": list(one.notes)}
        for one in results
    ]


def progress_line(state: State, stage: str, progress: RunProgress | None, known: int = 0) -> str:
    """Return a bar with how far a run is; `known` captions had been made by an earlier run."""
    if progress is None:
        share, parts = 0.0, [f"{say(stage)} …" if state == "running" else say(_ENDED[state])]
    else:
        share = progress.done / max(1, progress.total)
        parts = _parts(state, stage, progress, known)
    return render("batch.progress_line", share=share, parts=parts, state=state)


def _parts(state: State, stage: str, progress: RunProgress, known: int) -> list[str]:
    count = say("{done:,} of {total:,}", done=progress.done, total=progress.total)
    if state != "running":
        count = say("{state}: {count}", state=Message(_ENDED[state]), count=count)
    parts = [count]
    if state == "running" and not progress.from_model and progress.done == progress.errors:
        parts.insert(0, f"{say(stage)} …")
    if progress.errors:
        parts.append(say("{n:,} without a caption", n=progress.errors))
    if known:
        parts.append(say("{n:,} known already", n=known))
    if progress.rate_per_s:
        parts.append(_rate(progress.rate_per_s))
    if state == "running" and progress.time_left_s is not None:
        parts.append(say("{time} left", time=duration(progress.time_left_s)))
    return parts


def duration(seconds: float) -> str:
    """Return a duration, such as "40 s", "3 min 20 s" or "2 h 5 min"."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return say("{m} min {s} s", m=minutes, s=rest)
    hours, minutes = divmod(minutes, 60)
    return say("{h:,} h {m} min", h=hours, m=minutes)


def pictures_strip(pictures: Sequence[GalleryImage]) -> str:
    """Return the last images with their captions; "" if there are none."""
    return render("batch.pictures_strip", pictures=pictures) if pictures else ""


def results_table(tally: Tally) -> str:
    """Return the files without a caption and the newest captions; "" without any."""
    failed = [(result.file, result.error) for result in tally.failed]
    newest = [(result.file, result.caption) for result in reversed(tally.newest)]
    return render("batch.results_table", tally=tally, failed=failed, newest=newest)


def skipped_note(skipped: Sequence[Skipped]) -> list[str]:
    """Return a note on what an archive holds besides images."""
    if not skipped:
        return []
    named = [
        Message("{name} ({reason})", name=bounded_name(one.name, 200), reason=Message(one.reason))
        for one in skipped[:SKIPPED_SHOWN]
    ]
    rest = len(skipped) - SKIPPED_SHOWN
    more = Message(" and {count:,} more", count=rest) if rest > 0 else ""
    return [Message("Left out of the zip: {names}{more}.", names=joined(named), more=more)]


def _rate(per_s: float) -> str:
    if per_s >= 0.95:
        return say("{n:.1f} a second", n=per_s)
    return say("{n:.1f} a minute", n=per_s * 60)
