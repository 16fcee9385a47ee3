"""Evidence against neutral texts, and the verdicts that it gives."""

import numpy as np
import pytest
import torch

from pipelines.core.spec import VideoTextTraits
from pipelines.models.verdict import Judge, SceneCheck, evidence
from pipelines.models.viclip.modeling_viclip import LOGIT_SCALE

COSINES = torch.tensor([[0.30, 0.10], [0.20, 0.25]])
NEUTRAL = torch.tensor([[0.20, 0.10, 0.05], [0.22, 0.21, 0.20]])


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_evidence_takes_off_a_share_of_the_soft_maximum(weight: float) -> None:
    logits = NEUTRAL.double().numpy() * 20
    level = np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = COSINES.double().numpy() * 20 - weight * level
    found = evidence(COSINES, NEUTRAL, scale=20.0, weight=weight)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(-9.0, "no match"), (0.99, "no match"), (1.0, "unsure"), (1.99, "unsure"), (2.0, "match")],
)
def test_a_threshold_belongs_to_what_lies_above_it(value: float, verdict: str) -> None:
    traits = VideoTextTraits(text_thresholds=(1.0, 2.0))
    assert Judge(traits, lambda texts, _: torch.empty(0), 1.0).verdict(value) == verdict


def judge(weight: float = 1.0) -> Judge:
    traits = VideoTextTraits(text_thresholds=(2.0, 6.0), neutral_weight=weight)
    return Judge(traits, lambda texts, _: torch.eye(2)[[0] * len(texts)], LOGIT_SCALE)


def test_a_score_is_half_in_the_middle_of_the_thresholds() -> None:
    scores = judge().score(torch.tensor([2.0, 4.0, 6.0]))
    assert scores.tolist() == pytest.approx([0.1192, 0.5, 0.8808], abs=1e-4)
    assert [judge().verdict(value) for value in (1.9, 2.0, 6.0)] == ["no match", "unsure", "match"]


def test_evidence_of_a_video_takes_off_the_models_share_of_the_neutral_texts() -> None:
    video, cosines = torch.tensor([[0.6, 0.8]]), torch.tensor([[0.5]])
    level = 0.6 * LOGIT_SCALE + torch.log(torch.tensor(float(len(judge().bank))))
    for weight in (0.25, 1.0):
        found = judge(weight).text_evidence(cosines, video)
        assert float(found) == pytest.approx(0.5 * LOGIT_SCALE - weight * float(level), abs=1e-3)


#: Two scenes, a picture of the first, and one that is like neither.
BANK = torch.eye(3)[:2]
KNOWN, FOREIGN = torch.tensor([0.96, 0.28, 0.0]), torch.tensor([0.5, 0.5, 0.7071])


@pytest.mark.parametrize(("scale", "threshold"), [(0.0, 0.8), (10.0, 0.9)])
def test_only_what_is_like_no_scene_is_hinted_at(scale: float, threshold: float) -> None:
    """By the cosine, or by the share of the best scene among all."""
    check = SceneCheck(BANK, scale, threshold)
    assert check.notes(torch.stack([KNOWN])) == []
    (hint,) = check.notes(torch.stack([FOREIGN]))
    assert hint.startswith("This picture does not look like a drawing of coloured shapes")
    (hint,) = check.notes(torch.stack([FOREIGN, KNOWN, FOREIGN]), "video")
    assert hint.startswith("2 of the videos do not look like")


def test_a_real_model_hints_at_nothing() -> None:
    assert SceneCheck(None, 0.0, 1.0).notes(torch.stack([FOREIGN])) == []
    assert SceneCheck(BANK, 0.0, 1.0).notes(torch.empty(0, 3)) == []
