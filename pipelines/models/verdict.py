"""Is it a match? Evidence against neutral texts, and what it means."""

from pathlib import Path

import torch

from pipelines.core.results import Verdict

BANKS = Path(__file__).parent / "banks"


def read_bank(name: str) -> list[str]:
    """Return the neutral texts of a bank: one per line, lines that start with # are comments."""
    lines = (BANKS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def evidence(
    cosines: torch.Tensor, neutral: torch.Tensor, *, scale: float, weight: float
) -> torch.Tensor:
    """Return how far each text beats what neutral texts score on the same image.

    A cosine of 0.25 means nothing by itself: one image scores 0.15 on everything, another 0.22.
    So a pair's logit is set against the soft maximum (log-sum-exp) of the same image's logits
    with a fixed bank of neutral texts. With weight 1 that is the logarithm of the text's odds
    against the whole bank. Other labels do not enter.

    Args:
        cosines: (N, L), of N images with L texts.
        neutral: (N, B), of the same images with the B neutral texts.
        scale: the model's logit scale.
        weight: how much of the soft maximum is taken off, 0..1; a model whose cosines already
            mean the same on every image wants less than 1.

    Returns:
        (N, L) float32, in nats, unbounded.
    """
    level = (neutral * scale).logsumexp(dim=-1, keepdim=True)
    return cosines * scale - weight * level


def verdict_of(value: float, thresholds: tuple[float, float]) -> Verdict:
    """Return what evidence means: under the first "no match", from the second on "match"."""
    low, high = thresholds
    if value >= high:
        return "match"
    return "no match" if value < low else "unsure"
