"""VideoChat-Flash pipeline: conversations about videos, with caches of clips and of past turns."""

import gc
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipelines.compute.device import is_out_of_memory, memory_budget_gb
from pipelines.compute.lru import SharedCache
from pipelines.compute.packed_linear import pack_linear
from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import InputError
from pipelines.core.messages import Message
from pipelines.core.options import GenerationOptions
from pipelines.core.results import Finish, Step
from pipelines.core.spec import VideoChatTraits
from pipelines.core.text import extend_history, read_history
from pipelines.models.base import Pipeline
from pipelines.models.notes import answer_notes, script_notes
from pipelines.models.repetition import LoopGuard
from pipelines.models.video_chat import (
    DEFAULTS,
    MAX_FRAMES,
    MIN_FRAMES,
    WHOLE,
    AnswerDelta,
    Emit,
    Estimate,
    History,
    Part,
    VideoAnswer,
    VideoChatModel,
)
from pipelines.models.videochat_flash.configuration_videochat_flash import CARD_DROPPING, Dropping
from pipelines.models.videochat_flash.conversion_videochat_flash import load_model
from pipelines.models.videochat_flash.estimate import Need, need_of, token_share
from pipelines.models.videochat_flash.frames import FramePlan
from pipelines.models.videochat_flash.generation import Decoding
from pipelines.models.videochat_flash.kv_cache import Conversations
from pipelines.models.videochat_flash.modeling_language import VideoPrompt
from pipelines.models.videochat_flash.modeling_videochat_flash import VideoChatFlashModel
from pipelines.models.videochat_flash.processing_videochat_flash import (
    WrittenPrompt,
    chat_prompt,
    control_texts,
    encode_prompt,
    first_question,
    stream_text,
    write_prompt,
)
from pipelines.models.videochat_flash.video_features import ChatRates, VideoRows
from pipelines.weights.demo_card import read_demo_card

#: Most memory of the caches of clips and of conversations of one model, in bytes.
FEATURE_BYTES = 500_000_000
CONVERSATION_BYTES = 1_000_000_000

#: Tokens of a conversation in estimates of memory.
TEXT_TOKENS = 600


@dataclass
class _Question:
    """One question; `said` once a word of the answer was emitted."""

    video: Path
    text: str
    history: History
    options: GenerationOptions
    dropping: Dropping | None
    notes: list[str] = field(default_factory=list)
    said: bool = False


