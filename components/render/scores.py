"""Results on images and texts as HTML, CSV and JSON."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from components.render.html import render
from pipelines.core.results import (
    Classification,
    ContextUse,
    Embeddings,
    Ranking,
    SimilarityMatrix,
)
from pipelines.core.spec import ModelSpec
from pipelines.core.text import safe_cells
from pipelines.models.notes import repeated_notes
from pipelines.weights.demo_card import DemoCard

#: Rows of a table on the page; the CSV file has them all.
ROWS_SHOWN = 100

#: Bars of the chart on the page.
BARS_SHOWN = 5

#: Rows and columns of a matrix on the page.
CELLS_SHOWN = 40

SCORE_COLUMNS = ("label", "probability", "cosine", "verdict", "note")
RANK_COLUMNS = ("rank", "candidate", "kind", "cosine", "verdict", "note")


def rows_of(items: Iterable[Any], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return fields of results as a row for each."""
    return [{name: getattr(item, name) for name in columns} for item in items]


def as_chart(result: Classification) -> dict[str, float]:
    """Return the value of a `gr.Label`: probabilities of the best labels."""
    return {score.label: score.probability for score in result.scores[:BARS_SHOWN]}


def as_label(result: Classification, repeated: Sequence[str] = ()) -> dict[str, Any]:
    """Return the first result of `/classify_image`, with the notes on the whole."""
    confidences = [{"label": s.label, "confidence": s.probability} for s in result.scores]
    notes = [*result.notes, *repeated_notes(repeated)]
    return {"label": result.scores[0].label, "confidences": confidences, "notes": notes}


def as_scores(result: Classification) -> list[dict[str, Any]]:
    """Return the rows of `/classify_image`, best first."""
    return rows_of(result.scores, SCORE_COLUMNS)


def as_ranking(result: Ranking, repeated: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the rows of `/rank_similarity`, best first; notes on the whole join the first row."""
    rows = rows_of(result.rows, (*RANK_COLUMNS, "index"))
    notes = [*result.notes, *repeated_notes(repeated)]
    if notes:
        rows[0]["note"] = " ".join([rows[0]["note"], *notes]).strip()
    return rows


def as_embeddings(result: Embeddings) -> dict[str, Any]:
    """Return the value of `/embed_texts` and `/embed_images`."""
    return {
        "model": result.model,
        "dim": result.dim,
        "embeddings": [list(v) if v is not None else None for v in result.vectors],
        "errors": [{"file": name, "error": reason} for name, reason in result.errors],
        "notes": list(result.notes),
    }


def as_model(spec: ModelSpec, on_disk: bool) -> dict[str, Any]:
    """Return one row of `/list_models`."""
    (row,) = rows_of([spec], ("key", "family", "repo", "revision", "licence", "memory_gb"))
    return {**row, "on_disk": on_disk, "demo": spec.demo}


def scores_table(result: Classification, first: str = "Label") -> str:
    """Return a table of probability, cosine and verdict; `first` heads the texts."""
    return render("scores.scores_table", first=first, scores=result.scores, shown=ROWS_SHOWN)


def context_meter(context: ContextUse) -> str:
    """Return how full the context of a conversation is; "" where its limit is unknown."""
    return render("scores.context_meter", context=context) if context.limit_tokens else ""


def ranking_table(result: Ranking) -> str:
    """Return a table of ranked candidates."""
    return render("scores.ranking_table", rows=result.rows, shown=ROWS_SHOWN)


def matrix_table(result: SimilarityMatrix) -> str:
    """Return a table of cosines, coloured by verdict."""
    return render("scores.matrix_table", matrix=result, shown=CELLS_SHOWN)


def notices(notes: Sequence[str], badge: str = "") -> str:
    """Return the HTML `badge` of a demo model and the notes on an answer; "" without any."""
    return render("scores.notices", notes=notes, badge=badge)


def shown_if_any(content: str) -> dict[str, Any]:
    """Return the update of a `gr.HTML` that is hidden while it is empty."""
    return {"value": content, "visible": bool(content), "__type__": "update"}


#: Notes where no label fits, and where none is a clear match.
NO_LABEL = (
    "None of these labels fits the picture. The probabilities only compare the labels with each "
    "other.",
    "None of these labels is a clear match; the best may still be wrong.",
)


def verdict_summary(result: Classification, notes: tuple[str, str] = NO_LABEL) -> list[str]:
    """Return a note where no label fits: probabilities alone would hide it."""
    verdicts = {score.verdict for score in result.scores}
    return [] if "match" in verdicts else [notes[0] if verdicts == {"no match"} else notes[1]]


#: What the badge calls the events of a demo model, where they need more than their name.
EVENT_WORDS = {
    "left": "move left",
    "right": "right",
    "up": "up",
    "down": "down",
    "recolour": "change colour",
}


def demo_badge(card: DemoCard | None) -> str:
    """Return the badge of a demo model: what it knows and how to switch; "" for others."""
    if card is None:
        return ""
    events = [EVENT_WORDS.get(event, event) for event in card.events]
    return render("scores.demo_badge", shapes=card.shapes, colours=card.colours, events=events)


def scores_csv(result: Classification) -> str:
    """Return all rows of a classification as CSV."""
    return rows_csv(rows_of(result.scores, SCORE_COLUMNS), SCORE_COLUMNS)


def ranking_csv(result: Ranking) -> str:
    """Return all rows of a ranking as CSV."""
    return rows_csv(rows_of(result.rows, RANK_COLUMNS), RANK_COLUMNS)


def matrix_csv(result: SimilarityMatrix) -> str:
    """Return all cosines of a matrix as CSV, one row each."""
    rows = [
        (name, *cosines) for name, cosines in zip(result.row_names, result.cosines, strict=True)
    ]
    return as_csv(("", *result.column_names), rows)


def embeddings_summary(results: Sequence[Embeddings]) -> str:
    """Return what an npz file holds and how to read it."""
    count = sum(vector is not None for result in results for vector in result.vectors)
    first = results[0]
    return render("scores.embeddings_summary", count=count, dim=first.dim, model=first.model)


def embeddings_npz(results: Sequence[Embeddings]) -> bytes:
    """Return vectors as an npz file: `embeddings` (N, D) float32, `names` (N,), `model`."""
    named = [pair for one in results for pair in zip(one.names, one.vectors, strict=True)]
    names = [name for name, vector in named if vector is not None]
    vectors = [vector for _, vector in named if vector is not None]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        embeddings=np.asarray(vectors, dtype=np.float32),
        names=np.asarray(names, dtype=np.str_),
        model=np.asarray(results[0].model),
    )
    return buffer.getvalue()


def as_csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table as CSV; no text in it is run as a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows(safe_cells(row) for row in (head, *rows))
    return buffer.getvalue()


def rows_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return columns of rows as CSV."""
    return as_csv(columns, [[row[name] for name in columns] for row in rows])
