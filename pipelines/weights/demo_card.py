"""Description of a demo checkpoint: `demo.json` beside its weights."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DemoCard:
    """Contents that a demo model was trained on.

    Attributes:
        scene_bank: texts of all scenes with one object; empty for generative models.
        scene_score: score of an image: the best "cosine" of the bank, or its "softmax".
        scene_threshold: an image with a lower score is unknown.
        events: known events in videos; empty for image models.
        unknown_answer: caption of an unknown image; "" for other models.
        unknown_threshold: probability of `unknown_answer` from which on an image is unknown.
        frames: number of frames of a video that it reads; None for any number.
    """

    shapes: tuple[str, ...]
    colours: tuple[str, ...]
    backgrounds: tuple[str, ...]
    scene_bank: tuple[str, ...]
    scene_score: str
    scene_threshold: float
    events: tuple[str, ...] = ()
    unknown_answer: str = ""
    unknown_threshold: float = 1.0
    frames: int | None = None


def read_demo_card(folder: Path) -> DemoCard | None:
    """Return the card in a checkpoint's folder, or None for other checkpoints."""
    file = folder / "demo.json"
    if not file.is_file():
        return None
    facts = json.loads(file.read_text(encoding="utf-8"))
    knows = facts["knows"]
    return DemoCard(
        shapes=tuple(knows["shapes"]),
        colours=tuple(knows["colours"]),
        backgrounds=tuple(knows["backgrounds"]),
        scene_bank=tuple(facts.get("scene_bank", ())),
        scene_score=str(facts.get("scene_score", "cosine")),
        scene_threshold=float(facts.get("scene_threshold", -1.0)),
        events=tuple(knows.get("events", ())),
        unknown_answer=str(facts.get("unknown_answer", "")),
        unknown_threshold=float(facts.get("unknown_threshold", 1.0)),
        frames=facts.get("frames"),
    )
