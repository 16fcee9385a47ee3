"""Preprocessing of frames and texts as in the training of VideoChat-Flash.

Source: the checkpoints' `mm_utils.py`, `conversation.py` and `modeling_videochat_flash.py`, which
OpenGVLab/VideoChat-Flash@2f8e2f5 mirrors; licence and differences: NOTES.md.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipelines.core.errors import InputError
from pipelines.core.messages import Message
from pipelines.core.results import ContextUse
from pipelines.core.text import Turn, longest_beginning, replace_surrogates
from pipelines.models.videochat_flash.kv_cache import VISUAL

#: Place of a video or image in a prompt.
IMAGE_MARK = "<image>"

SYSTEM_TEXT = "You are a helpful assistant."
_START, _END = "<|im_start|>", "<|im_end|>"

#: Per channel, RGB, of values in 0..1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class FrameChoice:
    """Chosen frames of a video, from 0, the last perhaps repeated, and the duration of the part."""

    indices: tuple[int, ...]
    duration_s: float

    @property
    def message(self) -> str:
        """The time message of the prompt; repeated frames count."""
        return time_message(self.duration_s, len(self.indices))


def choose_frames(
    total_frames: int,
    fps: float,
    *,
    max_num_frames: int = 512,
    min_num_frames: int = 64,
    start_s: float | None = None,
    end_s: float | None = None,
) -> FrameChoice:
    """Choose frames evenly: about one a second, in multiples of 8, from 64 to 512 if possible.

    A video of fewer than 8 frames repeats its last one.

    Args:
        total_frames: frames of the file.
        fps: average frames per second.
        max_num_frames: upper limit, 0 or less for none; as in the reference, a limit below
            `min_num_frames` gives way to it.
        min_num_frames: least number even of a short video, as far as it has them.
        start_s: start of the part, or None.
        end_s: end of the part, or None; at most a tenth of a second before the end of the video.

    Raises:
        InputError: there is no frame in the part.
    """
    duration, first = total_frames / fps if fps > 0 else 0.0, 0
    if duration > 0 and (start_s is not None or end_s is not None):
        start = max(0.0, start_s or 0.0)
        end = duration - 0.1 if end_s is None else min(duration - 0.1, end_s)
        duration = end - start
        total_frames, first = int(duration * fps), int(start * fps)
    if total_frames < 1 or duration <= 0:
        raise InputError(
            "There is no frame in this part of the video. Choose a longer part, within the video."
        )
    wanted = 8 * max(1, int(total_frames / fps / 8))
    if max_num_frames > 0:
        wanted = min(wanted, max_num_frames)
    least = min_num_frames if total_frames >= min_num_frames else total_frames // 8 * 8
    indices = spread_evenly(total_frames, max(wanted, least))
    return FrameChoice(tuple(first + index for index in indices), duration)


def spread_evenly(total: int, number: int) -> list[int]:
    """Return `number` indices of 0..total-1, each the middle of an equal part.

    If there are fewer than `number`, the last one is repeated.
    """
    parts = min(number, total)
    edges = np.linspace(0, total, parts + 1).astype(np.int64)
    middles = [int(place) for place in (edges[:-1] + edges[1:] - 1) // 2]
    return middles + middles[-1:] * (number - parts)


def whole_clips(num_frames: int) -> int:
    """Return the largest multiple of four frames up to `num_frames`, at least 4.

    The tower reads whole clips only.
    """
    return max(4, num_frames // 4 * 4)


def time_message(duration_s: float, num_frames: int) -> str:
    """Return the sentence about time before the first question."""
    return (
        f"The video lasts for {duration_s:.2f} seconds, and {num_frames} frames are uniformly "
        "sampled from it."
    )


def resize_frame(frame: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Return (S, S, 3) uint8 for (H, W, 3) uint8 RGB: bicubic by PIL, without the aspect ratio."""
    if frame.shape[:2] == (size_px, size_px):
        return frame
    picture = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(picture.resize((size_px, size_px), Image.Resampling.BICUBIC))


