"""Does a picture look like what the demo model was trained on? The model itself is asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipelines.models.captioning.image_inputs import Job
from pipelines.weights.demo_card import read_demo_card

NOTE = (
    "This picture does not look like a drawing of coloured shapes, which is all that the demo "
    "model knows: do not trust this text. Choose a real model for photos."
)


@dataclass(frozen=True)
class CaptionSceneCheck:
    """Asks the demo model for a caption, and how likely it finds that it does not know.

    Attributes:
        token: the token of the answer that says so, which is a whole answer in one token.
        threshold: least probability of it with which a picture looks foreign.
    """

    token: int
    threshold: float

    @classmethod
    def of(cls, folder: Path, tokenizer: Any) -> "CaptionSceneCheck | None":
        """Read `demo.json` beside the weights; None for other models."""
        card = read_demo_card(folder)
        if card is None or not card.unknown_answer:
            return None
        return cls(
            int(tokenizer.convert_tokens_to_ids(card.unknown_answer)), card.unknown_threshold
        )

    @torch.no_grad()
    def notes(self, job: Job) -> tuple[str, ...]:
        """Return a hint if the picture looks unlike the demo scenes.

        Args:
            job: the caption of the picture.
        """
        logits = job.model(**job.inputs).logits[0, -1].float()  # (vocabulary,)
        return (NOTE,) if logits.softmax(dim=-1)[self.token] >= self.threshold else ()
