"""The "does this picture look like a demo scene" hint: its score and its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from demo_models.evaluation.held_out import non_scene_cases, paint_cases, scene_cases

CALIBRATION_SEED = 501
REAL_PHOTOS = ("cheetah1.jpg", "lion.jpg", "bus.png", "tower.jpg", "groot.jpeg")


@dataclass(frozen=True)
class HintRule:
    """Show the hint when the score, "softmax" or "cosine", is below the threshold."""

    score: str
    threshold: float


def area_under_curve(high: Sequence[float], low: Sequence[float]) -> float:
    """Return the AUROC: how often a value of `high` exceeds one of `low`, ties half."""
    values = np.concatenate([np.asarray(high, float), np.asarray(low, float)])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = mean_ranks[inverse][: len(high)].sum()
    wins = rank_sum - len(high) * (len(high) + 1) / 2
    return float(wins / (len(high) * len(low)))


def best_threshold(scenes: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Return the threshold with the best mean of the two rates of right decisions, and that mean.

    A picture counts as a scene when its score reaches the threshold.
    """
    candidates = np.unique(np.concatenate([scenes, others]))
    is_scene, is_other = np.asarray(scenes), np.asarray(others)
    rates = [(np.mean(is_scene >= t) + np.mean(is_other < t)) / 2 for t in candidates]
    best = np.flatnonzero(np.isclose(rates, np.max(rates)))
    middle = int(best[len(best) // 2])
    return float(candidates[middle]), float(rates[middle])


def real_photos() -> list[Image.Image]:
    """Return photographs that come with Gradio; they are measured on, never trained on."""
    from gradio.media import get_image

    return [Image.open(get_image(name)).convert("RGB") for name in REAL_PHOTOS]


def hint_pictures(seed: int, num: int) -> dict[str, list[Image.Image]]:
    """Return the pictures that the hint is measured on, by kind."""
    return {
        "one_object_scene": [case.image for case in scene_cases(seed, num)],
        "scene_of_1_to_4": [case.image for case in scene_cases(seed + 1, num, None)],
        "paint_picture": [
            case.image
            for technique in ("tool", "freehand")
            for case in paint_cases(seed, num // 2, technique)
        ],
        "non_scene": non_scene_cases(seed, num),
        "non_scene_of_unseen_kind": non_scene_cases(seed, num, held_out_kinds=True),
    }


def choose_rule(scores: dict[str, dict[str, list[float]]]) -> HintRule:
    """Return the better of the two scores with its threshold.

    Args:
        scores: For "softmax" and for "cosine" the maxima over the scene bank by kind of
            picture, measured on the calibration seed.
    """
    best: dict[str, tuple[float, float]] = {}
    for name, by_kind in scores.items():
        scenes = [*by_kind["scene_of_1_to_4"], *by_kind["paint_picture"]]
        others = [*by_kind["non_scene"], *by_kind["non_scene_of_unseen_kind"]]
        best[name] = best_threshold(scenes, others)
    name = max(best, key=lambda each: best[each][1])
    return HintRule(name, best[name][0])
