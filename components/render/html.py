"""HTML of results: a macro of `templates/`, filled in with every value escaped."""

import re
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from components.server.translate import say
from pipelines.core.messages import Message
from pipelines.core.results import Verdict

#: Class of the pill and the cell that show a verdict.
PILLS: dict[Verdict, str] = {"match": "yes", "unsure": "maybe", "no match": "no"}


def paragraph(text: str, kind: str = "empty") -> Message:
    """Return a text of ours in a paragraph of a class, to be translated when it is sent."""
    return Message("<p class='{kind}'>{text}</p>", kind=kind, text=Message(text))


def percent(share: float) -> str:
    """Return a share, 0..1, as a percentage."""
    return "< 0.1 %" if 0 < share < 0.001 else f"{share * 100:.1f} %"


def clock(seconds: float, *, tenths: bool = True) -> str:
    """Return a time as a clock: 1:05.3, or 1:02:03.4 from an hour on."""
    units = round(seconds * 10) if tenths else round(seconds) * 10
    minutes, rest = divmod(units, 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{rest / 10:04.1f}" if tenths else f"{rest // 10:02d}"
    return f"{hours}:{minutes:02d}:{shown}" if hours else f"{minutes}:{shown}"


def cut(text: str, longest: int) -> str:
    """Return a text of at most `longest` characters, the last an ellipsis where it is cut."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def jpeg_url(data: bytes) -> str:
    """Return a JPEG file as a data URL."""
    return f"data:image/jpeg;base64,{b64encode(data).decode('ascii')}"


class _JoinLines(Extension):
    """Drops line ends and indentation of templates; the spaces within a line stay."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        for token in stream:
            text = re.sub(r"\s*\n\s*", "", token.value) if token.type == "data" else token.value
            yield Token(token.lineno, token.type, text)


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    extensions=[_JoinLines],
)
TEMPLATES.filters.update(clock=clock, cut=cut, jpeg_url=jpeg_url, percent=percent, say=say)
TEMPLATES.globals.update(say=say, PILLS=PILLS)


def render(name: str, **values: Any) -> str:
    """Return the HTML of a macro, such as "scores.ranking_table"; text in `values` is escaped."""
    template, _, macro = name.partition(".")
    return str(getattr(TEMPLATES.get_template(f"{template}.html").module, macro)(**values))
