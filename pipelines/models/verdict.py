"""Verdicts on pairs of vectors, by comparison with a fixed bank of texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pipelines.compute.lru import LruCache
from pipelines.core.messages import Message
from pipelines.core.results import LabelScore, Verdict
from pipelines.core.spec import ContrastiveTraits, VideoTextTraits
from pipelines.core.text import cut_note
from pipelines.weights.demo_card import read_demo_card

BANKS = Path(__file__).parent / "banks"

#: Returns the (N, D) unit vectors of N texts, each put into the templates.
TextVectors = Callable[[Sequence[str], tuple[str, ...]], torch.Tensor]

#: An image or video with a text, two texts, two images.
Pair = Literal["text", "texts", "images"]

#: The text alone.
PLAIN = ("{}",)

#: Templates whose matrices of neutral vectors are cached; visitors may write their own.
NUM_TEMPLATES = 8


def read_bank(name: str) -> list[str]:
    """Return the neutral texts of a bank: one per line, lines that start with # are comments."""
    lines = (BANKS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def evidence(
    cosines: torch.Tensor, neutral: torch.Tensor, *, scale: float, weight: float
) -> torch.Tensor:
    """Return by how much each text beats the neutral texts on the same image.

    A cosine of 0.25 means nothing by itself: one image scores 0.15 on everything, another 0.22. So
    the soft maximum (log-sum-exp) of the image's logits with the neutral texts is subtracted from a
    pair's logit. With weight 1 the result is the logarithm of the text's odds against the whole
    bank. Other labels have no influence.

    Args:
        cosines: (N, L), of N images with L texts.
        neutral: (N, B), of the same images with the B neutral texts.
        scale: the model's logit scale.
        weight: share of the soft maximum, 0..1; below 1 where cosines are nearly comparable
            between images.

    Returns:
        (N, L) float32, in nats, unbounded.
    """
    level = (neutral * scale).logsumexp(dim=-1, keepdim=True)
    return cosines * scale - weight * level


class Judge:
    """Verdicts of one model with logit scale `scale`; the bank is encoded on first use."""

    def __init__(
        self, traits: ContrastiveTraits | VideoTextTraits, vectors: TextVectors, scale: float
    ) -> None:
        self.bank = read_bank(traits.neutral_bank)
        self._vectors = vectors
        self._matrices: LruCache[tuple[str, ...], torch.Tensor] = LruCache(NUM_TEMPLATES)
        self._scale = scale
        self._weight = traits.neutral_weight
        self._thresholds: dict[Pair, tuple[float, float]] = {"text": traits.text_thresholds}
        if isinstance(traits, ContrastiveTraits):
            self._thresholds["texts"] = traits.pair_of_texts_thresholds
            self._thresholds["images"] = traits.pair_of_images_thresholds

    def text_evidence(
        self, cosines: torch.Tensor, anchors: torch.Tensor, templates: tuple[str, ...] = PLAIN
    ) -> torch.Tensor:
        """Return the evidence, (N, L), for N anchors with L texts, whose cosines are (N, L).

        `anchors` are (N, D) unit vectors of images, videos or texts. The neutral texts are put into
        `templates`, which are those of the texts.
        """
        neutral = anchors @ self._neutral(templates).T
        return evidence(cosines, neutral, scale=self._scale, weight=self._weight)

    def pair_evidence(
        self, cosines: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        """Return the symmetric evidence, (N, M), for N texts with M texts.

        Each text takes the place of the image once; the result is the mean of the two.
        """
        bank = self._neutral().T
        levels = [(words @ bank * self._scale).logsumexp(dim=-1) for words in (first, second)]
        level = (levels[0][:, None] + levels[1][None, :]) / 2
        return cosines * self._scale - self._weight * level

    def image_evidence(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the overlap, (N, M) in 0..1, of (N, D) and (M, D) image vectors.

        The Bhattacharyya coefficient of the images' softmax distributions over the bank: 1 where
        the same texts describe both. Raw cosines of images of one style are always high.
        """
        bank = self._neutral().T
        shares = [(v @ bank * self._scale).softmax(dim=-1).sqrt() for v in (first, second)]
        return shares[0] @ shares[1].T

    def direction(self, text: str, templates: tuple[str, ...]) -> torch.Tensor:
        """Return (D,): the text's vector less the mean of the neutral texts'."""
        return self._vectors([text], templates)[0] - self._neutral(templates).mean(dim=0)

    def verdict(self, value: float, pair: Pair = "text") -> Verdict:
        """Return "match" from the upper threshold on, "no match" below the lower one."""
        low, high = self._thresholds[pair]
        if value >= high:
            return "match"
        return "no match" if value < low else "unsure"

    def label_scores(
        self,
        labels: Sequence[str],
        probabilities: torch.Tensor,
        cosines: torch.Tensor,
        evidence: torch.Tensor,
        cut: Sequence[bool],
        max_tokens: int,
    ) -> tuple[LabelScore, ...]:
        """Return the scores of L labels, most probable first, from (L,) values of each.

        `cut` states which labels are longer than `max_tokens`, the model's limit.
        """
        values = (probabilities.tolist(), cosines.tolist(), evidence.tolist(), cut)
        scores = [
            LabelScore(
                label=label,
                probability=probability,
                cosine=cosine,
                evidence=value,
                verdict=self.verdict(value),
                note=cut_note(max_tokens) if is_cut else "",
            )
            for label, probability, cosine, value, is_cut in zip(labels, *values, strict=True)
        ]
        return tuple(sorted(scores, key=lambda score: -score.probability))

    def score(self, values: torch.Tensor) -> torch.Tensor:
        """Return evidence for texts as 0..1: a sigmoid around the middle of the thresholds.

        A sigmoid around 0 would be near 1 everywhere for a model with large evidence.
        """
        low, high = self._thresholds["text"]
        return (values.double() - (low + high) / 2).sigmoid()

    def _neutral(self, templates: tuple[str, ...] = PLAIN) -> torch.Tensor:
        return self._matrices.get_or_compute(templates, lambda: self._vectors(self.bank, templates))


#: What a real model is for.
_REAL = {"picture": Message("photos"), "video": Message("filmed videos")}

#: One foreign picture, or several, as messages name them.
_FOREIGN = {
    "picture": (Message("This picture does"), "{count} of the pictures do"),
    "video": (Message("This video does"), "{count} of the videos do"),
}


@dataclass(frozen=True)
class SceneCheck:
    """Comparison of images with the scenes of a demo model; no check for other models.

    `bank` has (B, D) vectors of texts that name every scene of one object. Images whose best score
    is below `threshold` are foreign: a softmax share with `scale`, a cosine if that is 0.
    """

    bank: torch.Tensor | None
    scale: float
    threshold: float

    @classmethod
    def of(cls, folder: Path, vectors: TextVectors, scale: float) -> "SceneCheck":
        """Read `demo.json` beside the weights in `folder`, if there is one."""
        card = read_demo_card(folder)
        if card is None or not card.scene_bank:
            return cls(None, scale, 0.0)
        compared = scale if card.scene_score == "softmax" else 0.0
        return cls(vectors(card.scene_bank, PLAIN), compared, card.scene_threshold)

    def notes(
        self, vectors: torch.Tensor, kind: Literal["picture", "video"] = "picture"
    ) -> list[str]:
        """Return a note if any of (N, D) image or video vectors is unlike the demo scenes."""
        if self.bank is None or not vectors.numel():
            return []
        scores = vectors @ self.bank.T
        if self.scale:
            scores = (scores * self.scale).softmax(dim=-1)
        foreign = int((scores.max(dim=-1).values < self.threshold).sum())
        if not foreign:
            return []
        one, several = _FOREIGN[kind]
        return [
            Message(
                "{which} not look like a drawing of coloured shapes, which is all that the "
                "demo model knows: do not trust these scores. Choose a real model for {real}.",
                which=one if len(vectors) == 1 else Message(several, count=foreign),
                real=_REAL[kind],
            )
        ]
