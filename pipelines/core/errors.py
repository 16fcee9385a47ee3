"""The error family that is shown to people as it stands.

Every message is plain text and says what was expected, what came and what to do; it never holds
a path of the server or a traceback. `components.server.blocks.show_errors` turns
these into what a browser or a script receives.
"""

from pipelines.core.messages import Message


class PipelineError(Exception):
    """Something a visitor should read.

    Attributes:
        title: two or three words, the heading of the notice.
        message: one or two sentences of plain text, in English; a translation knows its template.
    """

    title = "Something went wrong"

    def __init__(self, template: str, /, *, title: str | None = None, **values: object) -> None:
        """Make the message, and keep a title more exact than the class's own where one is given.

        Args:
            template: of the message, as `Message` takes it.
            title: heading of the notice.
            values: what is filled into the template, by name.
        """
        self.message = Message(template, **values)
        super().__init__(self.message)
        self.title = title or type(self).title


class InputError(PipelineError):
    """The visitor can mend it by giving other input."""

    title = "Check your input"


class MediaError(PipelineError):
    """A file cannot be read as what it should be, or is too large."""

    title = "Cannot read this file"


class DecoderLost(MediaError):
    """The process that read a file crashed or hung; what of the file is damaged is not known."""


class WeightsError(PipelineError):
    """The weights of a model cannot be had: missing, unreachable, or not what they should be."""

    title = "Model not available"


class MemoryLimitError(PipelineError):
    """A model or a request needs more memory than there is; the message states need and budget."""

    title = "Not enough memory"


class ServerError(PipelineError):
    """The server of a remote model cannot be reached, or answers something else than a text."""

    title = "Model server"


class NotBegunError(PipelineError):
    """A batch cannot have its model, so that a smaller batch would not help; says why."""

    title = "Model not available"


#: Most characters of a value that a message repeats.
MOST_SHOWN = 60

#: What a value of JSON is called.
_KINDS = {
    bool: Message("a yes or no"),
    int: Message("a number"),
    float: Message("a number"),
    str: Message("a text"),
    list: Message("a list"),
    dict: Message("an object"),
    type(None): Message("no value"),
}


def shown(value: object) -> str:
    """Return a value as a message repeats it: as it would be typed, and not too long."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"


def kind_of(value: object) -> str:
    """Return what kind of value came, in words."""
    return _KINDS.get(type(value), type(value).__name__)
