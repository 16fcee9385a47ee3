"""What the Batch tab shows, as pure functions."""

import pytest

from components.render.batch import (
    FAILED_SHOWN,
    NEWEST_SHOWN,
    State,
    Tally,
    as_rows,
    duration,
    pictures_strip,
    progress_line,
    results_table,
    skipped_note,
)
from components.server.translate import speaking
from pipelines.batch.export import BatchResult, Origin
from pipelines.batch.job import GalleryImage
from pipelines.batch.progress import RunProgress
from pipelines.media.inputs import Skipped

HOSTILE = "<img src=x onerror=alert(1)>"


def result(
    index: int = 0, *, name: str = "", caption: str = "a dog", error: str = ""
) -> BatchResult:
    origin: Origin = "none" if error else "model"
    return BatchResult(
        index=index,
        file=name or f"{index}.png",
        caption="" if error else caption,
        text="" if error else caption,
        error=error,
        hash="ab",
        origin=origin,
    )


def progress(**changes: object) -> RunProgress:
    values: dict[str, object] = {
        "state": "running",
        "done": 300,
        "total": 1200,
        "errors": 2,
        "from_model": 290,
        "rate_per_s": 3.0,
        "time_left_s": 300.0,
        "batch_size": 8,
        "recent": (),
    }
    return RunProgress(**{**values, **changes})  # type: ignore[arg-type]


def said(shown: str) -> str:
    return shown.partition("<p>")[2].partition("</p>")[0]


def test_rows_of_the_endpoint() -> None:
    assert as_rows([result(0), result(1, error="broken")]) == [
        {"file": "0.png", "caption": "a dog", "error": "", "notes": []},
        {"file": "1.png", "caption": "", "error": "broken", "notes": []},
    ]


def test_progress_while_it_runs() -> None:
    shown = progress_line("running", "Loading the model", progress(), known=8)
    assert said(shown) == (
        "300 of 1,200 · 2 without a caption · 8 known already · 3.0 a second · 5 min 0 s left"
    )
    assert "width:25.0%" in shown


def test_progress_before_the_first_caption() -> None:
    assert said(progress_line("running", "Reading the files", None)) == "Reading the files …"
    waiting = progress(done=2, from_model=0, rate_per_s=None, time_left_s=None)
    assert said(progress_line("running", "Loading the model", waiting)) == (
        "Loading the model … · 2 of 1,200 · 2 without a caption"
    )


@pytest.mark.parametrize(
    ("state", "word"),
    [("done", "Done"), ("pause", "Paused"), ("cancel", "Cancelled"), ("failed", "Stopped")],
)
def test_progress_at_the_end(state: State, word: str) -> None:
    shown = said(progress_line(state, "Loading the model", progress(errors=0)))
    assert shown == f"{word}: 300 of 1,200 · 3.0 a second"
    assert said(progress_line(state, "Reading the files", None)) == word


def test_progress_in_chinese() -> None:
    over = progress(done=11, total=11, errors=0, rate_per_s=2.5)
    paused = progress(done=3, total=11, errors=0, rate_per_s=None, time_left_s=None)
    with speaking("zh"):
        assert said(progress_line("done", "", over)) == "完成：11 / 11 · 每秒 2.5 张"
        assert said(progress_line("pause", "", paused, 2)) == "已暂停：3 / 11 · 2 条已有"
        assert said(progress_line("running", "", progress())).endswith("还剩 5 分 0 秒")


def test_a_slow_model_is_counted_by_the_minute() -> None:
    slow = progress(rate_per_s=0.05, errors=0, time_left_s=18_000.0)
    assert said(progress_line("running", "", slow)).endswith("3.0 a minute · 5 h 0 min left")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_table_has_what_failed_first_and_the_newest_captions() -> None:
    tally = Tally()
    tally.add([result(0), result(1, error="It is broken."), result(2, caption="a cat")])
    shown = results_table(tally)
    assert shown.index("Without a caption (1)") < shown.index("It is broken.")
    assert shown.index("It is broken.") < shown.index("Captions (2)")
    assert shown.index("a cat") < shown.index("a dog")
    assert "class='more'" not in shown
    assert results_table(Tally()) == ""


def test_ten_thousand_results_do_not_fill_the_page() -> None:
    tally = Tally()
    for start in range(0, 10_000, 100):
        rows = [result(i, error="bad" if i % 2 else "") for i in range(start, start + 100)]
        tally.add(rows)
    shown = results_table(tally)
    assert shown.count("<tr") == FAILED_SHOWN + NEWEST_SHOWN + 2
    assert f"The first {FAILED_SHOWN}; the files hold all 5,000." in shown
    assert f"The newest {NEWEST_SHOWN}; the files hold all 5,000." in shown
    assert "9998.png" in shown


def test_names_and_captions_are_text_never_html() -> None:
    tally = Tally()
    tally.add([result(0, name=HOSTILE, caption=HOSTILE), result(1, name=HOSTILE, error=HOSTILE)])
    strip = pictures_strip(
        [GalleryImage(HOSTILE, HOSTILE, b"\xff\xd8"), GalleryImage("a'b", "c", b"")]
    )
    for shown in (results_table(tally), strip, progress_line("running", HOSTILE, None)):
        assert "<img src=x" not in shown
    assert strip.count("<img ") == 1
    assert pictures_strip([]) == ""


def test_what_a_zip_holds_besides() -> None:
    assert skipped_note([]) == []
    (few,) = skipped_note([Skipped("a.txt", "not an image by its name")])
    assert few == "Left out of the zip: a.txt (not an image by its name)."
    (many,) = skipped_note([Skipped(f"{i}.txt", "no") for i in range(1205)])
    assert many.endswith(" and 1,200 more.")
