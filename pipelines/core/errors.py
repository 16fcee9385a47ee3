"""Errors whose messages are shown to visitors.

Each message is plain text: the expected value, the given value, the remedy. It holds no server
path and no traceback. `components.server.blocks.show_errors` delivers it to browsers and scripts.
"""

from pipelines.core.messages import Message


class PipelineError(Exception):
    """Error with a message for visitors.

    Attributes:
        title: heading of the notice, two or three words.
        message: one or two sentences of plain English text.
    """

    title = "Something went wrong"

    def __init__(self, template: str, /, *, title: str | None = None, **values: object) -> None:
        """Fill `values` into `template`, as `Message` does; `title` replaces the class's title."""
        self.message = Message(template, **values)
        super().__init__(self.message)
        self.title = title or type(self).title


class InputError(PipelineError):
    """The input is invalid; other input helps."""

    title = "Check your input"


class MediaError(PipelineError):
    """A file cannot be read or is too large."""

    title = "Cannot read this file"


class DecoderLost(MediaError):
    """A decoder process crashed or hung; the damaged part of the file is unknown."""


class WeightsError(PipelineError):
    """The weights of a model are missing, unreachable or invalid."""

    title = "Model not available"


class MemoryLimitError(PipelineError):
    """A model or a request exceeds the memory budget; the message states both."""

    title = "Not enough memory"


class ServerError(PipelineError):
    """The server of a remote model is unreachable or its response is invalid."""

    title = "Model server"


class NotBegunError(PipelineError):
    """The model of a batch is not available, so that a smaller batch does not help either."""

    title = "Model not available"


#: Maximum number of characters of a value in a message.
MAX_SHOWN = 60

#: Names of the JSON types in messages.
_TYPE_NAMES = {
    bool: Message("a yes or no"),
    int: Message("a number"),
    float: Message("a number"),
    str: Message("a text"),
    list: Message("a list"),
    dict: Message("an object"),
    type(None): Message("no value"),
}


def shown(value: object) -> str:
    """Return the `repr` of a value for a message, cut to `MAX_SHOWN` characters."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def shown_name(name: str) -> str:
    """Return a file name for a message: `MAX_SHOWN` characters without the middle, quoted."""
    half = MAX_SHOWN // 2
    return repr(name if len(name) <= MAX_SHOWN else f"{name[: half - 1]}…{name[-half:]}")


def type_name(value: object) -> str:
    """Return the name of a value's JSON type in words."""
    return _TYPE_NAMES.get(type(value), type(value).__name__)
