"""A search index and its results as HTML, CSV and JSON."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from components.render import scores as fmt
from components.render.html import clock, render
from components.server.translate import say
from pipelines.search.results import FileOutcome, FoundFile, IndexSummary, Outcome, SearchResult

#: Names of files alike that a cell repeats, and files with an error that are listed.
ALIKE_SHOWN = 3
ERRORS_SHOWN = 30

_COLUMNS = ("rank", "file", "kind", "start_s", "end_s", "cosine", "strength", "verdict", "alike")

#: Outcome of a file -> how a summary counts it.
_OUTCOMES: dict[Outcome, str] = {
    "added": "{n:,} added",
    "known": "{n:,} were there",
    "renamed": "{n:,} renamed",
    "same": "{n:,} given twice",
    "error": "{n:,} not readable",
}


def as_outcomes(outcomes: Sequence[FileOutcome]) -> list[dict[str, Any]]:
    """Return the rows of `/index_files`."""
    rows = fmt.rows_of(outcomes, ("file", "kind", "outcome", "error", "notes"))
    return [{**row, "notes": list(row["notes"])} for row in rows]


def as_index(key: str, holding: IndexSummary, keep_h: float) -> dict[str, Any]:
    """Return the second result of `/index_files`: what the whole index holds."""
    (held,) = fmt.rows_of([holding], ("pictures", "videos", "vectors"))
    return {"index_key": key, **held, "kept_h": keep_h}


def as_found(search: SearchResult) -> list[dict[str, Any]]:
    """Return the rows of `/search_files`, best first; notes on the whole join the first row."""
    rows = [
        {
            "rank": rank,
            "file": one.file.name,
            "kind": one.file.kind,
            "start_s": round(one.start_s, 3),
            "end_s": round(one.end_s, 3),
            "cosine": one.cosine,
            "strength": one.strength,
            "verdict": one.verdict or "",
            "alike": list(one.alike),
            "note": "",
        }
        for rank, one in enumerate(search.found, start=1)
    ]
    if rows:
        rows[0]["note"] = " ".join(search.notes)
    return rows


def found_csv(search: SearchResult) -> str:
    """Return all results as CSV."""
    rows = [{**row, "alike": "; ".join(row["alike"])} for row in as_found(search)]
    return fmt.rows_csv(rows, _COLUMNS)


def found_table(search: SearchResult) -> str:
    """Return a table of the results, best first."""
    return render("search.found_table", found=search.found, most_alike=ALIKE_SHOWN)


def caption(rank: int, one: FoundFile) -> str:
    """Return the caption of a result in the gallery."""
    when = f" · {clock(one.start_s)}" if one.file.kind == "video" else ""
    alike = f" +{len(one.alike)}" if one.alike else ""
    return f"{rank}{when}{alike}"


def holding_line(holding: IndexSummary, keep_h: float) -> str:
    """Return what an index holds and how long it is kept."""
    return render("search.holding_line", holding=holding, keep_h=keep_h)


def progress_line(done: int, total: int, stage: str) -> str:
    """Return a bar with how far a run is."""
    count = say("{done:,} of {total:,}", done=done, total=total)
    parts = [count, say(stage)] if stage else [count]
    return render("search.progress_line", share=done / total if total else 0.0, parts=parts)


def outcome_summary(outcomes: Sequence[FileOutcome]) -> str:
    """Return the outcomes of the files of a run: their counts, and errors with their reasons."""
    counts = Counter(one.outcome for one in outcomes)
    parts = [say(text, n=counts[kind]) for kind, text in _OUTCOMES.items() if counts[kind]]
    failed = [(one.file, one.error) for one in outcomes if one.error]
    return render("search.outcome_summary", parts=parts, failed=failed, shown=ERRORS_SHOWN)
