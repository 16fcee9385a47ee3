"""The language of a visitor, and what is said in it.

All texts are written in English where they are made. Here, at the border, they are turned into the
language that the visitor's browser asks for. `assets/languages/zh.json` maps each English text to
its translation; `{}` in a text stands for what is filled in, in a translation `{0}`, `{1}` … where
the order differs. A text that is missing stays English; a test finds it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, lru_cache
from html import escape
from html.parser import HTMLParser
from pathlib import Path

from pipelines.core.messages import Message

FOLDER = Path(__file__).parents[2] / "assets" / "languages"

#: Languages that the page speaks; the first is the one that all texts are written in.
LANGUAGES = ("en", "zh")

#: Attributes of HTML that people read.
READ = ("title", "alt", "placeholder", "aria-label")

#: Elements whose texts are no words.
AS_IS = ("code", "script", "style")

#: Longer texts are data, not words of ours.
LONGEST = 4000

#: A text with gaps and fewer letters than this says too little: its gaps must hold a number.
TELLING = 10

_language: ContextVar[str] = ContextVar("language", default=LANGUAGES[0])
_GAP = re.compile(r"\{\d*\}")
_BETWEEN = re.compile(r"(?<=[.!?…]) |\n+")
_LISTED = (" · ", "; ", " or ", ", ")
_VOID = frozenset(
    ("area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr")
)


def chosen_language(accepted: str) -> str:
    """Return the language to speak for the value of an `Accept-Language` header.

    Args:
        accepted: such as "zh-CN,zh;q=0.9,en;q=0.8"; anything else gives English.
    """
    best, best_weight = LANGUAGES[0], 0.0
    for part in accepted.split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            asked = float(weight) if weight else 1.0
        except ValueError:
            continue
        code = tag.split("-")[0].lower()
        if code in LANGUAGES and asked > best_weight:
            best, best_weight = code, asked
    return best


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Within it texts are said in this language, one of `LANGUAGES`."""
    token = _language.set(language)
    try:
        yield
    finally:
        _language.reset(token)


def language() -> str:
    """Return the language of the visitor who is being answered."""
    return _language.get()


def say(text: str, **values: object) -> str:
    """Return a text in the visitor's language, with `values` filled in; see `Message`."""
    message = Message(text, **values) if values else text
    return message if language() == LANGUAGES[0] else translator(language()).text(message)


def say_html(markup: str) -> str:
    """Return HTML whose texts and titles are in the visitor's language.

    What stands inside an element with `translate="no"`, or inside `code`, stays as it is.
    """
    return markup if language() == LANGUAGES[0] else translator(language()).html(markup)


@lru_cache
def translator(code: str) -> "Translator":
    """Return the translator into a language, one of `LANGUAGES` but the first."""
    return Translator(json.loads((FOLDER / f"{code}.json").read_text(encoding="utf-8")))


