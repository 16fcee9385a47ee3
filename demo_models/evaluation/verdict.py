"""Measure the verdict on held-out pairs and propose its thresholds.

`python -m demo_models.calibrate_verdict` takes thresholds from one seed, judges another with
them, and writes `verdict.json` beside the checkpoint: the AUROC of the verdict's evidence beside
that of the raw cosine and of a softmax among ten labels, in all and for each kind of pair.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from demo_models.evaluation.held_out import LabelledPair, labelled_pairs, scene_cases, weights_hash
from demo_models.language.statement_wording import TEMPLATES, item_words, pick
from demo_models.language.statements import Item
from pipelines.catalogue import DEMO_CLIP
from pipelines.clip.pipeline import ClipPipeline
from pipelines.runtime import Device
from pipelines.settings import Settings
from pipelines.sources import BUNDLE

CALIBRATION_SEED, TEST_SEED = 11, 12
NUM_PAIRS = 2400
#: A "match" and a "no match" should be right this often.
RIGHT = 0.95
NUM_OTHERS = 9


class Judged(Protocol):
    """Something with a text that is true of it or not."""

    @property
    def is_true(self) -> bool:
        """Whether it is."""

    @property
    def kind(self) -> str:
        """What sort of text."""


Floats = NDArray[np.float64]


def auroc(scores: Floats, truths: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: P(a true pair scores above a false one)."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    true, false = int(truths.sum()), int((~truths).sum())
    return float((ranks[truths].sum() - true * (true + 1) / 2) / (true * false))


def score_pairs(clip: ClipPipeline, pairs: Sequence[LabelledPair]) -> dict[str, Floats]:
    """Return for each pair the evidence, the cosine and a softmax among ten labels."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.png" for index in range(len(pairs))]
        for path, pair in zip(paths, pairs, strict=True):
            pair.image.save(path)
        pictures = clip.pictures.encode(paths)
    texts = clip.texts.vectors([pair.text for pair in pairs])
    cosines = (pictures * texts).sum(dim=-1)
    rng = np.random.default_rng(0)
    rows = np.arange(len(pairs))
    others = np.stack([rng.choice(np.delete(rows, row), NUM_OTHERS, replace=False) for row in rows])
    logits = torch.einsum("nd,nkd->nk", pictures, texts[torch.from_numpy(others)])
    among = torch.cat([cosines[:, None], logits], dim=1) * clip.scale
    evidence = clip.judge.text_evidence(cosines[:, None], pictures, ("{}",))[:, 0]
    return {
        "evidence": evidence.double().numpy(),
        "cosine": cosines.double().numpy(),
        "softmax": among.softmax(dim=-1)[:, 0].double().numpy(),
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
        figures = {name: round(auroc(s[chosen], truths[chosen]), 4) for name, s in scores.items()}
        by_kind[kind] = {"n": int(mine.sum()), **figures}
    return {
        "n": len(pairs),
        "auroc": {name: round(auroc(values, truths), 4) for name, values in scores.items()},
        "auroc_by_kind": by_kind,
        "thresholds": [low, high],
        "match_is_right": round(float(truths[match].mean()), 4),
        "no_match_is_right": round(float((~truths[no_match]).mean()), 4),
        "share_unsure": round(float((~match & ~no_match).mean()), 4),
    }


def pairs_of_pictures(clip: ClipPipeline, seed: int, num: int = 500) -> dict[str, Any]:
    """Return how well the overlap tells pictures of the same object from others."""
    cases = scene_cases(seed, num)
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.png" for index in range(num)]
        for path, case in zip(paths, cases, strict=True):
            case.image.save(path)
        vectors = clip.pictures.encode(paths)
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
            "overlap": round(auroc(overlap, same), 4),
            "cosine": round(auroc(cosine, same), 4),
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
    """Return how well two texts that mean the same object are told from others."""
    found, same = score_pairs_of_texts(clip, CALIBRATION_SEED)
    bounds = gap(found["evidence"], same)
    found, same = score_pairs_of_texts(clip, TEST_SEED)
    match, no_match = found["evidence"] >= bounds[1], found["evidence"] < bounds[0]
    return {
        "n": int(same.size),
        "n_same": int(same.sum()),
        "auroc": {name: round(auroc(values, same), 4) for name, values in found.items()},
        "thresholds": list(bounds),
        "match_is_right": round(float(same[match].mean()), 4),
        "no_match_is_right": round(float((~same[no_match]).mean()), 4),
    }


def main() -> None:
    """Calibrate, test, write `verdict.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=BUNDLE / DEMO_CLIP.key)
    parser.add_argument("--num", type=int, default=NUM_PAIRS)
    args = parser.parse_args()
    with TemporaryDirectory() as cache:
        device = Device("cpu", "float32", False, "calibration")
        clip = ClipPipeline(DEMO_CLIP, args.checkpoint, device, Settings(cache_dir=Path(cache)))
        clip.load()
        calibration = labelled_pairs(CALIBRATION_SEED, args.num)
        found = score_pairs(clip, calibration)
        bounds = thresholds(found["evidence"], np.array([p.is_true for p in calibration]))
        pairs = labelled_pairs(TEST_SEED, args.num)
        figures = report(score_pairs(clip, pairs), pairs, bounds)
        figures["pairs_of_pictures"] = pairs_of_pictures(clip, TEST_SEED)
        figures["pairs_of_texts"] = pairs_of_texts(clip)
        clip.unload()
    figures["script"] = "python -m demo_models.calibrate_verdict"
    figures["weights_sha256"] = weights_hash(args.checkpoint)
    figures["seeds"] = {"calibration": CALIBRATION_SEED, "test": TEST_SEED}
    text = json.dumps(figures, indent=1)
    (args.checkpoint / "verdict.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
