"""The language of a visitor, and what is said in it.

Texts are written in English. Here, at the border, they are turned into the language that the
visitor's browser asks for: `assets/languages/zh.json` maps each template of a message, and each
text without values, to its translation, which names the same values. A text that is missing stays
English; a test finds it.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path

from pipelines.core.messages import Message

FOLDER = Path(__file__).parents[2] / "assets" / "languages"

#: Languages of the page; the first is the one that all texts are written in.
LANGUAGES = ("en", "zh")

_language: ContextVar[str] = ContextVar("language", default=LANGUAGES[0])


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
    """Return a text in the visitor's language, with `values` filled in.

    Args:
        text: a `Message`, or the template of one, or a text without values.
        values: what is filled into a template, by name; messages among them are translated too.
    """
    message = Message(text, **values)
    return message if language() == LANGUAGES[0] else translated(message, table(language()))


@lru_cache
def table(code: str) -> Mapping[str, str]:
    """Return the translations into a language, one of `LANGUAGES` but the first, by template."""
    found: Mapping[str, str] = json.loads((FOLDER / f"{code}.json").read_text(encoding="utf-8"))
    return found


def translated(message: Message, texts: Mapping[str, str]) -> str:
    """Return a message with its template, and those of its values, looked up in `texts`."""
    template = texts.get(message.template, message.template)
    if not message.values:
        return template
    values = {
        name: translated(value, texts) if isinstance(value, Message) else value
        for name, value in message.values.items()
    }
    return template.format_map(values)
