"""Scores and verdicts on videos, for thresholds that are not those of the catalogue."""

import pytest
import torch

from pipelines.core.spec import VideoTextTraits
from pipelines.models.viclip.modeling_viclip import LOGIT_SCALE
from pipelines.models.viclip.verdict import VideoTextJudge


def judge(weight: float = 1.0) -> VideoTextJudge:
    traits = VideoTextTraits(text_thresholds=(2.0, 6.0), neutral_weight=weight)
    return VideoTextJudge(traits, lambda texts: torch.eye(2)[[0] * len(texts)])


def test_a_score_is_half_in_the_middle_of_the_thresholds() -> None:
    scores = judge().score(torch.tensor([2.0, 4.0, 6.0]))
    assert scores.tolist() == pytest.approx([0.1192, 0.5, 0.8808], abs=1e-4)
    assert [judge().verdict(value) for value in (1.9, 2.0, 6.0)] == ["no match", "unsure", "match"]


def test_evidence_of_a_video_takes_off_the_models_share_of_the_neutral_texts() -> None:
    video, cosines = torch.tensor([[0.6, 0.8]]), torch.tensor([[0.5]])
    level = 0.6 * LOGIT_SCALE + torch.log(torch.tensor(float(len(judge().bank))))
    for weight in (0.25, 1.0):
        found = judge(weight).evidence(cosines, video)
        assert float(found) == pytest.approx(0.5 * LOGIT_SCALE - weight * float(level), abs=1e-3)