def to_pixels(frames: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Return (T, 3, S, S) float32, normalised, for T frames of (S, S, 3) uint8 RGB."""
    values = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() * (1 / 255)
    mean, std = (torch.tensor(each, dtype=torch.float32) for each in (_MEAN, _STD))
    return (values - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def first_question(question: str, message: str = "") -> str:
    """Return the first turn about a video or image: its place, the time message, the question."""
    text = f"{message} {question}" if message else question
    return f"{IMAGE_MARK}\n{text}"


def chat_prompt(turns: Iterable[tuple[str, str]], question: str) -> str:
    """Return the prompt of a conversation, with `IMAGE_MARK` at the place of the video or image.

    The first question is that of `first_question` if there is a video. An empty answer is left
    open, as in the reference.
    """
    parts = [f"{_START}system\n{SYSTEM_TEXT}{_END}\n"]
    for asked, answered in turns:
        parts += [_turn("user", asked), _turn("assistant", answered)]
    parts += [_turn("user", question), _turn("assistant", "")]
    return "".join(parts)


def _turn(role: str, text: str) -> str:
    return f"{_START}{role}\n{text}{_END}\n" if text else f"{_START}{role}\n"


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """Return the token ids of a prompt of `chat_prompt`, with `VISUAL` at the place of the video.

    Only the first `IMAGE_MARK` is its place: users may type the same characters. Each side of it is
    tokenised by itself; padding tokens are left out.
    """
    ids: list[int] = []
    for number, piece in enumerate(prompt.split(IMAGE_MARK, 1)):
        if number:
            ids.append(VISUAL)
        read = tokenizer(piece, add_special_tokens=False).input_ids if piece else []
        ids += [int(token) for token in read if token != tokenizer.pad_token_id]
    return ids


def stream_text(tokenizer: Any, ids: Generator[int, None, None]) -> Iterator[str]:
    """Yield non-empty pieces of text for token ids; joined, they are the stripped answer.

    A character whose bytes are spread over tokens comes once it is complete. `ids` is closed with
    this iterator.
    """
    held: list[int] = []
    space, begun = "", False
    with closing(ids):
        for token in ids:
            held.append(token)
            text = tokenizer.decode(held, skip_special_tokens=True)
            if text.endswith(_INCOMPLETE):
                continue
            held.clear()
            text = space + text if begun else text.lstrip()
            shown = text.rstrip()
            space = text[len(shown) :]
            if shown:
                begun = True
                yield shown
    if held:  # ended in the middle of a character
        yield space + tokenizer.decode(held, skip_special_tokens=True)


#: Most characters of a question for each free token.
_CHARS_PER_TOKEN = 24

#: (turns, question) -> ids, with one place for the video.
Encode = Callable[[Sequence[tuple[str, str]], str], list[int]]


@dataclass(frozen=True)
class WrittenPrompt:
    """Prompt of a question: token ids, with one place for the video.

    `question` is the user's question, as far as it is read.
    """

    ids: list[int]
    question: str
    context: ContextUse


def write_prompt(
    encode: Encode,
    turns: Sequence[Turn],
    question: str,
    *,
    num_visual: int,
    limit: int,
    reserved: Sequence[str],
) -> WrittenPrompt:
    """Return the prompt of a conversation about a video; a single question that is too long is cut.

    Args:
        encode: renders and tokenises.
        turns: questions with their answers so far, oldest first.
        question: the current question.
        num_visual: tokens of the video.
        limit: most tokens of video and text together.
        reserved: control texts of the tokeniser, which are removed from the user's texts.

    Raises:
        InputError: the conversation is too long, or the video leaves no room for a question.
    """
    if limit <= num_visual:
        raise InputError(_too_long(False, num_visual, max(limit, 0)))
    asked = clean(question, reserved)
    earlier = [(clean(turn.question, reserved), clean(turn.answer, reserved)) for turn in turns]

    def ids(read: str) -> list[int]:
        return encode(earlier, read)

    def num_tokens(read: str) -> int:
        return len(ids(read)) - 1 + num_visual

    room = limit * _CHARS_PER_TOKEN
    too_long = sum(len(text) for turn in earlier for text in turn) > room
    if too_long or num_tokens("") > limit or (earlier and num_tokens(asked[:room]) > limit):
        raise InputError(_too_long(bool(earlier), num_visual, limit))
    read = longest_beginning(asked[:room], lambda text: num_tokens(text) <= limit)
    context = ContextUse(
        used_tokens=num_tokens(read),
        limit_tokens=limit,
        read_chars=len(read),
        given_chars=len(asked),
    )
    return WrittenPrompt(ids(read), read, context)


def clean(text: str, reserved: Sequence[str]) -> str:
    """Return a user's text without control tokens."""
    text = replace_surrogates(text)
    for control in sorted(reserved, key=len, reverse=True):
        text = text.replace(control, " ")
    return text


def control_texts(tokenizer: Any) -> list[str]:
    """Return the texts that a tokeniser takes for control tokens."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return [text for text in {*added, *tokenizer.all_special_tokens} if text.strip()]


def _too_long(goes_on: bool, num_visual: int, limit: int) -> str:
    if not goes_on:
        return Message(
            "The frames take {count:,} tokens, but the model reads {limit:,} tokens of video and "
            "question together. Allow fewer frames, or set max_new_tokens lower.",
            count=num_visual,
            limit=limit,
        )
    return Message(
        "This conversation has grown too long: the model reads {limit:,} tokens of video and "
        "conversation together, of which the video takes {count:,}. Begin a new conversation "
        "about the video, or allow fewer frames.",
        limit=limit,
        count=num_visual,
    )
