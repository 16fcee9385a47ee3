"""Texts and images compared with a query, or each with all: cosines, and what they mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pipelines.core.results import Kind, Ranked, SimilarityMatrix, Verdict
from pipelines.core.text import cut_note
from pipelines.media.named_image import NamedImage
from pipelines.models.clip.images import ImageEncoder
from pipelines.models.clip.texts import TextEncoder
from pipelines.models.clip.verdict import ImageTextJudge


@dataclass(frozen=True)
class _Scored:
    """One candidate before it is ranked; `cosine` is None where it could not be read."""

    index: int
    candidate: str
    kind: Kind
    cosine: float | None
    evidence: float
    verdict: Verdict
    note: str


class Comparer:
    """Compares by the vectors of one model.

    Any number of threads may ask at once.
    """

    def __init__(
        self,
        key: str,
        texts: TextEncoder,
        pictures: ImageEncoder,
        judge: ImageTextJudge,
        max_tokens: int,
    ) -> None:
        """Remember the model's parts.

        Args:
            key: of the model.
            texts: encodes texts.
            pictures: encodes images.
            judge: turns cosines into verdicts.
            max_tokens: how much of a text the model reads.
        """
        self._key = key
        self._texts = texts
        self._pictures = pictures
        self._judge = judge
        self._max_tokens = max_tokens

    def ranked(
        self,
        query: str | NamedImage,
        vector: torch.Tensor,
        texts: Sequence[str],
        images: Sequence[NamedImage],
    ) -> tuple[Ranked, ...]:
        """Return texts and images by their similarity to a query, best first.

        Args:
            query: a text or an image.
            vector: its unit vector, (1, D) float32.
            texts: candidates.
            images: candidates; one that cannot be read comes last, with the reason as its note.

        Raises:
            MediaError: no candidate is left.
        """
        scored = self._score_texts(query, vector, texts) + self._score_images(
            query, vector, images, need_one=not texts
        )
        scored.sort(key=lambda row: -2.0 if row.cosine is None else row.cosine, reverse=True)
        return tuple(
            Ranked(
                rank=rank,
                index=row.index,
                candidate=row.candidate,
                kind=row.kind,
                cosine=row.cosine,
                evidence=row.evidence,
                verdict=row.verdict,
                note=row.note,
            )
            for rank, row in enumerate(scored, start=1)
        )

    def matrix(
        self,
        texts: tuple[str, ...],
        names: tuple[str, ...],
        words: torch.Tensor,
        pictures: torch.Tensor,
    ) -> SimilarityMatrix:
        """Compare texts with images, or, where only one kind is given, each with all of it.

        Args:
            texts: T texts.
            names: of N images.
            words: unit vectors of the texts, (T, D) float32.
            pictures: unit vectors of the images, (N, D) float32.
        """
        if texts and names:
            cosines = words @ pictures.T
            evidence = self._judge.text_evidence(cosines.T, pictures, ("{}",)).T
            return self._matrix(texts, names, cosines, evidence, self._judge.of_text)
        if names:
            cosines = pictures @ pictures.T
            evidence = self._judge.image_evidence(pictures, pictures)
            return self._matrix(names, names, cosines, evidence, self._judge.of_images)
        cosines = words @ words.T
        evidence = self._judge.pair_evidence(cosines, words, words)
        return self._matrix(texts, texts, cosines, evidence, self._judge.of_texts)

    def _matrix(
        self,
        rows: tuple[str, ...],
        columns: tuple[str, ...],
        cosines: torch.Tensor,
        evidence: torch.Tensor,
        judge: Callable[[float], Verdict],
    ) -> SimilarityMatrix:
        return SimilarityMatrix(
            row_names=rows,
            column_names=columns,
            cosines=tuple(tuple(row) for row in cosines.tolist()),
            verdicts=tuple(tuple(judge(value) for value in row) for row in evidence.tolist()),
            model=self._key,
        )

    def _score_texts(
        self, query: str | NamedImage, vector: torch.Tensor, texts: Sequence[str]
    ) -> list[_Scored]:
        if not texts:
            return []
        words = self._texts.vectors(texts)
        cosines = vector @ words.T
        if isinstance(query, str):
            evidence = self._judge.pair_evidence(cosines, vector, words)[0].tolist()
            judge = self._judge.of_texts
        else:
            evidence = self._judge.text_evidence(cosines, vector, ("{}",))[0].tolist()
            judge = self._judge.of_text
        cut = self._texts.cut(texts)
        return [
            _Scored(
                index,
                text,
                "text",
                cosine,
                value,
                judge(value),
                cut_note(self._max_tokens) if cut[index] else "",
            )
            for index, (text, cosine, value) in enumerate(
                zip(texts, cosines[0].tolist(), evidence, strict=True)
            )
        ]

    def _score_images(
        self,
        query: str | NamedImage,
        vector: torch.Tensor,
        images: Sequence[NamedImage],
        need_one: bool,
    ) -> list[_Scored]:
        if not images:
            return []
        paths = [image.path for image in images]
        pictures, bad = self._pictures.encode_readable(paths, need_one=need_one)
        cosines = pictures @ vector.T if len(bad) < len(images) else torch.empty(0, 1)
        if len(bad) == len(images):
            evidence, judge = cosines, self._judge.of_text
        elif isinstance(query, str):
            evidence = self._judge.text_evidence(cosines, pictures, ("{}",))
            judge = self._judge.of_text
        else:
            evidence = self._judge.image_evidence(pictures, vector)
            judge = self._judge.of_images
        values = iter(zip(cosines[:, 0].tolist(), evidence[:, 0].tolist(), strict=True))
        rows = []
        for index, image in enumerate(images):
            if index in bad:
                rows.append(_Scored(index, image.name, "image", None, 0.0, "unsure", bad[index]))
            else:
                cosine, value = next(values)
                rows.append(_Scored(index, image.name, "image", cosine, value, judge(value), ""))
        return rows
