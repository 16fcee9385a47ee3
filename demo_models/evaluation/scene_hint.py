"""The hint that an image is not a scene of the demo world: its score and its threshold."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from demo_models.evaluation.held_out import drawing_cases, scene_cases, unrelated_images
from demo_models.evaluation.metrics import best_threshold

CALIBRATION_SEED = 501
REAL_PHOTOS = ("cheetah1.jpg", "lion.jpg", "bus.png", "tower.jpg", "groot.jpeg")


@dataclass(frozen=True)
class HintRule:
    """Show the hint when the score, "softmax" or "cosine", is below the threshold."""

    score: str
    threshold: float


def real_photos() -> list[Image.Image]:
    """Return photographs that come with Gradio; they are measured on, never trained on."""
    from gradio.media import get_image

    return [Image.open(get_image(name)).convert("RGB") for name in REAL_PHOTOS]


def hint_images(seed: int, num: int) -> dict[str, list[Image.Image]]:
    """Return the images that the hint is measured on, by kind."""
    return {
        "one_object_scene": [case.image for case in scene_cases(seed, num)],
        "scene_of_1_to_4": [case.image for case in scene_cases(seed + 1, num, None)],
        "paint_picture": [
            case.image
            for technique in ("tool", "freehand")
            for case in drawing_cases(seed, num // 2, technique)
        ],
        "non_scene": unrelated_images(seed, num),
        "non_scene_of_unseen_kind": unrelated_images(seed, num, held_out_kinds=True),
    }


def choose_rule(scores: dict[str, dict[str, list[float]]]) -> HintRule:
    """Return the better of the two scores with its threshold.

    Args:
        scores: For "softmax" and for "cosine" the maxima over the scene bank by kind of
            image, measured on the calibration seed.
    """
    best: dict[str, tuple[float, float]] = {}
    for name, by_kind in scores.items():
        scenes = [*by_kind["scene_of_1_to_4"], *by_kind["paint_picture"]]
        others = [*by_kind["non_scene"], *by_kind["non_scene_of_unseen_kind"]]
        best[name] = best_threshold(scenes, others)
    name = max(best, key=lambda each: best[each][1])
    return HintRule(name, best[name][0])
