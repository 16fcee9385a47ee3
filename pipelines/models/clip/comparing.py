"""Similarity of texts and images: rankings against a query, and matrices."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from pipelines.core.results import Ranked, SimilarityMatrix
from pipelines.core.text import cut_note
from pipelines.media.images import NamedImage
from pipelines.models.clip.images import ImageEncoder
from pipelines.models.clip.texts import TextEncoder
from pipelines.models.verdict import Judge, Pair


class Comparer:
    """Comparisons by the vectors of one model; any number of threads may call it."""

    def __init__(self, key: str, texts: TextEncoder, pictures: ImageEncoder, judge: Judge) -> None:
        self._key = key
        self._texts = texts
        self._pictures = pictures
        self._judge = judge

    def ranked(
        self,
        query: str | NamedImage,
        vector: torch.Tensor,
        texts: Sequence[str],
        images: Sequence[NamedImage],
    ) -> tuple[Ranked, ...]:
        """Return candidates by their similarity to a query with unit vector (1, D), best first.

        An unreadable image comes last, with the reason as its note.

        Raises:
            MediaError: no candidate is left.
        """
        rows = self._score_texts(query, vector, texts) if texts else []
        rows += self._score_images(query, vector, images, need_one=not texts) if images else []
        rows.sort(key=lambda row: -2.0 if row.cosine is None else row.cosine, reverse=True)
        return tuple(replace(row, rank=rank) for rank, row in enumerate(rows, start=1))

    def matrix(
        self,
        texts: tuple[str, ...],
        names: tuple[str, ...],
        words: torch.Tensor,
        pictures: torch.Tensor,
    ) -> SimilarityMatrix:
        """Compare T texts with N images, or all pairs where only one kind is given.

        `words` and `pictures` are their (T, D) and (N, D) unit vectors.
        """
        if texts and names:
            cosines = words @ pictures.T
            evidence = self._judge.text_evidence(cosines.T, pictures).T
            return self._matrix(texts, names, cosines, evidence, "text")
        if names:
            cosines = pictures @ pictures.T
            evidence = self._judge.image_evidence(pictures, pictures)
            return self._matrix(names, names, cosines, evidence, "images")
        cosines = words @ words.T
        evidence = self._judge.pair_evidence(cosines, words, words)
        return self._matrix(texts, texts, cosines, evidence, "texts")

    def _matrix(
        self,
        rows: tuple[str, ...],
        columns: tuple[str, ...],
        cosines: torch.Tensor,
        evidence: torch.Tensor,
        pair: Pair,
    ) -> SimilarityMatrix:
        verdict = self._judge.verdict
        return SimilarityMatrix(
            row_names=rows,
            column_names=columns,
            cosines=tuple(tuple(row) for row in cosines.tolist()),
            verdicts=tuple(tuple(verdict(v, pair) for v in row) for row in evidence.tolist()),
            model=self._key,
        )

    def _score_texts(
        self, query: str | NamedImage, vector: torch.Tensor, texts: Sequence[str]
    ) -> list[Ranked]:
        words = self._texts.vectors(texts)
        cosines = vector @ words.T
        pair: Pair
        if isinstance(query, str):
            evidence, pair = self._judge.pair_evidence(cosines, vector, words), "texts"
        else:
            evidence, pair = self._judge.text_evidence(cosines, vector), "text"
        note = cut_note(self._texts.max_tokens)
        values = zip(cosines[0].tolist(), evidence[0].tolist(), self._texts.cut(texts), strict=True)
        return [
            Ranked(
                rank=0,
                index=index,
                candidate=texts[index],
                kind="text",
                cosine=cosine,
                evidence=value,
                verdict=self._judge.verdict(value, pair),
                note=note if cut else "",
            )
            for index, (cosine, value, cut) in enumerate(values)
        ]

    def _score_images(
        self,
        query: str | NamedImage,
        vector: torch.Tensor,
        images: Sequence[NamedImage],
        need_one: bool,
    ) -> list[Ranked]:
        paths = [image.path for image in images]
        pictures, bad = self._pictures.encode_readable(paths, need_one=need_one)
        rows = [
            Ranked(
                rank=0,
                index=index,
                candidate=image.name,
                kind="image",
                cosine=None,
                evidence=0.0,
                verdict="unsure",
                note=bad.get(index, ""),
            )
            for index, image in enumerate(images)
        ]
        if len(bad) == len(images):
            return rows
        cosines = pictures @ vector.T
        pair: Pair
        if isinstance(query, str):
            evidence, pair = self._judge.text_evidence(cosines, pictures), "text"
        else:
            evidence, pair = self._judge.image_evidence(pictures, vector), "images"
        good = [index for index in range(len(images)) if index not in bad]
        values = zip(good, cosines[:, 0].tolist(), evidence[:, 0].tolist(), strict=True)
        for index, cosine, value in values:
            verdict = self._judge.verdict(value, pair)
            rows[index] = replace(rows[index], cosine=cosine, evidence=value, verdict=verdict)
        return rows
