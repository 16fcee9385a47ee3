"""CLIP, SigLIP 2 and Chinese-CLIP: one pipeline over the stock transformers models."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.compute.lru import SharedCache
from pipelines.compute.packed_linear import pack_linear
from pipelines.compute.vector_cache import VectorCache, fingerprint
from pipelines.core.errors import InputError
from pipelines.core.messages import Message
from pipelines.core.results import (
    Classification,
    Embeddings,
    Ranking,
    Relevance,
    SimilarityMatrix,
    Step,
)
from pipelines.core.spec import ContrastiveTraits
from pipelines.core.text import cut_texts_note
from pipelines.media.images import NamedImage
from pipelines.models.base import Pipeline
from pipelines.models.clip.comparing import Comparer
from pipelines.models.clip.images import IMAGES_PER_STEP, ImageEncoder
from pipelines.models.clip.relevance import normalise, patch_relevance
from pipelines.models.clip.texts import PROMPTS_PER_STEP, TextEncoder, resolve_templates
from pipelines.models.linear_probe import NUM_GUESSES, Guess, LinearProbe, check_model, probe_note
from pipelines.models.loading import load_stock
from pipelines.models.notes import language_notes
from pipelines.models.search_query import Assessment, QueryVector, Vectors
from pipelines.models.verdict import Judge, Pair, SceneCheck

#: Version of the cached vectors; to be raised when the computation changes.
VECTORS_FORMAT = 2

#: Image vectors per product with all labels.
VECTORS_PER_STEP = 1024


class ClipPipeline(Pipeline):
    """Images and texts in one space of unit vectors.

    Thread-safe; concurrent images share batches. Methods with `templates` raise InputError if it is
    neither the name of a set nor a template, methods with an image MediaError if it is unreadable.
    """

    traits: ContrastiveTraits

    def _load(self) -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        model = load_stock(AutoModel, self.folder, key=self.spec.key, dtype=self.dtype)
        self._model = model.to(self.device.kind)
        self.scale = float(self._model.logit_scale.detach().exp())
        if self.device.packed and self.dtype == "bfloat16":
            pack_linear(self._model)
        tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        processor = AutoImageProcessor.from_pretrained(
            self.folder, local_files_only=True, backend="pil"
        )
        self._kept = VectorCache(
            self.settings.cache_dir / "text-vectors.sqlite",
            fingerprint(
                self.folder,
                self.device,
                VECTORS_FORMAT,
                self.traits.cleaning,
                self.traits.padding,
                self.traits.max_text_tokens,
            ),
        )
        self.texts = TextEncoder(self._model, tokenizer, self.traits, self._kept)
        self.pictures = ImageEncoder(
            self._model, processor, max_pixels=int(self.settings.max_pixels_mp * 1e6)
        )
        self.judge = Judge(self.traits, self.texts.vectors, self.scale)
        self._comparer = Comparer(self.spec.key, self.texts, self.pictures, self.judge)
        self._scene_check = SceneCheck.of(self.folder, self.texts.vectors, self.scale)

    def caches(self) -> tuple[SharedCache, ...]:
        """Return the caches of text and image vectors."""
        return (self._kept, self.pictures.kept)

    def _unload(self) -> None:
        self._kept.close()
        super()._unload()

    def classify(
        self, image: Path, labels: Sequence[str], *, templates: str = ""
    ) -> Classification:
        """Score `labels` (distinct, at least one) against an image; best first."""
        chosen = resolve_templates(templates, self.traits.languages)
        vector = self.pictures.encode([image])
        cosines = vector @ self.texts.vectors(labels, chosen).T
        evidence = self.judge.text_evidence(cosines, vector, chosen)
        scores = self.judge.label_scores(
            labels,
            self._probabilities(cosines[0]),
            cosines[0],
            evidence[0],
            self.texts.cut(labels, chosen),
            self.traits.max_text_tokens,
        )
        notes = self._hints(labels, vector)
        return Classification(scores=scores, model=self.spec.key, notes=tuple(notes))

    def classify_by_probe(
        self, image: Path, probe: LinearProbe, *, templates: str = ""
    ) -> Classification:
        """Score the classes of a probe against an image, with the probe's probabilities.

        Cosines and verdicts compare the image with the names of the classes, as in `classify`.

        Raises:
            InputError: the probe was trained with another model.
        """
        vector = self.pictures.encode([image])
        check_model(probe, self.spec.key, self.revision, vector.shape[1])
        by_name = self.classify(image, probe.labels, templates=templates)
        shares = dict(zip(probe.labels, probe.probabilities(vector.numpy())[0], strict=True))
        scores = [
            replace(score, probability=min(1.0, float(shares[score.label])))
            for score in by_name.scores
        ]
        scores.sort(key=lambda score: -score.probability)
        # hints on the language of the labels are about cosines, which a probe does not use
        notes = (probe_note(probe), *self._scene_check.notes(vector))
        return replace(by_name, scores=tuple(scores), notes=notes)

    def embed_contents(
        self, files: Sequence[tuple[str, bytes]]
    ) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Return the unit vectors of file contents; see `ImageEncoder.encode_contents`."""
        vectors, bad = self.pictures.encode_contents(files)
        return vectors.numpy(), bad

    def guess(
        self, vectors: NDArray[np.float32], labels: Sequence[str], *, templates: str = ""
    ) -> tuple[list[Guess], list[str]]:
        """Return the best classes of (N, D) unit vectors of images, and notes on the labels.

        The probabilities are those of `classify`.
        """
        chosen = resolve_templates(templates, self.traits.languages)
        words = self.texts.vectors(labels, chosen)
        pictures = torch.from_numpy(vectors)
        guesses: list[Guess] = []
        for part in pictures.split(VECTORS_PER_STEP):
            best = self._probabilities(part @ words.T).topk(min(NUM_GUESSES, len(labels)))
            guesses += [
                Guess(tuple(classes), tuple(shares))
                for classes, shares in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
        notes = self._hints(labels, pictures)
        if cut := sum(self.texts.cut(labels, chosen)):
            notes.insert(
                0,
                Message(
                    "Names of {cut} of {total} classes are longer than the model reads: only "
                    "the first {limit} tokens of each were used.",
                    cut=cut,
                    total=len(labels),
                    limit=self.traits.max_text_tokens,
                ),
            )
        return guesses, notes

    def relevance(self, image: Path, label: str, templates: str = "") -> Relevance:
        """Return where in an image the model finds `label`.

        The direction is the label's vector less the mean of the neutral texts', so that what every
        text has in common does not count.
        """
        chosen = resolve_templates(templates, self.traits.languages)
        picture = self.pictures.open(image)
        direction = self.judge.direction(label, chosen)
        pixels = self.pictures.recipe.pixels(picture)
        shares = patch_relevance(self._model, pixels, direction, pooling=self.traits.pooling)
        left, top, right, bottom = self.pictures.recipe.seen_box(*picture.size)
        width, height = picture.size
        return Relevance(
            label=label,
            grid=tuple(tuple(row) for row in normalise(shares).tolist()),
            box=(left / width, top / height, right / width, bottom / height),
        )

    def prepare(
        self,
        texts: Sequence[str] = (),
        images: Sequence[NamedImage] = (),
        templates: str = "",
    ) -> Iterator[Step]:
        """Compute and cache the vectors of a request in steps of about a second.

        The generator can be closed between two steps. It yields nothing if one step is enough.
        """
        chosen = resolve_templates(templates, self.traits.languages) if texts else ()
        if len(texts) * len(chosen) > PROMPTS_PER_STEP:
            for done in self.texts.prepare(texts, chosen):
                yield Step(done=done, total=len(texts), unit="texts")
        if len(images) > IMAGES_PER_STEP:
            for done in self.pictures.prepare([image.path for image in images]):
                yield Step(done=done, total=len(images), unit="pictures")

    def rank(
        self, query: str | NamedImage, texts: Sequence[str], images: Sequence[NamedImage]
    ) -> Ranking:
        """Order texts and images by their similarity to a text or an image.

        An unreadable candidate comes last, with the reason as its note.

        Raises:
            InputError: there is no candidate.
            MediaError: the query is unreadable, or no candidate is left.
        """
        if not texts and not images:
            raise InputError("There is nothing to compare with. Give candidate texts or images.")
        if isinstance(query, str):
            vector = self.texts.vectors([query])
            given, pictures = [query, *texts], torch.empty(0, 0)
        else:
            vector = pictures = self.pictures.encode([query.path])
            given = list(texts)
        rows = self._comparer.ranked(query, vector, texts, images)
        notes = self._hints(given, pictures)
        if isinstance(query, str) and self.texts.cut([query])[0]:
            notes.insert(
                0,
                Message(
                    "The query is longer than the model reads: only its first {limit} tokens were "
                    "used.",
                    limit=self.traits.max_text_tokens,
                ),
            )
        return Ranking(rows=rows, model=self.spec.key, notes=tuple(notes))

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return the unit vectors of texts, of which some are not blank.

        A blank text has an error instead, which names its position from 1.
        """
        blank: dict[int, str] = {
            index: Message("Line {number} is blank, so it has no vector.", number=index + 1)
            for index, text in enumerate(texts)
            if not text
        }
        given = [text for text in texts if text]
        names = [text or Message("line {number}", number=i) for i, text in enumerate(texts, 1)]
        notes = self._notes(given, torch.empty(0, 0))
        return self._embeddings(self.texts.vectors(given), blank, names, notes)

    def embed_images(self, images: Sequence[NamedImage]) -> Embeddings:
        """Return the unit vectors of image files; an unreadable one has an error instead.

        Raises:
            MediaError: none is readable.
        """
        vectors, bad = self.pictures.encode_readable([image.path for image in images])
        notes = self._notes((), vectors)
        return self._embeddings(vectors, bad, [image.name for image in images], notes)

    def query_vector(self, text: str, image: Path | None, text_weight: float = 0.5) -> QueryVector:
        """Return the vector of a search for a text, an image, or both weighted by `text_weight`."""
        word = self.texts.vectors([text])[0].numpy() if text else None
        seen = self.pictures.encode([image])[0].numpy() if image is not None else None
        notes = self._notes([text] if text else [], torch.empty(0, 0))
        return QueryVector.of(word, seen, text_weight, notes)

    def assess(self, query: QueryVector, vectors: Vectors) -> list[Assessment | None]:
        """Return verdicts on (N, D) image vectors for a query.

        None for a text and an image together, for which nothing is calibrated.
        """
        if query.kind == "both" or not len(vectors):
            return [None] * len(vectors)
        pictures, sought = torch.from_numpy(vectors), torch.from_numpy(query.vector)[None]
        pair: Pair
        if query.kind == "text":
            found, pair = self.judge.text_evidence(pictures @ sought.T, pictures), "text"
        else:
            found, pair = self.judge.image_evidence(pictures, sought), "images"
        return [
            Assessment(evidence=value, verdict=self.judge.verdict(value, pair))
            for value in found[:, 0].tolist()
        ]

    def matrix(self, texts: Sequence[str], images: Sequence[NamedImage]) -> SimilarityMatrix:
        """Compare texts with images, or all pairs where only one kind is given.

        An unreadable image is left out, with a note.

        Raises:
            InputError: nothing is given.
            MediaError: none of the images is readable.
        """
        if not texts and not images:
            raise InputError("There is nothing to compare. Give texts, images, or both.")
        pictures, bad = self.pictures.encode_readable([image.path for image in images])
        words = self.texts.vectors(texts)
        names = tuple(image.name for index, image in enumerate(images) if index not in bad)
        made = self._comparer.matrix(tuple(texts), names, words, pictures)
        left_out = [
            Message("Left out: {name}. {reason}", name=images[index].name, reason=Message(reason))
            for index, reason in bad.items()
        ]
        notes = [*left_out, *self._notes(texts, pictures)]
        return replace(made, notes=tuple(notes))

    def _hints(self, texts: Sequence[str], pictures: torch.Tensor) -> list[str]:
        language = language_notes(texts, self.traits.languages, self.spec.task)
        return self._scene_check.notes(pictures) + language

    def _notes(self, texts: Sequence[str], pictures: torch.Tensor) -> list[str]:
        """Return notes on texts and (N, D) image vectors."""
        notes = self._hints(texts, pictures)
        if cut := sum(self.texts.cut(texts)):
            notes.insert(0, cut_texts_note(cut, len(texts), self.traits.max_text_tokens))
        return notes

    def _embeddings(
        self, vectors: torch.Tensor, bad: dict[int, str], names: list[str], notes: list[str]
    ) -> Embeddings:
        good = iter(vectors.tolist())
        rows = tuple(None if i in bad else tuple(next(good)) for i in range(len(names)))
        return Embeddings(
            vectors=rows,
            names=tuple(names),
            model=self.spec.key,
            dim=vectors.shape[1],
            errors=tuple((names[index], message) for index, message in bad.items()),
            notes=tuple(notes),
        )

    def _probabilities(self, cosines: torch.Tensor) -> torch.Tensor:
        """Return probabilities of (..., L) cosines, as the model was trained."""
        logits = cosines.double() * self.scale
        if self.traits.probability == "sigmoid":
            return (logits + float(self._model.logit_bias.detach())).sigmoid()
        return logits.softmax(dim=-1)
