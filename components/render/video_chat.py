"""Answers about a video: times as links, the frames that the model saw, what a question takes."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from components.render.html import clock, render
from components.server.translate import say
from pipelines.core.messages import Message
from pipelines.media.video.frames import Pixels
from pipelines.models.video_chat import Estimate, SeenFrames, VideoAnswer
from pipelines.serving.video_prefetch import VideoPrefetch

#: What has a meaning in Markdown or HTML, wherever it stands.
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&$@])")
_ADDRESS = re.compile(r"(?i)(https?|ftp)(?=://)|www(?=\.)")
_LINE_START = re.compile(r"(?m)^([ \t]*)([-+=]|\d{1,9}(?=[.)]))?")
_WRITTEN = re.compile(
    r"\\(?P<plain>[^\w\s]|_)|\[(?P<linked>(?:\\.|[^\[\]\\])*)\]\(#t=[0-9.]+\)|&#(?P<code>32|9);"
)

_NUMBER = r"\d{1,5}(?:\.\d+)?"
_UNIT = r"(?:seconds?|secs?|s)\b"
_TIME = re.compile(
    rf"(?<![\w.:])(?:(?P<clock>(?:\d{{1,2}}:)?\d{{1,2}}:\d{{2}}(?:\.\d+)?)(?![\d:])"
    rf"|(?P<plain>{_NUMBER})(?=[ -]?{_UNIT}|\s?(?:-|–|to|and)\s?{_NUMBER}[ -]?{_UNIT})"
    rf"(?P<unit>[ -]?{_UNIT})?)"
)


@dataclass(frozen=True)
class NamedTime:
    """A time in seconds that a text names, and where its words start and end in the text."""

    start: int
    end: int
    seconds: float


def times_in(text: str, most_s: float) -> list[NamedTime]:
    """Return the times up to `most_s` that a text names, in order.

    They are written as clocks ("0:12", "1:02:03.4") or with their unit ("12 s", "12.5 seconds",
    "3 to 5 seconds").
    """
    found = []
    for match in _TIME.finditer(text):
        seconds = _clock(match["clock"]) if match["clock"] else float(match["plain"])
        if seconds <= most_s + 0.5:
            found.append(NamedTime(match.start(), match.end(), seconds))
    return found


def as_markdown(text: str, video_end_s: float = -1.0, counted_from_s: float = 0.0) -> str:
    """Return a text as Markdown, its times within a video as links.

    On the clock of the video's player, the video ends at `video_end_s` (before 0 there are no
    links), and the text's second 0 is `counted_from_s`.
    """
    parts, at = [], 0
    for time in times_in(text, video_end_s - counted_from_s):
        parts.append(_escaped(text[at : time.start], first=at == 0))
        seconds = round(time.seconds + counted_from_s, 3)
        parts.append(f"[{_escaped(text[time.start : time.end], first=False)}](#t={seconds:.12g})")
        at = time.end
    return "".join([*parts, _escaped(text[at:], first=at == 0)])


def from_markdown(shown: str) -> str:
    """Return the text that `as_markdown` was given."""
    return _WRITTEN.sub(_read, shown)


def _read(match: re.Match[str]) -> str:
    if match["code"]:
        return chr(int(match["code"]))
    return match["plain"] or from_markdown(match["linked"] or "")


def _clock(shown: str) -> float:
    seconds = 0.0
    for part in shown.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def _escaped(text: str, *, first: bool) -> str:
    """Return a text as Markdown without meaning; `first` where a line starts with it."""
    text = _SPECIAL.sub(r"\\\1", text)
    text = _ADDRESS.sub(r"\g<0>\\", text)
    head, line_end, rest = text.partition("\n")
    if first:
        head = _LINE_START.sub(_plain_start, head, count=1)
    return head + line_end + (_LINE_START.sub(_plain_start, rest) if line_end else "")


def _plain_start(match: re.Match[str]) -> str:
    blank = match[1].replace(" ", "&#32;").replace("\t", "&#9;")
    mark = match[2] or ""
    if mark.isdigit():
        return f"{blank}{mark}\\"
    return f"{blank}\\{mark}" if mark else blank


#: Frames in the strip; of more, so many evenly spread ones are shown.
FRAMES_SHOWN = 96

_QUALITY = 72


def times_shown(seen: SeenFrames) -> list[float]:
    """Return the times of the frames that the strip shows."""
    times = list(dict.fromkeys(seen.times_s))
    return times[:: max(1, -(-len(times) // FRAMES_SHOWN))]


def frame_strip(seen: SeenFrames, images: Mapping[float, Pixels]) -> str:
    """Return the frames that the model saw, each with its time as a link.

    The images are (H, W, 3) uint8 RGB, by time; a frame without one is left out.
    """
    shown, number = times_shown(seen), len(set(seen.times_s))
    frames = [
        (time_s, f"{time_s:.2f} s" if seen.every_s < 0.1 else clock(time_s), _jpeg(images[time_s]))
        for time_s in shown
        if time_s in images
    ]
    what = _count(number)
    if len(shown) < number:
        what = say("{shown} of the {n} frames", shown=len(shown), n=number)
    return render("video_chat.frame_strip", frames=frames, what=what, spacing=_spacing(seen))


#: Offset of the model's times from the player's, in seconds, from which on a note says so.
_SHIFT_S = 0.5


def answer_notes(answer: VideoAnswer) -> list[str]:
    """Return the notes on an answer, also from where its times count."""
    notes, seen = list(answer.notes), answer.seen
    from_s = seen.counted_from_s
    if from_s >= _SHIFT_S and times_in(answer.text, seen.video_end_s - from_s):
        notes.append(
            Message(
                "Times in the answer count from {start}, where the part that the model saw starts.",
                start=clock(from_s),
            )
        )
    return notes


def plan_line(ahead: VideoPrefetch) -> str:
    """Return what a question would take and how far the video is prepared."""
    estimate = ahead.estimate
    if estimate is None:
        return message_line(ahead.problem, "warning")
    lines: list[tuple[str, str | None]] = [(" · ".join(_facts(estimate, ahead.ready)), None)]
    lines += [(warning, "warning") for warning in _warnings(estimate)]
    if ahead.ready:
        lines.append((say("The video is prepared: questions start at once."), None))
    elif ahead.step is not None:
        told = "Preparing the video while you type: {done} of {total} frames."
        lines.append((say(told, done=ahead.step.done, total=ahead.step.total), None))
    return render("video_chat.plan", lines=lines)


def message_line(text: str, kind: str = "") -> str:
    """Return one sentence in place of a plan."""
    return render("video_chat.plan", lines=[(say(text), kind)])


def _facts(estimate: Estimate, ready: bool) -> list[str]:
    facts = [
        f"{_count(len(set(estimate.seen.times_s)))}{_spacing(estimate.seen)}",
        say("{n:,} of {limit:,} tokens", n=estimate.num_tokens, limit=estimate.limit_tokens),
        say("{size} of memory", size=_memory(estimate.need_gb)),
    ]
    if estimate.seconds is not None and estimate.fits and not ready:
        facts.append(say("first word after {time}", time=_duration(estimate.seconds)))
    return facts


def _warnings(estimate: Estimate) -> list[str]:
    if estimate.fits:
        if estimate.seen.every_s < 2.5:
            return []
        return [
            say(
                "What happens between two frames is not seen. For a closer look, choose a part of "
                "the video below, or allow more frames."
            )
        ]
    reason = say("that is more than the model reads at once")
    if estimate.need_gb > estimate.free_gb:
        need, free = _memory(estimate.need_gb), _memory(max(0, estimate.free_gb))
        reason = say("{need} are needed and {free} free", need=need, free=free)
    advice = say("Choose another model")
    if estimate.smaller:
        advice = say("Allow {n} frames", n=estimate.smaller)
    return [say("This does not fit: {reason}. {advice}.", reason=reason, advice=advice)]


def _spacing(seen: SeenFrames) -> str:
    if len(set(seen.times_s)) < 2:
        return ""
    every = seen.every_s
    return say(", one every {s} s", s=f"{every:.0f}" if every >= 10 else f"{every:.2g}")


def _count(number: int) -> str:
    return say("one frame") if number == 1 else say("{n:,} frames", n=number)


def _memory(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 0.95 else f"{gigabytes * 1000:.0f} MB"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return say("less than a second")
    if seconds < 90:
        return say("about {n:.0f} s", n=seconds)
    return say("about {n:.0f} minutes", n=seconds / 60)


def _jpeg(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
