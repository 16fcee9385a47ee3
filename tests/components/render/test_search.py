"""An index and what is found in it, as a page and a table show it."""

import csv
import io

import pytest

from components.render.search import (
    caption,
    found_csv,
    found_table,
    holding_line,
    outcome_summary,
    progress_line,
)
from pipelines.core.results import FileKind
from pipelines.search.results import FileOutcome, FoundFile, IndexedFile, IndexSummary, SearchResult


def found(name: str, kind: FileKind = "picture", start_s: float = 0.0, alike: int = 0) -> FoundFile:
    file = IndexedFile(content="0" * 40, name=name, kind=kind, path="", num_parts=1)
    return FoundFile(
        file=file,
        start_s=start_s,
        end_s=start_s + 4.0 if kind == "video" else 0.0,
        cosine=0.25,
        strength=0.9,
        verdict=None if alike else "match",
        alike=tuple(f"copy {number}.png" for number in range(alike)),
    )


def test_a_name_is_no_markup() -> None:
    evil = "<img src=x onerror=alert(1)>.png"
    search = SearchResult(
        found=(found(evil, alike=1),), searched=IndexSummary(pictures=1, vectors=1)
    )
    outcome = FileOutcome(file=evil, kind="picture", outcome="error", error="<b>no</b>")
    for markup in (found_table(search), outcome_summary([outcome])):
        assert "<img" not in markup and "<b>no" not in markup
        assert "&lt;img" in markup
    assert "<x>" not in progress_line(1, 2, "<x>")


def test_a_row_says_where_and_what_is_alike() -> None:
    search = SearchResult(
        found=(found("film.mp4", "video", 65.0), found("a.png", alike=5)),
        searched=IndexSummary(pictures=6, videos=1, vectors=10),
    )
    table = found_table(search)
    assert "1:05.0 – 1:09.0" in table
    assert "and 5 alike" in table and "copy 2.png, …" in table
    assert [caption(rank, one) for rank, one in enumerate(search.found, 1)] == [
        "1 · 1:05.0",
        "2 +5",
    ]
    first, second = csv.DictReader(io.StringIO(found_csv(search)))
    assert (first["file"], first["start_s"], first["verdict"]) == ("film.mp4", "65.0", "match")
    assert second["verdict"] == "" and second["alike"].count(";") == 4


@pytest.mark.parametrize(
    ("holding", "keep_h", "said"),
    [
        (IndexSummary(), 24.0, "empty"),
        (IndexSummary(pictures=2, videos=1, vectors=9), 24.0, "Pictures: 2 · Videos: 1"),
        (IndexSummary(pictures=2, vectors=2), 24.0, "not used for 24 hours"),
        (IndexSummary(pictures=2, vectors=2), 0.0, "until you delete it"),
    ],
)
def test_what_an_index_holds(holding: IndexSummary, keep_h: float, said: str) -> None:
    assert said in holding_line(holding, keep_h)


def test_only_what_happened_is_counted() -> None:
    outcomes = [FileOutcome(file=f"{n}.png", kind="picture", outcome="added") for n in range(3)]
    assert "3 added" in outcome_summary(outcomes)
    assert "not readable" not in outcome_summary(outcomes)
