"""Times in an answer as links that move the player. Pure functions.

The page's script (`assets/page.js`) knows a link to `#t=12.5` as the 12.5th second of the video
beside it. A text is written as Markdown in which nothing but these links means anything, and can
be read back from it.
"""

import re
from dataclasses import dataclass

#: What has a meaning in Markdown or HTML, wherever it stands.
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&$@])")
_ADDRESS = re.compile(r"(?i)(https?|ftp)(://)|(www)(\.)")
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
    """A time that a text names.

    Attributes:
        start: where its words start in the text.
        end: where they end.
        seconds: the time.
    """

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

    Args:
        text: what to write.
        video_end_s: when the video ends on its player's clock; before 0 there are no links.
        counted_from_s: when on that clock the text's second 0 is.
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
    text = _ADDRESS.sub(_broken_address, text)
    head, line_end, rest = text.partition("\n")
    if first:
        head = _LINE_START.sub(_plain_start, head, count=1)
    return head + line_end + (_LINE_START.sub(_plain_start, rest) if line_end else "")


def _broken_address(match: re.Match[str]) -> str:
    return f"{match[1]}\\{match[2]}" if match[1] else f"{match[3]}\\{match[4]}"


def _plain_start(match: re.Match[str]) -> str:
    blank = match[1].replace(" ", "&#32;").replace("\t", "&#9;")
    mark = match[2] or ""
    if mark.isdigit():
        return f"{blank}{mark}\\"
    return f"{blank}\\{mark}" if mark else blank
