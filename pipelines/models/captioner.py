"""Interface and results of all image-to-text models, local and remote."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.core.errors import InputError, shown
from pipelines.core.options import GenerationOptions
from pipelines.core.results import ContextUse, Finish


@dataclass(frozen=True, kw_only=True)
class Description:
    """A text about one image, by the model with the key `model`.

    Attributes:
        text: without prompt or question; empty if `error`, the reason, is set.
        context: how much was read; None if `error` is set.
        notes: hints for the person who asked, one sentence each.
    """

    text: str
    model: str
    finish: Finish = "end"
    context: ContextUse | None = None
    notes: tuple[str, ...] = ()
    error: str = ""

    def __post_init__(self) -> None:
        if bool(self.error) == (self.context is not None) or (self.error and self.text):
            raise ValueError("a description holds either a text and its context or an error")


@dataclass(frozen=True, kw_only=True)
class TextDelta:
    """A piece of a text being generated; the last one, perhaps empty, has the complete result."""

    text: str
    result: Description | None = None


#: Largest `n` of `iter_candidates`.
MAX_CANDIDATES = 16

#: An image file, or an image in RGB.
Picture = Path | Image.Image

#: Default number of images per batch.
BATCH_SIZE = 8

History = Sequence[Mapping[str, Any]] | None
DEFAULTS = GenerationOptions()


class ImageToTextModel(ABC):
    """Captions, answers and conversations about images.

    A stream yields `TextDelta`s, the last one with the `Description`; closing it ends the work. The
    `iter_` methods yield None several times a second so that they can be closed between results.
    Errors: InputError for an empty question, a malformed history or a task that the model does not
    have; MediaError for an unreadable image; ServerError where a remote model gives no answer.
    """

    def caption(
        self,
        images: Sequence[Picture],
        prompt: str = "",
        options: GenerationOptions = DEFAULTS,
        batch_size: int = BATCH_SIZE,
    ) -> list[Description]:
        """Return a description of each image, all with the same prompt, in order.

        The prompt is the beginning of the caption or an instruction, depending on the model. An
        unreadable file has a description with `error` set. `batch_size` is for local models; a
        server gets one image per request.
        """
        results = self.iter_captions(images, prompt, options, batch_size)
        return [result for result in results if result is not None]

    @abstractmethod
    def iter_captions(
        self,
        images: Sequence[Picture],
        prompt: str = "",
        options: GenerationOptions = DEFAULTS,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Description | None]:
        """Caption images as `caption` does, in order, batch by batch."""

    @abstractmethod
    def stream_caption(
        self, image: Path, prompt: str = "", options: GenerationOptions = DEFAULTS
    ) -> Iterator[TextDelta]:
        """Caption one image."""

    def chat(
        self,
        image: Path,
        message: str,
        history: History = None,
        options: GenerationOptions = DEFAULTS,
    ) -> Description:
        """Answer the next message of a conversation; see `stream_chat`."""
        *_, last = self.stream_chat(image, message, history, options)
        assert last.result is not None  # every stream that does not raise ends with one
        return last.result

    @abstractmethod
    def stream_chat(
        self,
        image: Path,
        message: str,
        history: History = None,
        options: GenerationOptions = DEFAULTS,
    ) -> Iterator[TextDelta]:
        """Answer a question or the next message of a conversation about an image.

        `history` has earlier messages, `{"role": "user" or "assistant", "content": text}`, oldest
        first; the oldest are dropped if the context is too small.
        """

    @abstractmethod
    def iter_candidates(
        self, image: Path, n: int, options: GenerationOptions = DEFAULTS, prompt: str = ""
    ) -> Iterator[Description | None]:
        """Yield up to `n` (1..16) different captions, best first for a beam search."""


def check_candidates(n: object) -> None:
    """Check a number of candidate captions.

    Raises:
        InputError: not an integer within 1..`MAX_CANDIDATES`.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_CANDIDATES:
        raise InputError(
            "n must be a whole number from 1 to {limit} but got {given}.",
            limit=MAX_CANDIDATES,
            given=shown(n),
        )
