"""Is it a match? A verdict on one pair that no other label can change."""

from pathlib import Path

import torch

from pipelines.catalogue import ContrastiveTraits
from pipelines.clip.texts import TextEncoder
from pipelines.results import Verdict

BANKS = Path(__file__).parent / "banks"


def read_bank(name: str) -> list[str]:
    """Return the neutral texts of a bank: one per line, lines that start with # are comments."""
    lines = (BANKS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def evidence(cosines: torch.Tensor, neutral: torch.Tensor) -> torch.Tensor:
    """Return how far each cosine stands out from what neutral texts score on the same image.

    A cosine of 0.25 means nothing by itself: one image scores 0.15 on everything, another 0.22.
    So a pair's cosine is measured against the same image's cosines with a fixed bank of neutral
    texts, in robust standard deviations above their median. Other labels do not enter.

    Args:
        cosines: (N, L), of N images with L texts.
        neutral: (N, B), of the same images with the B neutral texts.

    Returns:
        (N, L) float32.
    """
    middle = neutral.median(dim=-1, keepdim=True).values
    spread = (neutral - middle).abs().median(dim=-1, keepdim=True).values * 1.4826
    return (cosines - middle) / spread.clamp_min(1e-6)


def agreement(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return how alike two images score the neutral texts: Pearson's r, (N, M), -1..1.

    Two images share a cosine of 0.6 for being photographs; what they show is in which neutral
    texts they score high. So their profiles over the bank are correlated.

    Args:
        first: (N, B) cosines of N images with the B neutral texts.
        second: (M, B), of M other images.
    """
    return _centred(first) @ _centred(second).T


def _centred(profile: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(profile - profile.mean(dim=-1, keepdim=True), dim=-1)


class Judge:
    """Verdicts of one model."""

    def __init__(self, traits: ContrastiveTraits, texts: TextEncoder) -> None:
        """Read the bank; its vectors are computed when first needed, and kept."""
        self._traits = traits
        self._texts = texts
        self._bank = read_bank(traits.neutral_bank)

    def text_evidence(
        self, cosines: torch.Tensor, anchors: torch.Tensor, templates: tuple[str, ...]
    ) -> torch.Tensor:
        """Return the evidence, (N, L), for N anchors (image or text vectors) with L texts.

        The neutral texts are put into the same templates as the labels, so that a template
        moves both alike.
        """
        return evidence(cosines, anchors @ self._texts.vectors(self._bank, templates).T)

    def image_evidence(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the agreement, (N, M), of two sets of image vectors."""
        bank = self._texts.vectors(self._bank)
        return agreement(first @ bank.T, second @ bank.T)

    def direction(self, text: str, templates: tuple[str, ...]) -> torch.Tensor:
        """Return (D,): the text's vector less the mean of the neutral texts'."""
        neutral = self._texts.vectors(self._bank, templates).mean(dim=0)
        return self._texts.vectors([text], templates)[0] - neutral

    def of_text(self, value: float) -> Verdict:
        """Return the verdict on an image and a text."""
        return _verdict(value, self._traits.text_thresholds)

    def of_texts(self, value: float) -> Verdict:
        """Return the verdict on two texts."""
        return _verdict(value, self._traits.pair_of_texts_thresholds)

    def of_images(self, value: float) -> Verdict:
        """Return the verdict on two images."""
        return _verdict(value, self._traits.pair_of_images_thresholds)


def _verdict(value: float, thresholds: tuple[float, float]) -> Verdict:
    low, high = thresholds
    if value >= high:
        return "match"
    return "no match" if value < low else "unsure"
