"""Translatable texts: a template with named values."""

from collections.abc import Mapping, Sequence
from typing import Any


class Message(str):
    """English text that keeps its template for translation.

    Values that are messages are translated too; other values, such as file names, are not.
    Slices and joins are plain strings.

    Attributes:
        template: format string such as "{name} has {size:,.0f} MB"; the text itself if there are
            no values.
        values: values of the template by name.
    """

    template: str
    values: Mapping[str, object]

    def __new__(cls, template: str, /, **values: object) -> "Message":
        """Fill `values` into `template`; return a message without values unchanged."""
        if isinstance(template, Message) and not values:
            return template
        message = super().__new__(cls, template.format_map(values) if values else template)
        message.template, message.values = str(template), values
        return message

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self.template, self.values)


def _unpickle(template: str, values: Mapping[str, object]) -> Message:
    return Message(template, **values)


def joined(parts: Sequence[str], last: str = "{first}, {rest}") -> str:
    """Join one or more texts, each translated by itself, with a template of `first` and `rest`."""
    *earlier, text = parts
    for part in reversed(earlier):
        text = Message(last, first=part, rest=text)
    return text
