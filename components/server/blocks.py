"""Gradio's blocks with guarded requests and plain error messages."""

import functools
import inspect
import logging
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import gradio as gr

from components.server.gradio_internals import (
    ComponentProcessingError,
    event_of,
    queue_of,
    set_queue,
)
from components.server.queue import FairQueue, is_agent
from components.server.rate_limit import AccessRules, RequestRefused
from components.server.translate import TranslatedBlocks, chosen_language, say, speaking
from components.server.uploads import Links, Uploads
from pipelines.core.errors import MediaError, PipelineError
from pipelines.core.settings import Settings
from pipelines.core.visitor import current_visitor

log = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Any])


def show_errors(handler: Handler) -> Handler:
    """Show a `PipelineError` with its message, others as internal errors with a reference.

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
        raise said_error(error.message, error.title) from error
    except Exception as error:
        reference = secrets.token_hex(4)
        log.exception("Internal error, reference %s", reference)
        raise said_error(
            "This is a fault of SeeSay, not of your input. Try again; if it stays, report it with "
            "the reference {reference}, which the server's log explains.",
            "Internal error",
            reference=reference,
        ) from error


def said_error(message: str, title: str, **values: object) -> gr.Error:
    """Return an error in the visitor's language, for a toast or a script."""
    return gr.Error(say(message, **values), title=say(title), print_exception=False)


def with_defaults(event: Any, inputs: list[Any]) -> list[Any]:
    """Return the inputs of a public endpoint with the defaults of those left out at the end.

    The Python client fills them in by itself; what posts a bare list does not, and would stop
    working whenever an endpoint gains a parameter. Where a required argument is missing the
    inputs stay as they are, and are refused. `event` is Gradio's block function.
    """
    if getattr(event, "api_visibility", "") != "public":
        return inputs
    left_out = list(inspect.signature(event.fn).parameters.values())[len(inputs) :]
    if any(one.default is inspect.Parameter.empty for one in left_out):
        return inputs
    return [*inputs, *(one.default for one in left_out)]


def _not_offered(told: str) -> str:
    """Return a message on the value of a field, which Gradio's own message repeats."""
    if re.search("is not in the list", told):
        return (
            "A field holds something that is not in its list, perhaps because the answer that it "
            "belongs to is gone. Choose from its list; for a label, press Classify again first."
        )
    return (
        "A field holds something that it does not take, such as a number out of its range. Change "
        "it and try again."
    )


class Page(TranslatedBlocks):
    """Blocks that answer in one sentence where Gradio itself refuses a request.

    Gradio checks arguments and opens files before a handler is called. Its errors there would not
    reach a browser, and a script as advice to the server's owner.
    """

    #: Guards of requests, uploads and links; `build_app` sets those of the settings.
    rules = AccessRules()
    uploads = Uploads(Settings())
    links = Links(Settings())

    def queue(self, *args: Any, **kwargs: Any) -> "Page":
        """Queue requests as `gradio.Blocks.queue` does, with fair turns for visitors."""
        super().queue(*args, **kwargs)
        set_queue(self, FairQueue.of(queue_of(self)))
        return self

    async def process_api(  # type: ignore[override]
        self,
        block_fn: Any,
        inputs: list[Any],
        state: Any = None,
        request: Any = None,
        iterator: Any = None,
        **rest: Any,
    ) -> dict[str, Any]:
        """Answer a request within the rules, in the language of its sender."""
        visitor = None if is_agent(request) else getattr(request, "session_hash", None)
        current_visitor.set(visitor)
        headers = getattr(request, "headers", None) or {}
        with speaking(chosen_language(headers.get("accept-language", ""))):
            if iterator is None:
                if state is not None:  # its page was taken for closed while the device slept
                    state.is_closed = False
                if self.rules.limit or self.rules.closing.is_set():
                    self._admit(block_fn, request)
            return await super().process_api(
                block_fn, inputs, state, request, iterator=iterator, **rest
            )

    def _admit(self, block_fn: Any, request: Any) -> None:
        host = getattr(getattr(request, "client", None), "host", "")
        try:
            self.rules.admit(host, event_of(self, block_fn).concurrency_id)
        except RequestRefused as refused:
            raise said_error(refused.message, refused.title) from refused

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Check and convert the inputs of a request."""
        event, inputs = args[0], args[1]
        if len(inputs) < len(event.inputs):
            inputs = with_defaults(event, inputs)
        try:
            inputs = await self.links.fetched(inputs, self.local_url)
            return await super().preprocess_data(event, inputs, *args[2:], **kwargs)
        except PipelineError as error:
            raise said_error(error.message, error.title) from error
        except gr.Error as error:  # its message repeats the input, and would be logged
            raise said_error(_not_offered(error.message), "Check your input") from error
        except ComponentProcessingError as error:
            wrong = await self._image_error(event, inputs)
            raise said_error(wrong.message, wrong.title) from error
        except Exception as error:
            raise said_error(
                "This request lacks an argument, or names a file that was not uploaded to this "
                "app or a link that cannot be fetched. Give every required argument, and send "
                "files with gradio_client's handle_file().",
                "Check your input",
            ) from error

    async def _image_error(self, event: Any, inputs: list[Any]) -> PipelineError:
        pairs = zip(event.inputs, inputs, strict=False)
        images = [value for block, value in pairs if isinstance(block, gr.Image) and value]

        def check() -> None:
            for image in images:
                self.uploads.check_image(image, "The picture")

        try:
            await anyio.to_thread.run_sync(check)
        except PipelineError as error:
            return error
        except MemoryError:
            log.warning("An image that gradio could not open takes too much memory")
        return MediaError(
            "The file is not an image that can be read, or it is damaged or far too large. "
            "Expected a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF file."
        )
