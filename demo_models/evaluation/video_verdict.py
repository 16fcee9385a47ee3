"""Measure the demo ViCLIP's verdict on held-out pairs of video and text, propose thresholds.

`python -m demo_models.calibrate_viclip` takes the bank's weight and the thresholds from one seed,
judges another with them, and writes `verdict.json` beside the checkpoint: the AUROC of the
verdict's evidence beside that of the raw cosine and of a softmax among ten texts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from demo_models.evaluation.held_out import evaluation_rng, off_world_texts, weights_hash
from demo_models.evaluation.verdict import (
    CALIBRATION_SEED,
    NUM_OTHERS,
    NUM_PAIRS,
    TEST_SEED,
    auroc,
    report,
    thresholds,
)
from demo_models.evaluation.viclip import CHECKPOINT, open_pipeline
from demo_models.language.motion_statements import view_of
from demo_models.language.motion_texts import false_claim, true_claim
from demo_models.training.viclip.data import film, non_scene
from demo_models.world.motion import clip_times
from demo_models.world.motion_sampling import sample_motion
from pipelines.verdict import evidence
from pipelines.viclip.modeling_viclip import LOGIT_SCALE
from pipelines.viclip.pipeline import ViClipPipeline

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
    strange = off_world_texts(seed, num)
    pairs: list[VideoPair] = []
    index = 0
    while len(pairs) < num:
        kind = KINDS[index % len(KINDS)]
        motion = sample_motion(rng)
        frames, view = film(motion, clip_times(8), rng), view_of(motion)
        claim = true_claim(rng, view, kind if kind in KINDS[:4] else None)
        pairs.append(VideoPair(frames, claim.text, True, kind))
        false = false_claim(rng, view, claim)
        if kind == "off-world":
            pairs.append(VideoPair(frames, strange[index], False, kind))
        elif kind == "non-scene" and claim.acts:
            pairs.append(VideoPair(non_scene(rng, bool(index % 2)), claim.text, False, kind))
        elif false is not None:
            pairs.append(VideoPair(frames, false.text, False, kind))
        index += 1
    return pairs


def score_pairs(viclip: ViClipPipeline, pairs: Sequence[VideoPair]) -> dict[str, torch.Tensor]:
    """Return of each pair its cosine, those with the bank, and a softmax among ten texts."""
    videos = viclip.embed_frames([pair.frames for pair in pairs])
    texts = viclip.embed_texts([pair.text for pair in pairs]).vectors
    bank = viclip.embed_texts(viclip.judge.bank).vectors
    cosines = (videos * texts).sum(dim=-1)
    rng = np.random.default_rng(0)
    rows = np.arange(len(pairs))
    others = np.stack([rng.choice(np.delete(rows, row), NUM_OTHERS, replace=False) for row in rows])
    rest = torch.einsum("nd,nkd->nk", videos, texts[torch.from_numpy(others)])
    among = (torch.cat([cosines[:, None], rest], dim=1) * LOGIT_SCALE).softmax(dim=-1)[:, 0]
    return {"cosine": cosines, "neutral": videos @ bank.T, "softmax": among}


def as_scores(found: dict[str, torch.Tensor], weight: float) -> Scores:
    """Return the three scores of each pair, the evidence with this weight of the bank."""
    value = evidence(found["cosine"][:, None], found["neutral"], scale=LOGIT_SCALE, weight=weight)
    return {
        "evidence": value[:, 0].double().numpy(),
        "cosine": found["cosine"].double().numpy(),
        "softmax": found["softmax"].double().numpy(),
    }


def main() -> None:
    """Calibrate, test, write `verdict.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--num", type=int, default=NUM_PAIRS)
    args = parser.parse_args()
    with open_pipeline(args.checkpoint) as viclip:
        pairs = video_pairs(CALIBRATION_SEED, args.num)
        truths = np.array([pair.is_true for pair in pairs])
        found = score_pairs(viclip, pairs)
        weight = max(WEIGHTS, key=lambda w: auroc(as_scores(found, w)["evidence"], truths))
        bounds = thresholds(as_scores(found, weight)["evidence"], truths)
        pairs = video_pairs(TEST_SEED, args.num)
        figures: dict[str, Any] = report(
            as_scores(score_pairs(viclip, pairs), weight), pairs, bounds
        )
    figures["neutral_weight"] = weight
    figures["script"] = "python -m demo_models.calibrate_viclip"
    figures["weights_sha256"] = weights_hash(args.checkpoint)
    figures["seeds"] = {"calibration": CALIBRATION_SEED, "test": TEST_SEED}
    text = json.dumps(figures, indent=1)
    (args.checkpoint / "verdict.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
