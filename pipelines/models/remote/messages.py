"""Pictures, questions and turns as the messages of a chat completion. Torch-free."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pipelines.core.errors import InputError
from pipelines.core.options import GenerationOptions
from pipelines.core.results import ContextUse
from pipelines.core.text import Turn, mend_surrogates
from pipelines.models.notes import cut_note, dropped_note, finish_notes
from pipelines.models.remote.stream import Reply

#: What a caption is asked for with, where the visitor gives no words.
DESCRIBE = "Describe this image in one sentence."

#: Longest side of a picture that is sent; larger ones are shrunk.
MAX_SIDE_PX = 1536

#: Up to so many pixels a picture is sent without loss.
_LOSSLESS_PIXELS = 512 * 512
_QUALITY = 92

#: Characters of a question, and of all earlier turns together, that are sent.
MAX_CHARS = 48_000

Part = dict[str, Any]
Message = dict[str, Any]

#: What may be left out of a request, step by step, when a server refuses it. The last step
#: names the limit as newer servers do.
STEPS = 4


def picture_part(image: Image.Image, max_side_px: int = MAX_SIDE_PX) -> Part:
    """Return an image in RGB as a part of a message; whatever else its file held is left out."""
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
    """Return a whole video file as a part of a message, as vLLM and SGLang take it."""
    return {"type": "video_url", "video_url": {"url": _data_url(media_type, io.BytesIO(data))}}


def text_part(text: str) -> Part:
    """Return a text as a part of a message."""
    return {"type": "text", "text": text}


def conversation(media: Sequence[Part], turns: Sequence[Turn], question: str) -> list[Message]:
    """Return the messages: the media stand in the first of them, before its question."""
    messages: list[Message] = []
    for turn in turns:
        messages += [
            {"role": "user", "content": turn.question},
            {"role": "assistant", "content": turn.answer},
        ]
    messages.append({"role": "user", "content": question})
    first = messages[0]
    said = [text_part(first["content"])] if first["content"] else []
    messages[0] = {"role": "user", "content": [*media, *said]}
    return messages


def recent(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return the latest turns that have no more than `MAX_CHARS` characters together."""
    room, kept = MAX_CHARS, list[Turn]()
    for turn in reversed(turns):
        room -= len(turn.question) + len(turn.answer)
        if room < 0:
            break
        kept.append(Turn(mend_surrogates(turn.question), mend_surrogates(turn.answer)))
    return tuple(reversed(kept))


def written(text: str) -> str:
    """Return what a person wrote as far as it is sent."""
    return mend_surrogates(text.strip()[:MAX_CHARS])


def request_body(
    model: str, messages: Sequence[Message], options: GenerationOptions, step: int
) -> dict[str, Any]:
    """Return the body of a request.

    Args:
        model: the server's name of it; "" leaves it to the server.
        messages: of the conversation.
        options: how the text is generated; beams are not among them.
        step: 0 with every option; 1 without what only adds to the answer, 2 without sampling
            too, 3 with the newer name of the limit.
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
    """What is sent of what a person wrote.

    Attributes:
        text: the question, or what is asked for in place of one.
        turns: earlier turns, oldest first.
        given_chars: characters that the person wrote.
        dropped_turns: turns that are not sent, the oldest ones.
    """

    text: str
    turns: tuple[Turn, ...] = ()
    given_chars: int = 0
    dropped_turns: int = 0

    @classmethod
    def of(cls, text: str, turns: Sequence[Turn] = ()) -> "Question":
        """Return what is sent of a text and the turns before it."""
        kept = recent(turns)
        return cls(written(text), kept, len(text.strip()), len(turns) - len(kept))

    def context(self, reply: Reply) -> ContextUse:
        """Return how much was read, as far as the server tells."""
        used, limit_tokens = reply.prompt_tokens or 0, reply.limit_tokens
        return ContextUse(
            used_tokens=min(used, limit_tokens) if limit_tokens else used,
            limit_tokens=limit_tokens if reply.prompt_tokens is not None else 0,
            dropped_turns=self.dropped_turns,
            read_chars=min(len(self.text), self.given_chars),
            given_chars=self.given_chars,
        )

    def notes(self, reply: Reply, context: ContextUse) -> tuple[str, ...]:
        """Return one sentence for each thing that a person may not expect."""
        notes = [cut_note(context.read_chars, context.given_chars)] if context.cut else []
        if self.dropped_turns:
            notes.append(dropped_note(self.dropped_turns))
        if reply.own_sampling:
            notes.append(
                "The model's server refused temperature, top_p and seed: it used its own, so the "
                "text may differ from time to time."
            )
        return (*notes, *finish_notes(reply.finish))


def check_beams(options: GenerationOptions) -> None:
    """Refuse what no server of chat completions does.

    Raises:
        InputError: beams are asked for.
    """
    if options.num_beams > 1:
        raise InputError(
            "A remote model does not search with beams. Set num_beams to 1, or choose a model of "
            "this machine."
        )
