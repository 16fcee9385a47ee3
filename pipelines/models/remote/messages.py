"""Messages of a chat completion: images, videos, questions, earlier turns."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pipelines.core.errors import InputError
from pipelines.core.options import GenerationOptions
from pipelines.core.results import ContextUse
from pipelines.core.text import Turn, latest_turns, replace_surrogates
from pipelines.models.notes import answer_notes
from pipelines.models.remote.stream import Reply

#: Prompt of a caption if the user gives none.
DESCRIBE = "Describe this image in one sentence."

#: Longest side of an image that is sent; larger ones are reduced.
MAX_SIDE_PX = 1536

#: Most pixels of an image that is sent without loss, and the JPEG quality of larger ones.
_LOSSLESS_PIXELS = 512 * 512
_QUALITY = 92

#: Most characters of a question, and of all earlier turns together.
MAX_CHARS = 48_000

Part = dict[str, Any]
Message = dict[str, Any]

#: Number of forms of a request, tried in turn while a server refuses it; see `request_body`.
STEPS = 4


def image_part(image: Image.Image, max_side_px: int = MAX_SIDE_PX) -> Part:
    """Return an image as a part of a message: RGB pixels without metadata."""
    longest = max(image.size)
    if longest > max_side_px:
        size = [max(1, round(side * max_side_px / longest)) for side in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.BICUBIC, reducing_gap=2.0)
    lossless = image.width * image.height <= _LOSSLESS_PIXELS
    kind, buffer = ("PNG" if lossless else "JPEG"), io.BytesIO()
    Image.frombytes("RGB", image.size, image.convert("RGB").tobytes()).save(
        buffer, kind, quality=_QUALITY
    )
    return {"type": "image_url", "image_url": {"url": _data_url(f"image/{kind.lower()}", buffer)}}


def video_part(data: bytes, media_type: str) -> Part:
    """Return a whole video file as a part of a message, in the form of vLLM and SGLang."""
    return {"type": "video_url", "video_url": {"url": _data_url(media_type, io.BytesIO(data))}}


def text_part(text: str) -> Part:
    """Return a text as a part of a message."""
    return {"type": "text", "text": text}


def conversation(media: Sequence[Part], turns: Sequence[Turn], question: str) -> list[Message]:
    """Return the messages; the first one begins with the media."""
    messages: list[Message] = []
    for turn in turns:
        messages += [
            {"role": "user", "content": turn.question},
            {"role": "assistant", "content": turn.answer},
        ]
    messages.append({"role": "user", "content": question})
    first = messages[0]
    text = [text_part(first["content"])] if first["content"] else []
    messages[0] = {"role": "user", "content": [*media, *text]}
    return messages


def request_body(
    model: str, messages: Sequence[Message], options: GenerationOptions, step: int
) -> dict[str, Any]:
    """Return the body of a request.

    `model` "" leaves the choice to the server; `options.num_beams` is not sent. Step 0 sends every
    option, 1 leaves out the request for token counts, 2 also temperature, top_p and seed; 3 uses
    the newer name of the token limit as well.
    """
    body: dict[str, Any] = {"messages": list(messages), "stream": True}
    if model:
        body["model"] = model
    body["max_completion_tokens" if step == 3 else "max_tokens"] = options.max_new_tokens
    if step < 2:
        body["temperature"] = options.temperature
        if options.temperature > 0.0:
            body |= {"top_p": options.top_p, "seed": options.seed}
    if step == 0:
        body["stream_options"] = {"include_usage": True}
    return body


def _data_url(media_type: str, buffer: io.BytesIO) -> str:
    return f"data:{media_type};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


@dataclass(frozen=True)
class Question:
    """Question, or default prompt, and earlier turns, cut to the length that is sent.

    `given_chars` is the length of what the user wrote, `dropped_turns` the number of the oldest
    turns that are not sent.
    """

    text: str
    turns: tuple[Turn, ...] = ()
    given_chars: int = 0
    dropped_turns: int = 0

    @classmethod
    def of(cls, text: str, turns: Sequence[Turn] = ()) -> "Question":
        """Cut a question and the turns before it."""
        kept = [
            Turn(replace_surrogates(turn.question), replace_surrogates(turn.answer))
            for turn in latest_turns(turns, MAX_CHARS)
        ]
        text = text.strip()
        sent = replace_surrogates(text[:MAX_CHARS])
        return cls(sent, tuple(kept), len(text), len(turns) - len(kept))

    def context(self, reply: Reply) -> ContextUse:
        """Return the use of the context, as far as the server reports it."""
        used, limit_tokens = reply.prompt_tokens or 0, reply.limit_tokens
        return ContextUse(
            used_tokens=min(used, limit_tokens) if limit_tokens else used,
            limit_tokens=limit_tokens if reply.prompt_tokens is not None else 0,
            dropped_turns=self.dropped_turns,
            read_chars=min(len(self.text), self.given_chars),
            given_chars=self.given_chars,
        )

    def notes(self, reply: Reply, context: ContextUse) -> tuple[str, ...]:
        """Return a sentence on each thing that the user may not expect."""
        own = (
            "The model's server refused temperature, top_p and seed: it used its own, so the "
            "text may differ from time to time."
        )
        return tuple(answer_notes(context, reply.finish, [own] * reply.own_sampling))


def check_beams(options: GenerationOptions) -> None:
    """Reject beam search, which chat completions do not offer.

    Raises:
        InputError: `num_beams` is greater than 1.
    """
    if options.num_beams > 1:
        raise InputError(
            "A remote model does not search with beams. Set num_beams to 1, or choose a model of "
            "this machine."
        )
