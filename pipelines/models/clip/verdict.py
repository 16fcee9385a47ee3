"""Is it a match? A verdict on one pair that no other label can change."""

import torch

from pipelines.core.results import Verdict
from pipelines.core.spec import ContrastiveTraits
from pipelines.models.clip.texts import TextEncoder
from pipelines.models.verdict import evidence, read_bank, verdict_of


def overlap(first: torch.Tensor, second: torch.Tensor, *, scale: float) -> torch.Tensor:
    """Return how alike two images spread over the neutral texts, (N, M), 0..1.

    The Bhattacharyya coefficient of the two softmax distributions over the bank: 1 where the
    same texts describe both. The raw cosine of two images is high for being of one style.

    Args:
        first: (N, B) cosines of N images with the B neutral texts.
        second: (M, B), of M other images.
        scale: the model's logit scale.
    """
    shares = [(cosines * scale).softmax(dim=-1).sqrt() for cosines in (first, second)]
    return shares[0] @ shares[1].T


class ImageTextJudge:
    """Verdicts of one model."""

    def __init__(self, traits: ContrastiveTraits, texts: TextEncoder, scale: float) -> None:
        """Read the bank; its vectors are computed when first needed, and kept."""
        self._traits = traits
        self._scale = scale
        self._texts = texts
        self._bank = read_bank(traits.neutral_bank)

    def text_evidence(
        self, cosines: torch.Tensor, anchors: torch.Tensor, templates: tuple[str, ...]
    ) -> torch.Tensor:
        """Return the evidence, (N, L), for N anchors (image or text vectors) with L texts.

        The neutral texts are put into the same templates as the labels, so that a template
        moves both alike.
        """
        neutral = anchors @ self._texts.vectors(self._bank, templates).T
        return evidence(cosines, neutral, scale=self._scale, weight=self._traits.neutral_weight)

    def pair_evidence(
        self, cosines: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        """Return the evidence, (N, M), for N texts with M texts, the same both ways round.

        Each text takes the place of the image once; the mean of the two counts.
        """
        bank = self._texts.vectors(self._bank).T
        levels = [(words @ bank * self._scale).logsumexp(dim=-1) for words in (first, second)]
        level = (levels[0][:, None] + levels[1][None, :]) / 2
        return cosines * self._scale - self._traits.neutral_weight * level

    def image_evidence(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the overlap, (N, M), of two sets of image vectors."""
        bank = self._texts.vectors(self._bank).T
        return overlap(first @ bank, second @ bank, scale=self._scale)

    def direction(self, text: str, templates: tuple[str, ...]) -> torch.Tensor:
        """Return (D,): the text's vector less the mean of the neutral texts'."""
        neutral = self._texts.vectors(self._bank, templates).mean(dim=0)
        return self._texts.vectors([text], templates)[0] - neutral

    def of_text(self, value: float) -> Verdict:
        """Return the verdict on an image and a text."""
        return verdict_of(value, self._traits.text_thresholds)

    def of_texts(self, value: float) -> Verdict:
        """Return the verdict on two texts."""
        return verdict_of(value, self._traits.pair_of_texts_thresholds)

    def of_images(self, value: float) -> Verdict:
        """Return the verdict on two images."""
        return verdict_of(value, self._traits.pair_of_images_thresholds)