class VideoChatPipeline(VideoChatModel, Pipeline):
    """One VideoChat-Flash checkpoint; thread-safe.

    Encoded clips are cached by the file's content and the frames, keys and values of a conversation
    by its frames and token ids; so a further question costs its own words. Answers at temperature 0
    are those of an empty cache.
    """

    traits: VideoChatTraits

    def _load(self) -> None:
        from transformers import AutoTokenizer

        model = load_model(self.folder, dtype=getattr(torch, self.dtype), device=self.device.kind)
        if self.device.packed and self.dtype == "bfloat16":
            pack_linear(model)
        self._model: VideoChatFlashModel = model
        self._value_bytes = 2 if self.dtype == "bfloat16" else 4
        # the whole model's configuration names remote code
        self._tokenizer: Any = AutoTokenizer.from_pretrained(
            self.folder, config=model.language.config, local_files_only=True
        )
        self._reserved = control_texts(self._tokenizer)
        self.conversations = Conversations(self._conversation_bytes())
        self.rates = ChatRates(token_share(model.config))
        card = read_demo_card(self.folder) if self.spec.demo else None
        self.videos = VideoRows(
            model.visual,
            self.rates,
            max_bytes=FEATURE_BYTES,
            max_seconds=self.settings.max_video_s,
            max_frames=(card and card.frames) or MAX_FRAMES,
        )

    def caches(self) -> tuple[SharedCache, ...]:
        """Return the cache of encoded clips."""
        return (self.videos.clips,)

    def _answer_work(
        self,
        video: Path,
        question: str,
        history: History,
        options: GenerationOptions,
        part: Part,
        compress: bool,
    ) -> Callable[[Emit, CancelToken], None]:
        """Return the work of answering, which can be cancelled between two layers of the model.

        `compress` drops most visual tokens inside the language model. If memory runs out before the
        first word, half as many frames are used, with a note.

        Raises:
            InputError: an invalid history, or beam search is requested.
        """
        if options.num_beams > 1:
            raise InputError(
                "Answers about videos are not searched with beams. Set num_beams to 1."
            )
        read_history(history)
        dropping = self.dropping if compress else self._model.config.dropping
        asked = _Question(video, question, history, options, dropping)

        return lambda emit, cancel: self._answer_somehow(asked, part, emit, cancel)

    def look(self, video: Path, part: Part = WHOLE, cancel: CancelToken = NEVER) -> Iterator[Step]:
        """Encode the clips of a video that are not cached, for later questions.

        After each clip, how many frames are ready is yielded; nothing if all are.

        Raises:
            InputError: the part is not in the video.
            MediaError: the file is not a readable video, or too long.
        """
        plan = self.videos.plan(video, part, cancel)
        for done, _ in self.videos.of(video, plan, cancel):
            if done is not None:
                yield done

    def estimate(
        self,
        video: Path,
        part: Part = WHOLE,
        *,
        compress: bool = False,
    ) -> Estimate:
        """Return the cost of a question, without computing anything.

        Raises:
            InputError: the part is not in the video.
            MediaError: the file is not a readable video, or too long.
        """
        plan, config = self.videos.plan(video, part), self._model.config
        num_frames = len(plan.choice.indices)
        dropping = self.dropping if compress else config.dropping
        free = self._free_bytes()

        def fits(frames: int) -> bool:
            tokens = self._num_visual(frames) + DEFAULTS.max_new_tokens + TEXT_TOKENS // 10
            return tokens <= config.max_tokens and self._need(frames, dropping).total <= free

        smaller = None
        if not fits(num_frames):
            halves = [num_frames >> times for times in range(1, 10)]
            fitting = [half // 4 * 4 for half in halves if half >= MIN_FRAMES and fits(half)]
            smaller = next(iter(fitting), 0)
        tokens = self._num_visual(num_frames)
        num_clips = sum(self.videos.clips.get(key) is None for key in plan.keys)
        return Estimate(
            seen=plan.seen,
            num_frames=num_frames,
            num_tokens=tokens,
            limit_tokens=config.max_tokens,
            need_gb=self._need(num_frames, dropping).total / 1e9,
            free_gb=free / 1e9,
            seconds=self.rates.until_first_word(num_clips, tokens),
            smaller=smaller,
        )

    @property
    def dropping(self) -> Dropping:
        """Dropping of visual tokens if it is requested."""
        config = self._model.config
        layers = int(config.text["num_hidden_layers"])
        if config.dropping is not None or layers > CARD_DROPPING.layers[-1]:
            return config.dropping or CARD_DROPPING
        # a miniature: the same shares of its layers as in the published models, which have 28
        first = max(1, round(CARD_DROPPING.layers[0] / 28 * layers))
        second = min(layers - 1, max(first + 1, round(CARD_DROPPING.layers[1] / 28 * layers)))
        if second <= first:
            return Dropping("uniform", (first,), (1.0, 0.5))
        return Dropping(CARD_DROPPING.kind, (first, second), CARD_DROPPING.ratios)

    def _answer_somehow(
        self, asked: _Question, part: Part, emit: Emit, cancel: CancelToken
    ) -> None:
        """Answer, with half as many frames each time that memory runs out."""
        plan = self.videos.plan(asked.video, part, cancel)
        before = len(plan.choice.indices)
        while True:
            try:
                self._answer(asked, plan, emit, cancel)
                return
            except Exception as error:
                number = len(plan.choice.indices) // 8 * 4
                if not is_out_of_memory(error) or asked.said or number < MIN_FRAMES:
                    raise
            self.forget()
            part = Part(max_frames=number, start_s=part.start_s, end_s=part.end_s)
            plan = self.videos.plan(asked.video, part, cancel)
            asked.notes[:] = [
                Message(
                    "There was not enough memory for {before} frames: the model looked at {count}.",
                    before=before,
                    count=len(plan.choice.indices),
                )
            ]

    def _answer(self, asked: _Question, plan: FramePlan, emit: Emit, cancel: CancelToken) -> None:
        emit(AnswerDelta(seen=plan.seen))
        written = self._write(asked, plan)
        rows: list[torch.Tensor] = []
        for done, encoded in self.videos.of(asked.video, plan, cancel):
            rows.append(encoded)
            if done is not None:
                emit(AnswerDelta(step=done))
        lost = self.videos.lost_notes(plan)
        emit(AnswerDelta(pictures=tuple(self.videos.pictures(plan))))
        prompt, decoding = VideoPrompt(written.ids, torch.cat(rows)), self._decoding(asked.options)
        values, num_known = self.conversations.take(written.ids, plan.key, asked.dropping)
        known = num_known - 1 + prompt.num_visual if num_known else 0
        guard, text = LoopGuard(), ""
        ids = _Counted(
            self._model.answer(
                prompt,
                decoding,
                cache=values,
                dropping=asked.dropping,
                cancel=cancel,
            ),
            cancel,
        )
        try:
            with closing(self._pieces(ids, guard)) as pieces:
                for piece in pieces:
                    text += piece
                    asked.said = asked.said or bool(piece)
                    emit(AnswerDelta(text=piece))
            self.rates.note("prompt token", len(prompt) - known, ids.first_s)
            self.rates.note("answer token", ids.number - 1, ids.all_s - ids.first_s)
        finally:
            self.conversations.give_back(values, plan.key)
        full = ids.number >= asked.options.max_new_tokens
        finish: Finish = guard.finish or ("length" if full else "end")
        emit(AnswerDelta(result=self._result(asked, plan, written, text, finish, known, lost)))

    def _result(
        self,
        asked: _Question,
        plan: FramePlan,
        written: WrittenPrompt,
        text: str,
        finish: Finish,
        known: int,
        lost: list[str],
    ) -> VideoAnswer:
        language = script_notes(written.question, self.traits.languages)
        on_answer = answer_notes(written.context, finish, language)
        return VideoAnswer(
            text=text,
            model=self.spec.key,
            finish=finish,
            history=tuple(extend_history(asked.history, asked.text, text)),
            seen=plan.seen,
            context=written.context,
            num_reused=known,
            notes=(*asked.notes, *plan.notes, *lost, *on_answer),
        )

    def _write(self, asked: _Question, plan: FramePlan) -> WrittenPrompt:
        """Return the prompt: the first question comes after the video and its times."""

        def encode(turns: Sequence[tuple[str, str]], question: str) -> list[int]:
            message = plan.choice.message
            if not turns:
                text = chat_prompt((), first_question(question, message))
            else:
                (first, answer), *later = turns
                text = chat_prompt([(first_question(first, message), answer), *later], question)
            return encode_prompt(self._tokenizer, text)

        return write_prompt(
            encode,
            read_history(asked.history),
            asked.text,
            num_visual=self._num_visual(len(plan.choice.indices)),
            limit=self._model.config.max_tokens - asked.options.max_new_tokens,
            reserved=self._reserved,
        )

    def _pieces(self, ids: "_Counted", guard: LoopGuard) -> Generator[str, None, None]:
        """Yield final pieces of the answer, some of them empty."""
        text = ""
        with closing(stream_text(self._tokenizer, ids.all())) as parts:  # type: ignore[type-var]
            for part in parts:
                text += part
                yield guard.feed(text)
                if guard.finish is not None:
                    return
        yield guard.end(text)

    def _decoding(self, options: GenerationOptions) -> Decoding:
        changes: dict[str, Any] = {"max_new_tokens": options.max_new_tokens}
        if options.temperature > 0:
            changes |= {
                "sample": True,
                "temperature": options.temperature,
                "top_p": options.top_p,
                "seed": options.seed,
            }
        return Decoding.of(self._model.config.generation, **changes)

    def forget(self) -> None:
        """Release the memory of all cached videos and conversations."""
        self.videos.clips.clear()
        self.conversations.clear()
        gc.collect()
        if self.device.kind == "cuda":
            torch.cuda.empty_cache()

    def _conversation_bytes(self) -> int:
        """Return the memory limit of cached conversations: one of the longest always fits."""
        return max(CONVERSATION_BYTES, self._need(MAX_FRAMES, None).kept)

    def _num_visual(self, num_frames: int) -> int:
        config = self._model.config
        return num_frames // config.vision.clip_frames * config.merged_tokens

    def _need(self, num_frames: int, dropping: Dropping | None) -> Need:
        config, text = self._model.config, DEFAULTS.max_new_tokens + TEXT_TOKENS
        return need_of(config, num_frames, text, self._value_bytes, dropping)

    def _free_bytes(self) -> float:
        """Return the memory beside the weights; caches count as free."""
        if self.device.kind == "cuda":
            return torch.cuda.mem_get_info()[0] + self.conversations.weight
        weights_gb = self.spec.memory_gb * self._value_bytes / 4
        return 1e9 * (memory_budget_gb(self.settings, self.device.kind) - weights_gb)


class _Counted:
    """Token ids, counted and timed; cancelled between two of them."""

    def __init__(self, ids: Generator[int, None, None], cancel: CancelToken) -> None:
        self._ids = ids
        self._cancel = cancel
        self._start = time.monotonic()
        self.number = 0
        self.first_s = self.all_s = 0.0

    def all(self) -> Generator[int, None, None]:
        with closing(self._ids):
            for token in self._ids:
                self.number += 1
                self.all_s = time.monotonic() - self._start
                self.first_s = self.first_s or self.all_s
                yield token
                self._cancel.check()
