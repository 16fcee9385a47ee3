"""The hint that a picture is unlike what the demo model was trained on."""

import pytest
import torch

from pipelines.models.scene_check import SceneCheck

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
