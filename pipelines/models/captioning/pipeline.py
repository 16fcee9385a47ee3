"""Captions, answers and conversations about images, over stock transformers models."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipelines.compute.lru import SharedCache
from pipelines.core.errors import InputError, MediaError, type_name
from pipelines.core.messages import Message
from pipelines.core.options import GenerationOptions
from pipelines.core.results import Finish
from pipelines.core.spec import GenerativeTraits
from pipelines.core.text import read_history
from pipelines.media.images import open_image
from pipelines.models.base import Pipeline
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
from pipelines.models.captioning.decoding import (
    PieceStreamer,
    SeededSampling,
    StopGuarded,
    StopOnRepetition,
    current_token,
    generate,
    stream_generation,
    watch_layers,
)
from pipelines.models.captioning.image_inputs import (
    CONNECTORS,
    FeatureCache,
    ImageConnector,
    Job,
    Row,
    Tensors,
    pad_token,
)
from pipelines.models.captioning.loading import load_parts
from pipelines.models.captioning.prompts import PromptRequest, PromptWriter, notes_on
from pipelines.models.repetition import LoopGuard, trim
from pipelines.weights.demo_card import read_demo_card

#: Note on an image that is unlike the demo scenes.
_FOREIGN = (
    "This picture does not look like a drawing of coloured shapes, which is all that the demo "
    "model knows: do not trust this text. Choose a real model for photos."
)


Emit = Callable[[str], None]
NoPieces = Callable[[None], None]


@dataclass(frozen=True)
class _Generated:
    text: str
    finish: Finish


class CaptionPipeline(ImageToTextModel, Pipeline):
    """One image-to-text model.

    Closing a stream stops the computation within a layer. The text depends on image, words, options
    and model only: it is the same alone or in a batch, with or without a cached image.
    """

    traits: GenerativeTraits

    def _load(self) -> None:
        parts = load_parts(
            self.folder,
            self.traits,
            self.device,
            key=self.spec.key,
            dtype=self.dtype,
            quantization="none" if self.spec.demo else self.settings.quantization,
        )
        self._tokenizer = parts.tokenizer
        positions = getattr(parts.model.config.get_text_config(), "max_position_embeddings", None)
        self._context = min(self.traits.context_tokens, positions or self.traits.context_tokens)
        self.connector: ImageConnector = CONNECTORS[self.traits.connector](parts)
        self.connector.check()
        watch_layers(parts.model)
        self.features = FeatureCache()
        self._demo_card = read_demo_card(self.folder)

    def caches(self) -> tuple[SharedCache, ...]:
        """Return the cache of encoded images."""
        return (self.features,)

    def iter_captions(
        self,
        images: Sequence[Picture],
        prompt: str = "",
        options: GenerationOptions = DEFAULTS,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Description | None]:
        """Caption images; their encodings are not cached, so that a batch evicts no others.

        Raises:
            InputError: the model does not caption, takes no prompt, or `batch_size` is below 1.
        """
        if batch_size < 1:
            raise InputError("batch_size must be at least 1 but got {given}.", given=batch_size)
        request = self._caption_request(prompt)
        starts = range(0, len(images), batch_size)
        batches = (images[start : start + batch_size] for start in starts)
        return self._describe_all(batches, request, options)

    def _describe_all(
        self,
        batches: Iterable[Sequence[Picture]],
        request: PromptRequest,
        options: GenerationOptions,
    ) -> Iterator[Description | None]:
        for batch in batches:
            work = partial(self._describe, batch, request, options)
            yield from (yield from stream_generation(work))

    def stream_caption(
        self, image: Path, prompt: str = "", options: GenerationOptions = DEFAULTS
    ) -> Iterator[TextDelta]:
        """Caption one image, piece by piece."""
        return self._stream(image, self._caption_request(prompt), options)

    def stream_chat(
        self,
        image: Path,
        message: str,
        history: History = None,
        options: GenerationOptions = DEFAULTS,
    ) -> Iterator[TextDelta]:
        """Answer the next message of a conversation about an image, piece by piece."""
        return self._stream(image, self._question_request(message, history), options)

    def iter_candidates(
        self, image: Path, n: int, options: GenerationOptions = DEFAULTS, prompt: str = ""
    ) -> Iterator[Description | None]:
        """Yield up to `n` (1..16) different captions.

        At temperature 0 they are the `n` best of a beam search over max(n, num_beams) texts, best
        first; above 0 they are drawn with the seeds `seed`, `seed + 1`, …, without repetitions.
        """
        check_candidates(n)
        request = self._caption_request(prompt)

        def work(_: NoPieces) -> list[Description]:
            row = self._row_of(image, request, options)
            if options.temperature > 0.0:
                seeds = [options.seed + i for i in range(n)]
                made = self._generate([row] * n, options, seeds)
            else:
                wide = replace(options, num_beams=max(n, options.num_beams))
                made = self._generate([row], wide, [options.seed], texts=n)
            distinct: dict[str, _Generated] = {}
            for one in made:
                distinct.setdefault(one.text, one)
            return [self._description(one, row) for one in distinct.values()]

        yield from (yield from stream_generation(work))

    def _caption_request(self, prompt: str) -> PromptRequest:
        template = self.traits.continuation if _text("prompt", prompt) else self.traits.caption
        if template is None:
            what = "go on from a prompt; leave the prompt empty" if prompt.strip() else "caption"
            raise InputError(
                "{model} does not {what}. Or choose another model.",
                model=self.spec.key,
                what=Message(what),
            )
        return PromptRequest(template=template, text=prompt)

    def _question_request(self, question: str, history: History) -> PromptRequest:
        if self.traits.question is None:
            raise InputError(
                "{model} writes captions but answers no questions. Choose another model.",
                model=self.spec.key,
            )
        if not _text("The question", question):
            raise InputError("The question is empty. Ask something about the image.")
        turns = read_history(history)
        if turns and self.traits.turn is None:
            raise InputError(
                "{model} answers single questions but holds no conversation. Start a new one, "
                "or choose another model.",
                model=self.spec.key,
            )
        return PromptRequest(template=self.traits.question, text=question, turns=turns)

    def _prepare(self, image: Picture) -> Tensors:
        if isinstance(image, Path):
            image = open_image(image, max_pixels=int(self.settings.max_pixels_mp * 1e6))
        return self.connector.prepare(image)

    def _row_of(self, image: Picture, request: PromptRequest, options: GenerationOptions) -> Row:
        encoded = self.features.get_encoded([self._prepare(image)], self.connector.encode)
        return self._row(encoded[0], request, options)

    def _row(self, encoded: Tensors, request: PromptRequest, options: GenerationOptions) -> Row:
        answer = options.max_new_tokens if self.traits.decoder == "causal" else 0
        limit = self._context - answer
        if limit < 1:
            raise InputError(
                "max_new_tokens must be below {limit} for {model} but got {given}. The "
                "picture, the prompt and the answer share that many tokens.",
                limit=self._context,
                model=self.spec.key,
                given=options.max_new_tokens,
            )
        limit = min(limit, self.traits.prompt_tokens or limit)
        writer = PromptWriter(
            self.traits,
            lambda text: self.connector.tokenise(text, encoded),
            self._tokenizer.all_special_tokens + list(self._tokenizer.get_added_vocab()),
        )
        return Row(encoded, writer.write(request, limit=limit))

    def _describe(
        self,
        images: Sequence[Picture],
        request: PromptRequest,
        options: GenerationOptions,
        _: NoPieces,
    ) -> list[Description]:
        results: list[Description | None] = [None] * len(images)
        prepared: dict[int, Tensors] = {}
        for index, image in enumerate(images):
            current_token().check()
            try:
                prepared[index] = self._prepare(image)
            except MediaError as error:
                results[index] = Description(text="", model=self.spec.key, error=error.message)
        if prepared:
            given = list(prepared.values())
            encoded = self.features.get_encoded(given, self.connector.encode, keep=False)
            rows = [self._row(one, request, options) for one in encoded]
            texts = self._generate(rows, options, [options.seed] * len(rows))
            for index, text, row in zip(prepared, texts, rows, strict=True):
                results[index] = self._description(text, row)
        return [result for result in results if result is not None]

    def _stream(
        self, image: Path, request: PromptRequest, options: GenerationOptions
    ) -> Iterator[TextDelta]:
        def work(emit: Emit) -> Description:
            row = self._row_of(image, request, options)
            if options.num_beams == 1:
                return self._description(self._write(emit, row, options), row)
            made = self._generate([row], options, [options.seed])[0]
            emit(made.text)  # a beam search has no certain word before its end
            return self._description(made, row)

        running = stream_generation(work)
        with closing(running) as pieces:
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as ended:
                    yield TextDelta(text="", result=ended.value)
                    return
                yield TextDelta(text=piece or "")

    def _write(self, emit: Emit, row: Row, options: GenerationOptions) -> _Generated:
        """Generate one text and emit its pieces."""
        guard, pieces = LoopGuard(self.traits.stops), list[str]()

        def keep(piece: str) -> None:
            if piece:
                pieces.append(piece)
                emit(piece)

        streamer = PieceStreamer(self._decode, guard, keep)
        job = self.connector.job([row])
        generate(
            job.model,
            **job.inputs,
            **self._settings(options, [options.seed], job),
            streamer=streamer,
            stopping_criteria=[StopGuarded(guard)],
        )
        return _Generated("".join(pieces), guard.finish or self._finish(streamer.ids, options))

    def _generate(
        self,
        rows: Sequence[Row],
        options: GenerationOptions,
        seeds: Sequence[int],
        texts: int = 1,
    ) -> list[_Generated]:
        """Generate `texts` texts for each row; those of a row are adjacent."""
        job = self.connector.job(rows)
        extra = self._settings(options, seeds, job)
        if options.num_beams == 1:
            extra["stopping_criteria"] = [
                StopOnRepetition(self._decode, self.traits.stops, len(rows), job.skip)
            ]
        output = generate(job.model, **job.inputs, **extra, num_return_sequences=texts)
        current_token().check()
        made = []
        for ids in output[:, job.skip :].tolist():
            text, finish = trim(self._decode(ids), self.traits.stops)
            ended = self._finish(ids, options) if finish == "end" else finish
            made.append(_Generated(text, ended))
        return made

    def _settings(
        self, options: GenerationOptions, seeds: Sequence[int], job: Job
    ) -> dict[str, Any]:
        """Return arguments of `generate` that override the checkpoint's own."""
        settings: dict[str, Any] = {
            "max_new_tokens": options.max_new_tokens,
            "num_beams": options.num_beams,
            "do_sample": False,
        }
        if "pad_token_id" not in job.inputs:
            settings["pad_token_id"] = pad_token(self._tokenizer)
        if options.temperature > 0.0:
            settings["logits_processor"] = [SeededSampling(options, seeds)]
        return settings

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _finish(self, ids: list[int], options: GenerationOptions) -> Finish:
        """Return "length" if a text has the greatest length and no end token."""
        special = set(self._tokenizer.all_special_ids)
        full = len(ids) >= options.max_new_tokens and ids[-1] not in special
        return "length" if full else "end"

    def _description(self, made: _Generated, row: Row) -> Description:
        prompt = row.prompt
        return Description(
            text=made.text,
            model=self.spec.key,
            finish=made.finish,
            context=prompt.context,
            notes=notes_on(prompt, made.finish, self.traits) + self._scene_notes(row),
        )

    @torch.no_grad()
    def _scene_notes(self, row: Row) -> tuple[str, ...]:
        """Return a note if the demo model's own caption of an image is "I don't know".

        That answer is a single token; its probability is compared with the threshold.
        """
        card = self._demo_card
        if card is None or not card.unknown_answer:
            return ()
        job = self.connector.job([self._row(row.encoded, self._caption_request(""), DEFAULTS)])
        logits = job.model(**job.inputs).logits[0, -1].float()  # (vocabulary,)
        token = int(self._tokenizer.convert_tokens_to_ids(card.unknown_answer))
        return (_FOREIGN,) if logits.softmax(dim=-1)[token] >= card.unknown_threshold else ()


def _text(name: str, value: object) -> bool:
    """Return whether a text is not blank; raise if it is no text."""
    if not isinstance(value, str):
        raise InputError(
            "{name} must be text but got {given}.", name=Message(name), given=type_name(value)
        )
    return bool(value.strip())
