"""Pure functions: an index and what is found in it -> what a component or a script receives."""

import html
from collections import Counter
from collections.abc import Sequence
from typing import Any

from components.render import scores as fmt
from components.render.video import clock
from pipelines.search.results import FileOutcome, FoundFile, IndexSummary, SearchResult

#: Names of files alike that a cell repeats, and files with an error that are listed.
ALIKE_SHOWN = 3
ERRORS_SHOWN = 30

_COLUMNS = ("rank", "file", "kind", "start_s", "end_s", "cosine", "strength", "verdict", "alike")


def as_outcomes(outcomes: Sequence[FileOutcome]) -> list[dict[str, Any]]:
    """Return the rows of `/index_files`."""
    return [
        {
            "file": one.file,
            "kind": one.kind,
            "outcome": one.outcome,
            "error": one.error,
            "notes": list(one.notes),
        }
        for one in outcomes
    ]


def as_index(key: str, holding: IndexSummary, keep_h: float) -> dict[str, Any]:
    """Return what `/index_files` tells of the whole index."""
    return {
        "index_key": key,
        "pictures": holding.pictures,
        "videos": holding.videos,
        "vectors": holding.vectors,
        "kept_h": keep_h,
    }


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
    cells = [{**row, "alike": "; ".join(row["alike"])} for row in as_found(search)]
    return fmt.as_csv(_COLUMNS, [[row[name] for name in _COLUMNS] for row in cells])


def found_table(search: SearchResult) -> str:
    """Return the results as an HTML table, best first."""
    head = (
        "<tr><th>#</th><th>File</th><th title='How far it stands out from the rest of the index'>"
        "Strength</th><th title='Similarity of the two vectors, as the model gives it'>Cosine</th>"
        "<th title='Does it fit, whatever else the index holds?'>Verdict</th></tr>"
    )
    rows = [
        f"<tr><td class='number'>{rank}</td><td class='name'>{_called(one)}</td>"
        f"<td class='bar'><i style='width:{one.strength * 100:.1f}%'></i>"
        f"<b>{one.strength * 100:.0f} %</b></td><td class='number'>{one.cosine:.3f}</td>"
        f"<td>{fmt.pill(one.verdict) if one.verdict else '–'}</td></tr>"
        for rank, one in enumerate(search.found, start=1)
    ]
    return f"<div class='scores search'><table>{head}{''.join(rows)}</table></div>"


def caption(rank: int, one: FoundFile) -> str:
    """Return what stands under the picture of a result."""
    when = f" · {clock(one.start_s)}" if one.file.kind == "video" else ""
    alike = f" +{len(one.alike)}" if one.alike else ""
    return f"{rank}{when}{alike}"


def _called(one: FoundFile) -> str:
    name = fmt.kept(html.escape(_short(one.file.name)))
    when = ""
    if one.file.kind == "video":
        when = f"<small>{clock(one.start_s)} – {clock(one.end_s)}</small>"
    alike = ""
    if one.alike:
        shown = ", ".join(_short(name, 40) for name in one.alike[:ALIKE_SHOWN])
        more = ", …" if len(one.alike) > ALIKE_SHOWN else ""
        alike = f"<small>and {len(one.alike)} alike</small><small translate='no'>"
        alike += f"{html.escape(shown)}{more}</small>"
    return f"{name}{when}{alike}"


def holding_line(holding: IndexSummary, keep_h: float) -> str:
    """Return what an index holds and how long, as HTML."""
    if not holding.vectors:
        return "<p class='holding'>Your index is empty. Add pictures or videos to it.</p>"
    keep = f"Deleted when not used for {keep_h:g} hours." if keep_h else "Kept until you delete it."
    return (
        f"<p class='holding'><b>Your index · Pictures: {holding.pictures:,} · "
        f"Videos: {holding.videos:,}</b> <span>{keep}</span></p>"
    )


def progress_line(done: int, total: int, stage: str) -> str:
    """Return how far a run is, as HTML."""
    share = done / total if total else 0.0
    parts = [html.escape(part) for part in (f"{done:,} of {total:,}", stage) if part]
    return (
        "<div class='batch-progress running' role='status'><div class='track'>"
        f"<i style='width:{share * 100:.1f}%'></i></div><p>{' · '.join(parts)}</p></div>"
    )


def outcome_summary(outcomes: Sequence[FileOutcome]) -> str:
    """Return what became of the files of a run, as HTML."""
    counts = Counter(one.outcome for one in outcomes)
    parts = [
        text
        for text, count in (
            (f"{counts['added']:,} added", counts["added"]),
            (f"{counts['known']:,} were there", counts["known"]),
            (f"{counts['renamed']:,} renamed", counts["renamed"]),
            (f"{counts['same']:,} given twice", counts["same"]),
            (f"{counts['error']:,} not readable", counts["error"]),
        )
        if count
    ]
    line = f"<p role='status'>{' · '.join(parts)}</p>"
    failed = [one for one in outcomes if one.error]
    if not failed:
        return f"<div class='batch-progress done'>{line}</div>"
    rows = "".join(
        f"<tr class='bad'><td class='name' translate='no'>{html.escape(_short(one.file))}</td>"
        f"<td class='said'>{html.escape(one.error)}</td></tr>"
        for one in failed[:ERRORS_SHOWN]
    )
    heading = f"<tr><th>Not added ({len(failed):,})</th><th>Why</th></tr>"
    return (
        f"<div class='batch-progress done'>{line}</div>"
        f"<div class='scores batch'><table>{heading}{rows}</table></div>"
    )


def _short(name: str, longest: int = 80) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"
