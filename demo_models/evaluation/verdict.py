"""Calibration of the verdicts of demo-clip on held-out pairs.

The thresholds come from one seed and are measured on another: the AUROC of the verdict's evidence
beside that of the raw cosine and of a softmax among ten labels, in all and by kind of pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from demo_models.evaluation.held_out import LabelledPair, labelled_pairs, scene_cases
from demo_models.evaluation.metrics import auroc
from demo_models.evaluation.request import Request, open_pipeline
from demo_models.language.statement_wording import TEMPLATES, item_words, pick
from demo_models.language.statements import Item
from pipelines.models.catalogue import DEMO_CLIP
from pipelines.models.clip.pipeline import ClipPipeline

CALIBRATION_SEED, TEST_SEED = 11, 12
SEEDS = {"calibration": CALIBRATION_SEED, "test": TEST_SEED}
RIGHT = 0.95
"""Share of right verdicts of each sort that the thresholds aim at."""

NUM_OTHERS = 9


class Judged(Protocol):
    """A pair with a text that is true or false."""

    @property
    def is_true(self) -> bool:
        """Return the truth."""

    @property
    def kind(self) -> str:
        """Return the kind of pair."""


Floats = NDArray[np.float64]


def area(scores: Floats, truths: NDArray[np.bool_]) -> float:
    """Return the rounded area under the ROC curve of scores."""
    return round(auroc(scores[truths], scores[~truths]), 4)


def softmax_among(values: Tensor, texts: Tensor, cosines: Tensor, scale: float) -> Tensor:
    """Return the softmax of each pair's cosine (N,) among those with nine texts of other pairs.

    Args:
        values: (N, D) unit vectors of images or videos.
        texts: (N, D) unit vectors of their texts.
        cosines: (N,) of each pair.
        scale: Factor on the cosines.
    """
    rng, rows = np.random.default_rng(0), np.arange(len(texts))
    others = np.stack([rng.choice(np.delete(rows, row), NUM_OTHERS, replace=False) for row in rows])
    rest = torch.einsum("nd,nkd->nk", values, texts[torch.from_numpy(others)])
    return (torch.cat([cosines[:, None], rest], dim=1) * scale).softmax(dim=-1)[:, 0]


def encode(clip: ClipPipeline, images: Sequence[Image.Image]) -> Tensor:
    """Return unit vectors (N, D) of images, read as files."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.png" for index in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            image.save(path)
        return clip.pictures.encode(paths)


def score_pairs(clip: ClipPipeline, pairs: Sequence[LabelledPair]) -> dict[str, Floats]:
    """Return for each pair the evidence, the cosine and a softmax among ten labels."""
    images = encode(clip, [pair.image for pair in pairs])
    texts = clip.texts.vectors([pair.text for pair in pairs])
    cosines = (images * texts).sum(dim=-1)
    evidence = clip.judge.text_evidence(cosines[:, None], images, ("{}",))[:, 0]
    return {
        "evidence": evidence.double().numpy(),
        "cosine": cosines.double().numpy(),
        "softmax": softmax_among(images, texts, cosines, clip.scale).double().numpy(),
    }


