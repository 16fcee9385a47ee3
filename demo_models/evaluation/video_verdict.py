"""Calibration of the verdicts of demo-viclip on held-out pairs of video and text.

The weight of the neutral bank and the thresholds come from one seed and are measured on another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from demo_models.evaluation.held_out import evaluation_rng, unrelated_texts
from demo_models.evaluation.request import Request
from demo_models.evaluation.verdict import (
    CALIBRATION_SEED,
    SEEDS,
    TEST_SEED,
    area,
    report,
    softmax_among,
    thresholds,
)
from demo_models.evaluation.viclip import open_viclip
from demo_models.language.motion_statements import view_of
from demo_models.language.motion_texts import false_claim, true_claim
from demo_models.training.viclip.data import render_clip, unrelated_video
from demo_models.world.motion import clip_times
from demo_models.world.motion_sampling import sample_motion
from pipelines.models.verdict import evidence
from pipelines.models.viclip.modeling_viclip import LOGIT_SCALE
from pipelines.models.viclip.pipeline import ViClipPipeline

KINDS = ("action", "order", "object", "still", "off-world", "non-scene")
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class VideoPair:
    """Frames (8, 64, 64, 3) uint8, a text, and whether it is true of them."""

    frames: NDArray[np.uint8]
    text: str
    is_true: bool
    kind: str


def video_pairs(seed: int, num: int) -> list[VideoPair]:
    """Return about `num` pairs, half of them true.

    Of each motion one text is true; a false one comes from it with one attribute changed, from
    another motion, or is about other things; some false ones are about videos of no scene.
    """
    rng = evaluation_rng(seed, "video pairs")
    strange = unrelated_texts(seed, num)
    pairs: list[VideoPair] = []
    index = 0
    while len(pairs) < num:
        kind = KINDS[index % len(KINDS)]
        motion = sample_motion(rng)
        frames, view = render_clip(motion, clip_times(8), rng), view_of(motion)
        claim = true_claim(rng, view, kind if kind in KINDS[:4] else None)
        pairs.append(VideoPair(frames, claim.text, True, kind))
        false = false_claim(rng, view, claim)
        if kind == "off-world":
            pairs.append(VideoPair(frames, strange[index], False, kind))
        elif kind == "non-scene" and claim.acts:
            pairs.append(VideoPair(unrelated_video(rng, bool(index % 2)), claim.text, False, kind))
        elif false is not None:
            pairs.append(VideoPair(frames, false.text, False, kind))
        index += 1
    return pairs


def score_pairs(viclip: ViClipPipeline, pairs: Sequence[VideoPair]) -> dict[str, torch.Tensor]:
    """Return of each pair its cosine, those with the bank, and a softmax among ten texts."""
    videos = viclip.encoder.embed_frames([pair.frames for pair in pairs])
    texts = viclip.encoder.embed_texts([pair.text for pair in pairs])
    bank = viclip.encoder.embed_texts(viclip.judge.bank)
    cosines = (videos * texts).sum(dim=-1)
    among = softmax_among(videos, texts, cosines, LOGIT_SCALE)
    return {"cosine": cosines, "neutral": videos @ bank.T, "softmax": among}


def as_scores(found: dict[str, torch.Tensor], weight: float) -> Scores:
    """Return the three scores of each pair, the evidence with this weight of the bank."""
    value = evidence(found["cosine"][:, None], found["neutral"], scale=LOGIT_SCALE, weight=weight)
    return {
        "evidence": value[:, 0].double().numpy(),
        "cosine": found["cosine"].double().numpy(),
        "softmax": found["softmax"].double().numpy(),
    }


def evaluate(request: Request) -> dict[str, Any]:
    """Return the figures of the test pairs with weight and thresholds of the calibration pairs."""
    with open_viclip(request.checkpoint) as viclip:
        pairs = video_pairs(CALIBRATION_SEED, request.num)
        truths = np.array([pair.is_true for pair in pairs])
        found = score_pairs(viclip, pairs)
        weight = max(WEIGHTS, key=lambda w: area(as_scores(found, w)["evidence"], truths))
        bounds = thresholds(as_scores(found, weight)["evidence"], truths)
        pairs = video_pairs(TEST_SEED, request.num)
        figures = report(as_scores(score_pairs(viclip, pairs), weight), pairs, bounds)
    return {**figures, "neutral_weight": weight, "seeds": SEEDS}
