"""What every image-to-text model answers, wherever it runs, told from its streams. Torch-free."""

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
    """What a model says about one image.

    Attributes:
        text: the text, without prompt or question; empty where `error` is set.
        model: key of the model.
        finish: why the text ended.
        context: how much was read, or None where `error` is set.
        notes: what a person should know about this text, one sentence each.
        error: why there is no text, or "".
    """

    text: str
    model: str
    finish: Finish = "end"
    context: ContextUse | None = None
    notes: tuple[str, ...] = ()
    error: str = ""

    def __post_init__(self) -> None:
        """Check that there is either a text with its context or an error."""
        if bool(self.error) == (self.context is not None) or (self.error and self.text):
            raise ValueError("a description holds either a text and its context or an error")


@dataclass(frozen=True, kw_only=True)
class TextDelta:
    """A piece of a text as it is made; joined in order the pieces are the text.

    Attributes:
        text: the next piece; may be empty in the last delta.
        result: the whole, in the last delta only.
    """

    text: str
    result: Description | None = None


#: Most texts of one call of `candidates`.
MAX_CANDIDATES = 16

#: An image file, or an image in RGB.
Picture = Path | Image.Image

#: Images through the model at once, where nobody says otherwise.
BATCH_SIZE = 8

History = Sequence[Mapping[str, Any]] | None
DEFAULTS = GenerationOptions()


class ImageToTextModel(ABC):
    """Captions, answers and conversations about images.

    The streams are the primitive: each yields `TextDelta`s whose texts join to the text, the last
    one with the `Description`; closing a stream ends the work.
    """

    def caption(
        self,
        images: Sequence[Picture],
        prompt: str = "",
        options: GenerationOptions = DEFAULTS,
        batch_size: int = BATCH_SIZE,
    ) -> list[Description]:
        """Describe images, all with the same prompt.

        Args:
            images: image files, or images in RGB that were opened before.
            prompt: words that the caption goes on from, or an instruction, as the model takes it.
            options: how the text is generated.
            batch_size: images that the model is given at once; a server is asked one by one.

        Returns:
            A description for each image, in order; a file that cannot be read is one with
            `error` set.

        Raises:
            PipelineError: as `iter_captions` does.
        """
        made = self.iter_captions(images, prompt, options, batch_size)
        return [one for one in made if one is not None]

    @abstractmethod
    def iter_captions(
        self,
        images: Sequence[Picture],
        prompt: str = "",
        options: GenerationOptions = DEFAULTS,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Description | None]:
        """Describe images as `caption` does, in order; None is a sign of life."""

    @abstractmethod
    def stream_caption(
        self, image: Path, prompt: str = "", options: GenerationOptions = DEFAULTS
    ) -> Iterator[TextDelta]:
        """Describe one image, piece by piece."""

    def answer(
        self, image: Path, question: str, options: GenerationOptions = DEFAULTS
    ) -> Description:
        """Answer a question about an image; raises as `stream_answer` does."""
        return _last(self.stream_answer(image, question, options))

    @abstractmethod
    def stream_answer(
        self, image: Path, question: str, options: GenerationOptions = DEFAULTS
    ) -> Iterator[TextDelta]:
        """Answer a question about an image, piece by piece."""

    def chat(
        self,
        image: Path,
        message: str,
        history: History = None,
        options: GenerationOptions = DEFAULTS,
    ) -> Description:
        """Answer the next message of a conversation; raises as `stream_chat` does."""
        return _last(self.stream_chat(image, message, history, options))

    @abstractmethod
    def stream_chat(
        self,
        image: Path,
        message: str,
        history: History = None,
        options: GenerationOptions = DEFAULTS,
    ) -> Iterator[TextDelta]:
        """Answer the next message of a conversation about an image, piece by piece.

        Args:
            image: the image file.
            message: what is said now.
            history: earlier messages, `{"role": "user" or "assistant", "content": text}`, oldest
                first; what does not fit into the model's context is left out, oldest first.
            options: how the text is generated.
        """

    def candidates(
        self, image: Path, n: int, options: GenerationOptions = DEFAULTS, prompt: str = ""
    ) -> list[Description]:
        """Return up to `n` different captions of an image; see `iter_candidates`."""
        found = self.iter_candidates(image, n, options, prompt)
        return [one for one in found if one is not None]

    @abstractmethod
    def iter_candidates(
        self, image: Path, n: int, options: GenerationOptions = DEFAULTS, prompt: str = ""
    ) -> Iterator[Description | None]:
        """Yield up to `n` different captions of an image; None is a sign of life."""


def check_candidates(n: object) -> None:
    """Refuse a number of captions to choose from that is none.

    Raises:
        InputError: it is not within 1..`MAX_CANDIDATES`.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_CANDIDATES:
        raise InputError(
            "n must be a whole number from 1 to {limit} but got {given}.",
            limit=MAX_CANDIDATES,
            given=shown(n),
        )


def _last(deltas: Iterator[TextDelta]) -> Description:
    """Return the result of a stream."""
    result = None
    for delta in deltas:
        result = delta.result
    assert result is not None  # every stream that does not raise ends with one
    return result
