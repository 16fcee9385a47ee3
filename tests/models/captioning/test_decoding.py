"""Drawing tokens: what temperature, top_p and seeds do to the logits."""

import pytest
import torch

from pipelines.core.options import GenerationOptions
from pipelines.models.captioning.decoding import SeededSampling

LOGITS = torch.tensor([[0.0, 1.0, 2.0, 3.0], [2.0, 0.5, 0.0, -1.0]])
IDS = torch.zeros(2, 1, dtype=torch.int64)


def drawn(temperature: float, top_p: float = 1.0, seeds: tuple[int, int] = (7, 8)) -> torch.Tensor:
    options = GenerationOptions(temperature=temperature, top_p=top_p)
    return SeededSampling(options, seeds)(IDS, LOGITS)


@pytest.mark.parametrize("temperature", [0.25, 2.0, 5.0])
def test_logits_are_divided_by_the_temperature(temperature: float) -> None:
    """The noise of a seed is the same, so the difference is that of the logits."""
    difference = drawn(temperature) - drawn(1.0)
    assert torch.allclose(difference, LOGITS / temperature - LOGITS, atol=1e-5)


def test_tokens_are_drawn_as_often_as_the_temperature_says() -> None:
    shares = (LOGITS[0] / 2.0).softmax(dim=-1)
    sampling = SeededSampling(GenerationOptions(temperature=2.0), [3])
    draws = [int(sampling(IDS[:1], LOGITS[:1]).argmax()) for _ in range(4000)]
    found = torch.bincount(torch.tensor(draws), minlength=4) / len(draws)
    assert torch.allclose(found, shares, atol=0.03)  # four standard deviations


def test_tokens_beyond_top_p_are_never_drawn() -> None:
    """Softmax of the first row: 0.03, 0.09, 0.24, 0.64."""
    assert drawn(1.0, 0.8)[0].isinf().tolist() == [True, True, False, False]
    assert drawn(1.0, 0.5)[0].isinf().tolist() == [True, True, True, False]
    assert not drawn(1.0).isinf().any()


def test_a_row_is_drawn_by_its_own_seed() -> None:
    one, other = drawn(1.0, seeds=(7, 8)), drawn(1.0, seeds=(9, 8))
    assert torch.equal(one[1], other[1]) and not torch.equal(one[0], other[0])
    same = drawn(1.0, seeds=(5, 5)) - LOGITS
    assert torch.allclose(same[0], same[1], atol=1e-6)
