"""Pure functions: result -> what a component or a script receives."""

import csv
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.core.results import (
    Classification,
    ContextUse,
    Embeddings,
    Ranking,
    SimilarityMatrix,
    Verdict,
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

_PILLS: dict[Verdict, str] = {"match": "yes", "unsure": "maybe", "no match": "no"}


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


def as_ranking(result: Ranking, repeated: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the rows of `/rank_similarity`, best first; notes on the whole join the first row."""
    rows: list[dict[str, Any]] = [
        {
            "rank": row.rank,
            "candidate": row.candidate,
            "kind": row.kind,
            "cosine": row.cosine,
            "verdict": row.verdict,
            "note": row.note,
        }
        for row in result.rows
    ]
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


def scores_table(result: Classification, first: str = "Label") -> str:
    """Return a table of probability, cosine and verdict, as HTML; `first` heads the texts."""
    rows = [
        f"<tr><td class='name'>{_text(s.label, s.note)}</td>"
        f"<td class='bar'><i style='width:{s.probability * 100:.1f}%'></i>"
        f"<b>{percent(s.probability)}</b></td>"
        f"<td class='number'>{s.cosine:.3f}</td><td>{pill(s.verdict)}</td></tr>"
        for s in result.scores[:ROWS_SHOWN]
    ]
    head = _head(
        (first, ""),
        ("Probability", "How the labels share the picture among themselves"),
        ("Cosine", "Similarity of the two vectors, as the model gives it"),
        ("Verdict", "Does this label fit, whatever the others are?"),
    )
    return _table(head, rows, len(result.scores))


def context_meter(context: ContextUse) -> str:
    """Return how much of what the model can read the conversation takes, as HTML.

    Where nobody knows how much it can read there is nothing to show.
    """
    if not context.limit_tokens:
        return ""
    share = context.used_tokens / context.limit_tokens
    left_out = context.dropped_turns
    dropped = f"; the {left_out} oldest left out" if left_out else ""
    return (
        f"<div class='meter' title='A model reads so much at once. When it is full, the oldest "
        f"questions are left out, never the picture.'><i style='width:{share * 100:.0f}%'></i>"
        f"<span>Memory of this conversation: {context.used_tokens:,} of {context.limit_tokens:,} "
        f"tokens{dropped}</span></div>"
    )


def ranking_table(result: Ranking) -> str:
    """Return a table of ranked candidates, as HTML."""
    rows = [
        f"<tr><td class='number'>{r.rank}</td><td class='name'>{_text(r.candidate, r.note)}</td>"
        f"<td class='kind'>{r.kind}</td>"
        f"<td class='number'>{'–' if r.cosine is None else f'{r.cosine:.3f}'}</td>"
        f"<td>{'–' if r.cosine is None else pill(r.verdict)}</td></tr>"
        for r in result.rows[:ROWS_SHOWN]
    ]
    head = _head(
        ("Rank", ""),
        ("Candidate", ""),
        ("Kind", ""),
        ("Cosine", "Similarity of the two vectors, as the model gives it"),
        ("Verdict", "Does it fit, whatever the other candidates are?"),
    )
    return _table(head, rows, len(result.rows), "ranking")


def matrix_table(result: SimilarityMatrix) -> str:
    """Return a table of cosines, tinted by verdict, as HTML."""
    columns = result.column_names[:CELLS_SHOWN]
    head = "<tr><th></th>" + "".join(f"<th>{_short(name)}</th>" for name in columns) + "</tr>"
    rows = []
    for name, cosines, verdicts in zip(
        result.row_names[:CELLS_SHOWN], result.cosines, result.verdicts, strict=False
    ):
        cells = "".join(
            f"<td class='cell {_PILLS[verdict]}' title='{verdict}'>{cosine:.2f}</td>"
            for cosine, verdict in zip(cosines[:CELLS_SHOWN], verdicts, strict=False)
        )
        rows.append(f"<tr><th>{_short(name)}</th>{cells}</tr>")
    total = max(len(result.row_names), len(result.column_names))
    more = ""
    if total > CELLS_SHOWN:
        more = f"<p class='more'>The first {CELLS_SHOWN} are shown; the CSV file has all.</p>"
    return (
        f"<div class='scores matrix' tabindex='0'><table>{head}{''.join(rows)}</table></div>{more}"
    )


def notices(notes: Sequence[str], demo: str = "") -> str:
    """Return the demo badge and the notes on an answer, as HTML; "" if there are none."""
    items = "".join(f"<p class='note'>{html.escape(note)}</p>" for note in notes)
    return demo + items


def shown_if_any(content: str) -> dict[str, Any]:
    """Return the update of a `gr.HTML` that is hidden while it is empty."""
    return {"value": content, "visible": bool(content), "__type__": "update"}


def verdict_summary(result: Classification) -> list[str]:
    """Return a note where no label fits: probabilities alone would hide it."""
    verdicts = {score.verdict for score in result.scores}
    if "match" in verdicts:
        return []
    if verdicts == {"no match"}:
        return [
            "None of these labels fits the picture. The probabilities only compare the labels "
            "with each other."
        ]
    return ["None of these labels is a clear match; the best may still be wrong."]


#: What the badge calls the events of a demo model, where they need more than their name.
EVENT_WORDS = {
    "left": "move left",
    "right": "right",
    "up": "up",
    "down": "down",
    "recolour": "change colour",
}


def demo_badge(card: DemoCard | None) -> str:
    """Return the badge of a bundled model: what it knows and how to switch; "" for a real one."""
    if card is None:
        return ""
    shapes, colours = ", ".join(card.shapes), ", ".join(card.colours)
    known, others, does = "drawings of coloured shapes", "photos", ""
    if card.events:
        known, others = "drawn videos of moving coloured shapes", "filmed videos"
        does = f"What they do: {', '.join(EVENT_WORDS.get(e, e) for e in card.events)}. "
    return (
        f"<div class='demo-badge'><b>Demo model: it knows {known} only.</b> "
        f"<span>Shapes: {html.escape(shapes)}. Colours: {html.escape(colours)}. "
        f"{html.escape(does)}What it says about {others} means nothing: for {others}, choose "
        "another model under “Model”; its weights are downloaded on first use.</span></div>"
    )


def scores_csv(result: Classification) -> str:
    """Return all rows of a classification as CSV."""
    rows = [(s.label, s.probability, s.cosine, s.verdict, s.note) for s in result.scores]
    return as_csv(("label", "probability", "cosine", "verdict", "note"), rows)


def ranking_csv(result: Ranking) -> str:
    """Return all rows of a ranking as CSV."""
    rows = [(r.rank, r.candidate, r.kind, r.cosine, r.verdict, r.note) for r in result.rows]
    return as_csv(("rank", "candidate", "kind", "cosine", "verdict", "note"), rows)


def matrix_csv(result: SimilarityMatrix) -> str:
    """Return all cosines of a matrix as CSV, one row each."""
    rows = [
        (name, *cosines) for name, cosines in zip(result.row_names, result.cosines, strict=True)
    ]
    return as_csv(("", *result.column_names), rows)


def embeddings_summary(results: Sequence[Embeddings]) -> str:
    """Return what an npz file holds and how to read it, as HTML."""
    count = sum(vector is not None for result in results for vector in result.vectors)
    first = results[0]
    return (
        f"<p class='more'>{count} vectors of {first.dim} numbers, unit length, from "
        f"{html.escape(first.model)}. In Python: <code>numpy.load('embeddings.npz')</code> holds "
        "<code>embeddings</code>, <code>names</code> and <code>model</code>.</p>"
    )


def embeddings_npz(results: Sequence[Embeddings]) -> bytes:
    """Return vectors as an npz file: `embeddings` (N, D) float32, `names` (N,), `model`."""
    names, vectors = [], []
    for result in results:
        for name, vector in zip(result.names, result.vectors, strict=True):
            if vector is not None:
                names.append(name)
                vectors.append(vector)
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


def _head(*columns: tuple[str, str]) -> str:
    cells = "".join(f"<th title='{html.escape(tip)}'>{name}</th>" for name, tip in columns)
    return f"<tr>{cells}</tr>"


def _table(head: str, rows: Sequence[str], total: int, kind: str = "") -> str:
    more = ""
    if total > ROWS_SHOWN:
        more = f"<p class='more'>The best {ROWS_SHOWN} of {total:,}; the CSV file has all.</p>"
    return f"<div class='scores {kind}'><table>{head}{''.join(rows)}</table></div>{more}"


def _text(name: str, note: str) -> str:
    shown = html.escape(name if len(name) <= 160 else name[:159] + "…")
    return kept(shown) + (f"<small>{html.escape(note)}</small>" if note else "")


def _short(name: str) -> str:
    shown = name if len(name) <= 24 else name[:23] + "…"
    return f"<span translate='no' title='{html.escape(name[:300])}'>{html.escape(shown)}</span>"


def kept(markup: str) -> str:
    """Return HTML that is never translated: the words of a visitor or a model."""
    return f"<span translate='no'>{markup}</span>"


def pill(verdict: Verdict) -> str:
    """Return a verdict as HTML."""
    return f"<span class='pill {_PILLS[verdict]}'>{verdict}</span>"


def percent(value: float) -> str:
    """Return a share as people write it, as HTML."""
    if 0 < value < 0.001:
        return "&lt; 0.1 %"
    return f"{value * 100:.1f} %"
