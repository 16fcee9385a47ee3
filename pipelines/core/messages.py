"""Texts that people read, kept as a template with named values so that they can be translated."""

from collections.abc import Mapping, Sequence
from typing import Any


class Message(str):
    """English text of a template; for everything but a translation a plain string.

    Values that are messages themselves are translated with it. Other values, such as names of
    files and what a visitor typed, never are. Slices and joins are plain strings.

    Attributes:
        template: a format string such as "{name} has {size:,.0f} MB"; without values the text as
            it stands.
        values: what is filled in, by name.
    """

    template: str
    values: Mapping[str, object]

    def __new__(cls, template: str, /, **values: object) -> "Message":
        """Fill `values` into `template`; a message without further values stays as it is."""
        if isinstance(template, Message) and not values:
            return template
        made = super().__new__(cls, template.format_map(values) if values else template)
        made.template, made.values = str(template), values
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the template and the values."""
        return _made, (self.template, self.values)


def _made(template: str, values: Mapping[str, object]) -> Message:
    return Message(template, **values)


def joined(parts: Sequence[str], last: str = "{first}, {rest}") -> str:
    """Return texts as a list, each translated by itself.

    Args:
        parts: at least one.
        last: template of two parts, `first` and `rest`.
    """
    *earlier, text = parts
    for part in reversed(earlier):
        text = Message(last, first=part, rest=text)
    return text
