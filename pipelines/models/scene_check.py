"""Does a picture look like what the demo model was trained on?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pipelines.core.messages import Message
from pipelines.weights.demo_card import read_demo_card

Kind = Literal["picture", "video"]

#: What a real model is for.
REAL = {"picture": Message("photos"), "video": Message("filmed videos")}

#: One foreign picture, or several, as messages name them.
_FOREIGN = {
    "picture": (Message("This picture does"), "{count} of the pictures do"),
    "video": (Message("This video does"), "{count} of the videos do"),
}


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
    def of(
        cls, folder: Path, vectors: Callable[[Sequence[str]], torch.Tensor], scale: float
    ) -> "SceneCheck":
        """Read `demo.json` beside the weights, where there is one.

        Args:
            folder: the checkpoint.
            vectors: gives the (N, D) unit vectors of texts.
            scale: the model's logit scale.
        """
        card = read_demo_card(folder)
        if card is None or not card.scene_bank:
            return cls(None, scale, 0.0)
        compared = scale if card.scene_score == "softmax" else 0.0
        return cls(vectors(card.scene_bank), compared, card.scene_threshold)

    def notes(self, pictures: torch.Tensor, what: Kind = "picture") -> list[str]:
        """Return a hint if any of the (N, D) pictures looks unlike the demo scenes.

        Args:
            pictures: their unit vectors.
            what: what they are the vectors of.
        """
        if self.bank is None or not pictures.numel():
            return []
        scores = pictures @ self.bank.T
        if self.scale:
            scores = (scores * self.scale).softmax(dim=-1)
        foreign = int((scores.max(dim=-1).values < self.threshold).sum())
        if not foreign:
            return []
        one, several = _FOREIGN[what]
        which = one if len(pictures) == 1 else Message(several, count=foreign)
        return [
            Message(
                "{which} not look like a drawing of coloured shapes, which is all that the "
                "demo model knows: do not trust these scores. Choose a real model for {real}.",
                which=which,
                real=REAL[what],
            )
        ]
