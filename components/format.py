"""Pure functions: result -> what a component or a script receives."""

from collections.abc import Sequence
from typing import Any

from pipelines.catalogue import ModelSpec
from pipelines.clip.notes import repeated_notes
from pipelines.results import Classification


def as_label(result: Classification, repeated: Sequence[str] = ()) -> dict[str, Any]:
    """Return the value of a `gr.Label`, with the notes beside it."""
    confidences = [{"label": s.label, "confidence": s.probability} for s in result.scores]
    best = result.scores[0].label
    notes = [*result.notes, *repeated_notes(repeated)]
    return {"label": best, "confidences": confidences, "notes": notes}


def as_scores(result: Classification) -> list[dict[str, Any]]:
    """Return the rows of `/classify_image`, best first."""
    return [
        {
            "label": score.label,
            "probability": score.probability,
            "cosine": score.cosine,
            "verdict": score.verdict,
            "note": score.note,
        }
        for score in result.scores
    ]


def as_model(spec: ModelSpec, on_disk: bool) -> dict[str, Any]:
    """Return one row of `/list_models`."""
    return {
        "key": spec.key,
        "family": spec.family,
        "repo": spec.repo,
        "revision": spec.revision,
        "licence": spec.licence,
        "memory_gb": spec.memory_gb,
        "on_disk": on_disk,
        "demo": spec.demo,
    }
