"""The one place that turns an error into what people see."""

import functools
import inspect
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import gradio as gr

from pipelines.errors import PipelineError

log = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Any])


def show_errors(handler: Handler) -> Handler:
    """Show the error family as it stands, anything else as an internal error with a reference.

    A browser gets a toast, a script an `AppError` with the same title and text. Generators stay
    generators: a plain wrapper would hand the client the generator object itself.
    """
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with _translated():
                yield from handler(*args, **kwargs)

        return stream  # type: ignore[return-value]

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _translated():
            return handler(*args, **kwargs)

    return call  # type: ignore[return-value]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except PipelineError as error:
        raise gr.Error(error.message, title=error.title, print_exception=False) from error
    except Exception as error:
        reference = secrets.token_hex(4)
        log.exception("Internal error, reference %s", reference)
        raise gr.Error(
            f"This is a fault of SeeSay, not of your input. Try again; if it stays, report it "
            f"with the reference {reference}, which the server's log explains.",
            title="Internal error",
            print_exception=False,
        ) from error
