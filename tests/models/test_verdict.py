"""Evidence against neutral texts, and the verdicts that it gives."""

import numpy as np
import pytest
import torch

from pipelines.models.verdict import evidence, verdict_of

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
    assert verdict_of(value, (1.0, 2.0)) == verdict
