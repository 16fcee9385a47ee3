"""The vectors of the neutral texts are computed once per template."""

from collections.abc import Sequence
from typing import Any

import torch

from pipelines.models.catalogue import CATALOGUE
from pipelines.models.verdict import NUM_TEMPLATES, Judge


class CountingTexts:
    """Stands for a text encoder; notes the templates that whole banks are asked for with."""

    def __init__(self) -> None:
        self.banks: list[tuple[str, ...]] = []

    def vectors(self, texts: Sequence[str], templates: tuple[str, ...] = ("{}",)) -> torch.Tensor:
        if len(texts) > 1:
            self.banks.append(templates)
        torch.manual_seed(len(templates[0]))
        return torch.nn.functional.normalize(torch.randn(len(texts), 8), dim=-1)


def test_the_neutral_texts_are_asked_for_once_per_template() -> None:
    texts: Any = CountingTexts()
    traits = CATALOGUE["demo-clip"].contrastive
    assert traits is not None
    judge = Judge(traits, texts.vectors, 10.0)
    pictures = torch.eye(8)[:2]
    photo = ("a photo of a {}.",)
    first = judge.text_evidence(torch.zeros(2, 3), pictures, photo)
    assert torch.equal(judge.text_evidence(torch.zeros(2, 3), pictures, photo), first)
    assert not torch.equal(judge.text_evidence(torch.zeros(2, 3), pictures, ("{}",)), first)
    judge.image_evidence(pictures, pictures)
    judge.pair_evidence(torch.zeros(2, 2), pictures, pictures)
    judge.direction("a cat", photo)
    assert texts.banks == [photo, ("{}",)]
    for number in range(NUM_TEMPLATES):
        judge.direction("a cat", (f"{'very ' * number}small {{}}",))
    judge.direction("a cat", photo)
    assert texts.banks.count(photo) == 2, "templates that visitors write do not pile up"
