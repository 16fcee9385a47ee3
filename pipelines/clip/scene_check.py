"""Does a picture look like what the demo model was trained on?"""

from dataclasses import dataclass
from pathlib import Path

import torch

from pipelines.clip.texts import TextEncoder
from pipelines.demo_card import read_demo_card


@dataclass(frozen=True)
class SceneCheck:
    """Compares pictures with the demo model's own scenes; for other models it says nothing.

    Attributes:
        bank: (B, D) vectors of texts that name every scene of one object; None: no check.
        scale: the model's logit scale where shares are compared, 0 where cosines are.
        threshold: best score under which a picture looks foreign.
    """

    bank: torch.Tensor | None
    scale: float
    threshold: float

    @classmethod
    def of(cls, folder: Path, texts: TextEncoder, scale: float) -> "SceneCheck":
        """Read `demo.json` beside the weights, where there is one."""
        card = read_demo_card(folder)
        if card is None:
            return cls(None, scale, 0.0)
        compared = scale if card.scene_score == "softmax" else 0.0
        return cls(texts.vectors(card.scene_bank), compared, card.scene_threshold)

    def notes(self, pictures: torch.Tensor) -> list[str]:
        """Return a hint if any of the (N, D) pictures looks unlike the demo scenes."""
        if self.bank is None or not pictures.numel():
            return []
        scores = pictures @ self.bank.T
        if self.scale:
            scores = (scores * self.scale).softmax(dim=-1)
        foreign = int((scores.max(dim=-1).values < self.threshold).sum())
        if not foreign:
            return []
        which = "This picture does" if len(pictures) == 1 else f"{foreign} of the pictures do"
        return [
            f"{which} not look like a drawing of coloured shapes, which is all that the demo "
            "model knows: do not trust these scores. Choose a real model for photos."
        ]