def thresholds(evidence: Floats, truths: NDArray[np.bool_]) -> tuple[float, float]:
    """Return (no match below, match from) at which both verdicts are right often enough."""
    order = np.argsort(-evidence)
    right = np.cumsum(truths[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(right >= RIGHT)
    match_from = float(evidence[order[enough[-1]]]) if enough.size else float(evidence.max())
    wrong = np.cumsum(~truths[order[::-1]]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(wrong >= RIGHT)
    below = float(evidence[order[::-1][enough[-1]]]) if enough.size else float(evidence.min())
    return round(min(below, match_from), 2), round(max(below, match_from), 2)


def report(
    scores: dict[str, Floats], pairs: Sequence[Judged], bounds: tuple[float, float]
) -> dict[str, Any]:
    """Return the figures of the test pairs, in all and by kind."""
    truths = np.array([pair.is_true for pair in pairs])
    kinds = np.array([pair.kind for pair in pairs])
    low, high = bounds
    evidence = scores["evidence"]
    match, no_match = evidence >= high, evidence < low
    by_kind = {}
    for kind in sorted(set(kinds)):
        # a kind that holds false pairs only is set against all true ones
        mine = kinds == kind
        chosen = mine if truths[mine].any() else mine | truths
        figures = {name: area(s[chosen], truths[chosen]) for name, s in scores.items()}
        by_kind[kind] = {"n": int(mine.sum()), **figures}
    return {
        "n": len(pairs),
        "auroc": {name: area(values, truths) for name, values in scores.items()},
        "auroc_by_kind": by_kind,
        "thresholds": [low, high],
        "match_is_right": round(float(truths[match].mean()), 4),
        "no_match_is_right": round(float((~truths[no_match]).mean()), 4),
        "share_unsure": round(float((~match & ~no_match).mean()), 4),
    }


def pairs_of_images(clip: ClipPipeline, seed: int, num: int = 500) -> dict[str, Any]:
    """Return how well the overlap separates images of the same object from others."""
    cases = scene_cases(seed, num)
    vectors = encode(clip, [case.image for case in cases])
    names = [(case.scene.objects[0].colour, case.scene.objects[0].shape) for case in cases]
    upper = np.triu_indices(num, 1)
    same = np.array([names[a] == names[b] for a, b in zip(*upper, strict=True)])
    overlap = clip.judge.image_evidence(vectors, vectors).double().numpy()[upper]
    cosine = (vectors @ vectors.T).double().numpy()[upper]
    low, high = clip.traits.pair_of_images_thresholds
    return {
        "n": int(same.size),
        "n_same": int(same.sum()),
        "auroc": {
            "overlap": area(overlap, same),
            "cosine": area(cosine, same),
        },
        "same_called_match": round(float((overlap[same] >= high).mean()), 4),
        "other_called_match": round(float((overlap[~same] >= high).mean()), 4),
        "same_called_no_match": round(float((overlap[same] < low).mean()), 4),
    }


def score_pairs_of_texts(
    clip: ClipPipeline, seed: int, num: int = 400
) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
    """Return the scores of pairs of texts, and which name the same object in other words."""
    rng = np.random.default_rng(seed)
    objects = [case.scene.objects[0] for case in scene_cases(seed, num)]
    items = [Item(colour=one.colour, shape=one.shape) for one in objects]
    first, second = (
        [pick(rng, TEMPLATES).format(item_words(item, rng)) for item in items] for _ in range(2)
    )
    words = [clip.texts.vectors(texts) for texts in (first, second)]
    cosines = words[0] @ words[1].T
    scores = {"evidence": clip.judge.pair_evidence(cosines, *words), "cosine": cosines}
    names = np.array([f"{item.colour} {item.shape}" for item in items])
    same = names[:, None] == names[None, :]
    # words that were drawn alike say nothing about other words
    other_words = np.array(first)[:, None] != np.array(second)[None, :]
    found = {name: values.double().numpy()[other_words] for name, values in scores.items()}
    return found, same[other_words]


def gap(evidence: Floats, same: NDArray[np.bool_]) -> tuple[float, float]:
    """Return (no match below, match from) where hardly a pair lies between the two kinds.

    What lies between them are texts that agree in part: "red" and "a red circle".
    """
    low = float(np.quantile(evidence[~same], 0.999))
    high = (low + float(np.quantile(evidence[same], 0.01))) / 2
    return round(low, 2), round(high, 2)


def pairs_of_texts(clip: ClipPipeline) -> dict[str, Any]:
    """Return how well two texts of the same object are separated from others."""
    found, same = score_pairs_of_texts(clip, CALIBRATION_SEED)
    bounds = gap(found["evidence"], same)
    found, same = score_pairs_of_texts(clip, TEST_SEED)
    match, no_match = found["evidence"] >= bounds[1], found["evidence"] < bounds[0]
    return {
        "n": int(same.size),
        "n_same": int(same.sum()),
        "auroc": {name: area(values, same) for name, values in found.items()},
        "thresholds": list(bounds),
        "match_is_right": round(float(same[match].mean()), 4),
        "no_match_is_right": round(float((~same[no_match]).mean()), 4),
    }


def evaluate(request: Request) -> dict[str, Any]:
    """Return the figures of the test pairs with the thresholds of the calibration pairs."""
    with open_pipeline(ClipPipeline, DEMO_CLIP, request.checkpoint) as clip:
        pairs = labelled_pairs(CALIBRATION_SEED, request.num)
        truths = np.array([pair.is_true for pair in pairs])
        bounds = thresholds(score_pairs(clip, pairs)["evidence"], truths)
        pairs = labelled_pairs(TEST_SEED, request.num)
        return {
            **report(score_pairs(clip, pairs), pairs, bounds),
            "pairs_of_pictures": pairs_of_images(clip, TEST_SEED),
            "pairs_of_texts": pairs_of_texts(clip),
            "seeds": SEEDS,
        }