class Translator:
    """Turns texts into one language."""

    def __init__(self, table: Mapping[str, str]) -> None:
        """Keep a table of texts with `{}` for what is filled in, and their translations."""
        self.table = dict(table)

    @cached_property
    def _patterns(self) -> list[tuple[str, re.Pattern[str], str]]:
        """Texts with gaps, those with most words of their own first.

        Each is the longest of its words, which is looked for first since that is fast; a pattern
        of all; and its translation.
        """
        gapped = [text for text in self.table if _GAP.search(text)]
        gapped.sort(key=lambda text: len(_GAP.sub("", text)), reverse=True)
        found = []
        for text in gapped:
            parts = _GAP.split(text)
            letters = sum(letter.isalpha() for letter in "".join(parts))
            gap = "(.*?)" if letters >= TELLING else r"((?:(?! · ).)*?\d(?:(?! · ).)*?)"
            pattern = re.compile(gap.join(map(re.escape, parts)), re.DOTALL)
            found.append((max(parts, key=len), pattern, self.table[text]))
        return found

    def text(self, text: str) -> str:
        """Return a text in the language; as it is where it is not known.

        Nothing is remembered: many texts hold words of a visitor.
        """
        if isinstance(text, Message):
            return self._message(text)
        if not text or len(text) > LONGEST:
            return text
        return self._translated(text) or text

    def _message(self, message: Message) -> str:
        """Return the translated template with the values filled in, messages among them too."""
        template = self.table.get(message.template, message.template)
        values = {
            name: self._message(value) if isinstance(value, Message) else value
            for name, value in message.values.items()
        }
        return template.format_map(values) if values else template

    def _translated(self, text: str) -> str | None:
        """Return the translation of a text: known, filled in, or put together of known ones."""
        bare = text.strip()
        if not bare:
            return None
        whole = self.table.get(bare) or self._filled(bare)
        if whole is None:
            whole = self._sentences(bare) or self._listed(bare)
        return None if whole is None else text.replace(bare, whole)

    def _filled(self, text: str) -> str | None:
        for words, pattern, said in self._patterns:
            match = pattern.fullmatch(text) if words in text else None
            if match:
                values = [self._translated(value) or value for value in match.groups()]
                return _fill(said, values)
        return None

    def _sentences(self, text: str) -> str | None:
        """Return a text of several known sentences, the longest known beginning first."""
        for gap in reversed(list(_BETWEEN.finditer(text))):
            begun = text[: gap.start()]
            first = self.table.get(begun) or self._filled(begun)
            if first is not None:
                rest = text[gap.end() :]
                between = gap.group() if "\n" in gap.group() else ""
                return f"{first}{between}{self._translated(rest) or rest}"
        return None

    def _listed(self, text: str) -> str | None:
        """Return a list of which some items are known."""
        for comma in _LISTED:
            items = text.split(comma)
            said = [self._translated(item) if len(items) > 1 else None for item in items]
            if any(said):
                between = self.table.get(comma.strip(), comma)
                return between.join(s or item for s, item in zip(said, items, strict=True))
        return None

    def html(self, markup: str) -> str:
        """Return HTML with its texts and titles in the language."""
        reader = _Reader(self)
        reader.feed(markup)
        reader.close()
        return "".join(reader.written)


def _fill(said: str, values: list[str]) -> str:
    """Put values into the gaps of a translation: `{}` in their order, `{1}` by number."""
    following = iter(values)

    def value(gap: re.Match[str]) -> str:
        number = gap.group()[1:-1]
        return values[int(number)] if number else next(following)

    return _GAP.sub(value, said)


class _Reader(HTMLParser):
    """Writes HTML again as it was read, with the texts translated."""

    def __init__(self, translator: Translator) -> None:
        super().__init__(convert_charrefs=True)
        self.written: list[str] = []
        self._say = translator.text
        self._open: list[
            tuple[str, bool]
        ] = []  # elements, and whether their texts stay as they are

    @property
    def _kept(self) -> bool:
        return bool(self._open) and self._open[-1][1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        start = self.get_starttag_text() or ""
        kept = tag in AS_IS or {"no": True, "yes": False}.get(
            dict(attrs).get("translate") or "", self._kept
        )
        if not kept:
            for name, value in attrs:
                if name in READ and value:
                    start = _with_attribute(start, name, self._say(value))
        self.written.append(start)
        if tag not in _VOID and not start.endswith("/>"):
            self._open.append((tag, kept))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self.written.append(f"</{tag}>")
        if any(name == tag for name, _ in self._open):
            while self._open.pop()[0] != tag:
                continue

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] in ("script", "style"):
            self.written.append(data)
        else:
            self.written.append(escape(data if self._kept else self._say(data), quote=False))

    def handle_comment(self, data: str) -> None:
        self.written.append(f"<!--{data}-->")


def _with_attribute(start: str, name: str, value: str) -> str:
    """Return the start of an element with another value of an attribute that it has."""
    written = f'{name}="{escape(value)}"'
    return re.sub(
        rf"""(?<=\s){name}=("[^"]*"|'[^']*'|[^\s>]+)""", lambda _: written, start, count=1
    )
