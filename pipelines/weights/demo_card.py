"""What a bundled checkpoint says of itself: `demo.json` beside its weights. Torch-free."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DemoCard:
    """What a demo model knows.

    Attributes:
        shapes: shapes that it was trained on.
        colours: colours of those shapes.
        backgrounds: backgrounds.
        scene_bank: texts that name every scene of one object; none where the model writes texts.
        scene_score: what is compared with the threshold: "cosine", the best of the bank, or
            "softmax", its share.
        scene_threshold: a picture on which no text of the bank scores as much looks foreign.
        events: what the shapes do; none where the model sees pictures.
        unknown_answer: what a model that writes texts says of what it does not know; "" for none.
        unknown_threshold: a picture whose caption is that with this probability looks foreign.
        frames: so many of a video it was taught to read, spread over the whole; None where it reads
            any number.
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
    """Return the card in a checkpoint's folder, or None where it is no demo checkpoint."""
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
