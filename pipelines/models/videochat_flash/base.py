"""A question about a video, wherever its model runs. Torch-free."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.compute.background import stream_work
from pipelines.core.errors import InputError
from pipelines.core.options import GenerationOptions
from pipelines.models.videochat_flash.results import AnswerDelta
from pipelines.videochat_flash.part import WHOLE, Part

History = Sequence[Mapping[str, Any]] | None
DEFAULTS = GenerationOptions(max_new_tokens=256)

Emit = Callable[[AnswerDelta], None]
ShouldStop = Callable[[], bool]


class VideoAnswerer(ABC):
    """Holds conversations about videos."""

    def ask(
        self,
        video: Path,
        question: str,
        history: History = None,
        options: GenerationOptions = DEFAULTS,
        part: Part = WHOLE,
        *,
        compress: bool = False,
    ) -> Iterator[AnswerDelta]:
        """Answer the next question of a conversation about a video, piece by piece.

        Closing the stream ends the work.

        Args:
            video: a video file.
            question: what is asked now.
            history: earlier messages, `{"role": "user" or "assistant", "content": text}`, oldest
                first.
            options: how the text is generated.
            part: what of the video is looked at.
            compress: skim the video, where the model can: faster on long ones.

        Yields:
            Deltas, the last one with the `VideoAnswer`; empty ones as signs of life.

        Raises:
            InputError: no question, a history of another form, a part that is not in the video,
                or what the model does not do.
            MediaError: the file is not a video that can be read, or too long.
            ServerError: the server of a remote model gives no answer.
        """
        if not isinstance(question, str) or not question.strip():
            raise InputError("The question is empty. Ask something about the video.")
        work = self._asked(video, question, history, options, part, compress)
        for delta in stream_work(work):
            yield AnswerDelta() if delta is None else delta

    @abstractmethod
    def _asked(
        self,
        video: Path,
        question: str,
        history: History,
        options: GenerationOptions,
        part: Part,
        compress: bool,
    ) -> Callable[[Emit, ShouldStop], None]:
        """Return the work of answering, which ends soon once it is told to.

        Raises:
            InputError: what is asked for cannot be.
        """
