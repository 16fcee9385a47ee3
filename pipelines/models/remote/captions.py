"""Captions, answers and conversations about images by a model on a server."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.compute.background import stream_work
from pipelines.core.cancel import NEVER, Cancelled, CancelToken
from pipelines.core.errors import InputError, MediaError, ServerError, type_name
from pipelines.core.options import GenerationOptions
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.core.text import read_history
from pipelines.media.images import open_image
from pipelines.models.captioner import (
    BATCH_SIZE,
    DEFAULTS,
    Description,
    History,
    ImageToTextModel,
    Picture,
    TextDelta,
    check_candidates,
)
from pipelines.models.remote.cancellation import run_cancellable
from pipelines.models.remote.client import ChatServer
from pipelines.models.remote.errors import RefusedByServer
from pipelines.models.remote.messages import (
    DESCRIBE,
    Question,
    check_beams,
    conversation,
    image_part,
)
from pipelines.models.remote.stream import Emit, Reply

#: Temperature of several captions of one image if the user gives none.
_VARIED = 1.0

#: Seconds between two attempts of a batch to send a further request.
_POLL_S = 0.02


class RemoteCaptioner(ImageToTextModel):
    """Image-to-text model on a server.

    Closing a stream closes the connection. Images are sent upright, in RGB, without metadata. Beam
    search raises InputError; other errors are those of `ImageToTextModel`.
    """

    def __init__(self, spec: ModelSpec, settings: Settings, server: ChatServer) -> None:
        self.spec = spec
        self.settings = settings
        self._server = server
        self._places = threading.Semaphore(server.remote.concurrency)

    def model_name(self, cancel: CancelToken = NEVER) -> str:
        """Return the server's name of the model, "" if it lists none or the wait was cancelled.

        Raises:
            ServerError: the server cannot be reached.
        """

        async def ask() -> str:
            async with self._server.client() as client:
                return (await self._server.model(client))[0]

        try:
            return run_cancellable(ask(), cancel)
        except Cancelled:
            return ""

    def iter_captions(
        self,
        images: Sequence[Picture],
        prompt: str = "",
        options: GenerationOptions = DEFAULTS,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Description | None]:
        """Caption images in parallel, with at most as many requests as the remote allows.

        Yields a description of each image, in order, with `error` set if it failed; None while
        waiting. `batch_size` has no effect, as each image is its own request.
        """
        question = self._caption_question(prompt, options)

        async def describe(client: Any, image: Picture) -> Description:
            async with self._place():
                return await self._described(client, image, question, options)

        return self._all([(describe, image) for image in images])

    def stream_caption(
        self, image: Path, prompt: str = "", options: GenerationOptions = DEFAULTS
    ) -> Iterator[TextDelta]:
        """Caption one image; yields the text as it arrives."""
        return self._stream(image, self._caption_question(prompt, options), options)

    def stream_chat(
        self,
        image: Path,
        message: str,
        history: History = None,
        options: GenerationOptions = DEFAULTS,
    ) -> Iterator[TextDelta]:
        """Answer the next message of a conversation about an image."""
        check_beams(options)
        if not isinstance(message, str):
            raise InputError("The question must be text but got {given}.", given=type_name(message))
        if not message.strip():
            raise InputError("The question is empty. Ask something about the image.")
        return self._stream(image, Question.of(message, read_history(history)), options)

    def iter_candidates(
        self, image: Path, n: int, options: GenerationOptions = DEFAULTS, prompt: str = ""
    ) -> Iterator[Description | None]:
        """Yield up to `n` (1..16) different captions, sampled with `seed`, `seed + 1`, ….

        Yields None while waiting. Temperature 0 would repeat one caption, so it becomes 1.
        """
        check_candidates(n)
        drawn = replace(options, num_beams=1, temperature=options.temperature or _VARIED)
        question = self._caption_question(prompt, drawn)
        opened = self._opened(image)

        async def describe(client: Any, seed: int) -> Description:
            async with self._place():
                return await self._described(client, opened, question, replace(drawn, seed=seed))

        seen: set[str] = set()
        for one in self._all([(describe, (options.seed + i) % 2**32) for i in range(n)]):
            if one is None:
                yield None
            elif not one.error and one.text not in seen:
                seen.add(one.text)
                yield one

    def _caption_question(self, prompt: str, options: GenerationOptions) -> Question:
        check_beams(options)
        if not isinstance(prompt, str):
            raise InputError("prompt must be text but got {given}.", given=type_name(prompt))
        return Question.of(prompt) if prompt.strip() else Question(DESCRIBE)

    def _opened(self, image: Picture) -> Image.Image:
        if isinstance(image, Path):
            return open_image(image, max_pixels=int(self.settings.max_pixels_mp * 1e6))
        return image

    def _stream(
        self, image: Path, question: Question, options: GenerationOptions
    ) -> Iterator[TextDelta]:
        def work(emit: Callable[[TextDelta], None], cancel: CancelToken) -> None:
            opened = self._opened(image)

            async def ask() -> Description:
                async with self._server.client() as client:
                    return await self._asked(
                        client, opened, question, options, lambda text: emit(TextDelta(text=text))
                    )

            emit(TextDelta(text="", result=run_cancellable(ask(), cancel)))

        for delta in stream_work(work):
            yield TextDelta(text="") if delta is None else delta

    async def _asked(
        self,
        client: Any,
        image: Image.Image,
        question: Question,
        options: GenerationOptions,
        emit: Emit | None = None,
    ) -> Description:
        messages = conversation([image_part(image)], question.turns, question.text)
        reply: Reply = await self._server.ask(client, messages, options, emit)
        context = question.context(reply)
        return Description(
            text=reply.text,
            model=self.spec.key,
            finish=reply.finish,
            context=context,
            notes=question.notes(reply, context),
        )

    async def _described(
        self, client: Any, image: Picture, question: Question, options: GenerationOptions
    ) -> Description:
        """Return the description of an image; an error of this image only becomes its `error`."""
        try:
            return await self._asked(client, self._opened(image), question, options)
        except (MediaError, RefusedByServer) as error:
            return Description(text="", model=self.spec.key, error=error.message, context=None)

    def _all(self, jobs: Sequence[tuple[Callable[..., Any], Any]]) -> Iterator[Description | None]:
        """Run jobs in parallel; yield their descriptions in order, None while waiting.

        A failure of the server is an error of its job only, as long as another job has a text.
        """

        async def work_all(emit: Callable[[Description], None]) -> None:
            async with self._server.client() as client:
                tasks = [asyncio.ensure_future(describe(client, what)) for describe, what in jobs]
                try:
                    made = await asyncio.gather(*tasks, return_exceptions=True)
                finally:
                    for task in tasks:
                        task.cancel()
            for one in self._settled(made):
                emit(one)

        def work(emit: Callable[[Description], None], cancel: CancelToken) -> None:
            run_cancellable(work_all(emit), cancel)

        return stream_work(work) if jobs else iter(())

    def _settled(self, made: Sequence[Description | BaseException]) -> Iterator[Description]:
        wrong = [one for one in made if isinstance(one, BaseException)]
        for error in wrong:
            if not isinstance(error, ServerError):
                raise error
        if wrong and not any(isinstance(one, Description) and not one.error for one in made):
            raise wrong[0]
        for one in made:
            if isinstance(one, ServerError):
                yield Description(text="", model=self.spec.key, error=one.message, context=None)
            elif isinstance(one, Description):
                yield one

    @asynccontextmanager
    async def _place(self) -> Any:
        """Wait until the remote allows one more request of a batch."""
        while not self._places.acquire(blocking=False):
            await asyncio.sleep(_POLL_S)
        try:
            yield
        finally:
            self._places.release()
