"""Results as tables, files and pictures."""

import csv
import html
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.render import scores as fmt
from components.render import video as format_video
from components.render.heat_map import heat_overlay
from components.widgets.model_picker import model_hint
from pipelines.core.results import (
    Classification,
    Embeddings,
    LabelScore,
    Ranked,
    Ranking,
    Relevance,
    SimilarityMatrix,
    Verdict,
)
from pipelines.core.settings import Settings
from pipelines.models.catalogue import CATALOGUE, CLIP_B32
from pipelines.models.viclip.results import Moment, MomentSearch, SearchedVideo
from pipelines.serving.store import PipelineStore
from pipelines.weights.demo_card import DemoCard

NASTY = "<script>alert('x')</script> \"a\" & <img src=x onerror=alert(1)> ' onload='y"


def classification(*labels: str, verdict: Verdict = "match", note: str = "") -> Classification:
    scores = [
        LabelScore(
            label=label,
            probability=1.0 / len(labels),
            cosine=0.25,
            evidence=0.0,
            verdict=verdict,
            note=note,
        )
        for label in labels
    ]
    return Classification(scores=tuple(scores), model="demo-clip", notes=("A note.",))


def ranked(rank: int, candidate: str, cosine: float | None = 0.5, note: str = "") -> Ranked:
    return Ranked(
        rank=rank,
        index=rank - 1,
        candidate=candidate,
        kind="image" if cosine is None else "text",
        cosine=cosine,
        evidence=0.0,
        verdict="unsure",
        note=note,
    )


def ranking(*rows: Ranked, notes: tuple[str, ...] = ()) -> Ranking:
    return Ranking(rows=rows, model="demo-clip", notes=notes)


def matrix(*names: str) -> SimilarityMatrix:
    count = len(names)
    return SimilarityMatrix(
        row_names=names,
        column_names=names,
        cosines=tuple(tuple(i / 100 + j / 1000 for j in range(count)) for i in range(count)),
        verdicts=tuple(("match",) * count for _ in names),
        model="demo-clip",
    )


class Page(HTMLParser):
    """Collects the tags and the text of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "shown",
    [
        fmt.scores_table(classification(NASTY, note=NASTY)),
        fmt.ranking_table(ranking(ranked(1, NASTY), ranked(2, NASTY, None, NASTY))),
        fmt.matrix_table(matrix(NASTY, "b")),
        fmt.notices([NASTY]),
        fmt.demo_badge(DemoCard((NASTY,), (NASTY,), (), (), "cosine", 0.0)),
        fmt.embeddings_summary([Embeddings(vectors=(), names=(), model=NASTY, dim=2)]),
    ],
    ids=["scores", "ranking", "matrix", "notices", "badge", "summary"],
)
def test_what_people_typed_stays_text(shown: str) -> None:
    page = Page(shown)
    assert not {"script", "img"} & set(page.tags)
    assert page.attributes <= {"class", "style", "tabindex", "title", "translate"}
    whole = html.unescape(shown)
    assert NASTY[:23] in whole


def test_scores_table() -> None:
    page = Page(fmt.scores_table(classification("cat", "dog", verdict="no match", note="Cut.")))
    assert page.tags.count("tr") == 3
    for part in ("Label", "Probability", "Cosine", "Verdict", "cat", "50.0 %", "0.250", "no match"):
        assert part in page.text
    assert page.text.count("Cut.") == 2


def test_small_shares_are_not_shown_as_none() -> None:
    scores = [
        LabelScore(label=str(p), probability=p, cosine=0.0, evidence=0.0, verdict="unsure")
        for p in (0.99, 0.001, 0.00049, 0.0)
    ]
    table = fmt.scores_table(Classification(scores=tuple(scores), model="m"))
    shown = [html.unescape(cell) for cell in re.findall(r"<b>(.*?)</b>", table)]
    assert shown == ["99.0 %", "0.1 %", "< 0.1 %", "0.0 %"]


def test_tables_end_somewhere_and_say_so() -> None:
    many = [f"label {index}" for index in range(fmt.ROWS_SHOWN + 1)]
    scores = fmt.scores_table(classification(*many))
    assert Page(scores).tags.count("tr") == fmt.ROWS_SHOWN + 1
    assert f"best {fmt.ROWS_SHOWN} of {len(many)}" in scores
    assert "CSV" not in fmt.scores_table(classification(*many[:-1]))
    rows = [ranked(index + 1, name) for index, name in enumerate(many)]
    assert f"of {len(many)}" in fmt.ranking_table(ranking(*rows))
    wide = fmt.matrix_table(matrix(*many[: fmt.CELLS_SHOWN + 1]))
    assert Page(wide).tags.count("td") == fmt.CELLS_SHOWN**2
    assert f"first {fmt.CELLS_SHOWN}" in wide
    assert "CSV" not in fmt.matrix_table(matrix("a", "b"))


def test_long_names_are_shortened_on_the_page_only() -> None:
    long = "x" * 500
    result = classification(long)
    assert "x" * 200 not in fmt.scores_table(result)
    assert long in fmt.scores_csv(result)
    assert fmt.as_scores(result)[0]["label"] == long


def test_a_file_that_could_not_be_read_has_no_verdict() -> None:
    broken = ranked(2, "broken.png", None, "It is empty.")
    page = Page(fmt.ranking_table(ranking(ranked(1, "a"), broken)))
    assert "It is empty." in page.text
    assert page.text.count("unsure") == 1
    assert fmt.as_ranking(ranking(broken))[0]["cosine"] is None


def test_rows_of_one_name_have_the_index_of_their_candidate() -> None:
    rows = (ranked(1, "a.png"), ranked(2, "a.png"))
    rows = (replace(rows[0], index=1), replace(rows[1], index=0))
    assert [row["index"] for row in fmt.as_ranking(ranking(*rows))] == [1, 0]


def test_notes_on_a_ranking_join_its_first_row() -> None:
    rows = fmt.as_ranking(ranking(ranked(1, "a", note="Cut."), ranked(2, "b"), notes=("Chinese.",)))
    assert [row["note"] for row in rows] == ["Cut. Chinese.", ""]


def test_label_and_chart_show_the_same_order() -> None:
    result = classification(*"abcdefg")
    label = fmt.as_label(result, ["a"])
    assert label["label"] == "a"
    assert [row["label"] for row in label["confidences"]] == list("abcdefg")
    assert label["notes"][0] == "A note."
    assert "“a”" in label["notes"][1]
    assert list(fmt.as_chart(result)) == list("abcdefg")[: fmt.BARS_SHOWN]


def test_a_summary_where_nothing_fits() -> None:
    assert fmt.verdict_summary(classification("a", "b")) == []
    (none,) = fmt.verdict_summary(classification("a", "b", verdict="no match"))
    assert "None of these labels fits" in none
    one_fits_not = Classification(
        scores=(*classification("a", verdict="unsure").scores,
                *classification("b", verdict="no match").scores),
        model="m",
    )  # fmt: skip
    assert "None of these labels fits" not in fmt.verdict_summary(one_fits_not)[0]
    (doubt,) = fmt.verdict_summary(classification("a", verdict="unsure"))
    assert "clear match" in doubt


def test_the_badge_is_for_demo_models_only() -> None:
    card = DemoCard(("circle", "star"), ("red",), ("white",), (), "cosine", 0.3)
    assert "circle, star" in fmt.demo_badge(card)
    assert "“Model”" in fmt.demo_badge(card)
    assert fmt.demo_badge(None) == ""
    assert fmt.shown_if_any("") == {"value": "", "visible": False, "__type__": "update"}
    assert fmt.shown_if_any("x")["visible"] is True


def read_csv(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


AWKWARD = ['comma, "quote"', "line\nbreak", "中文 🔴", "  spaces  ", "<b>", "=1+1"]

#: The same where a spreadsheet opens it: formulas are texts.
SAFE = [*AWKWARD[:-1], "'=1+1"]


def test_csv_comes_back_as_it_was() -> None:
    head, *rows = read_csv(fmt.scores_csv(classification(*AWKWARD, note='a "note", so')))
    assert head == ["label", "probability", "cosine", "verdict", "note"]
    assert [row[0] for row in rows] == SAFE
    assert {float(row[1]) for row in rows} == {1.0 / len(AWKWARD)}
    assert {(row[3], row[4]) for row in rows} == {("match", 'a "note", so')}

    result = ranking(*(ranked(i + 1, name) for i, name in enumerate(AWKWARD)), ranked(7, "x", None))
    head, *rows = read_csv(fmt.ranking_csv(result))
    assert head == ["rank", "candidate", "kind", "cosine", "verdict", "note"]
    assert [row[1] for row in rows] == [*SAFE, "x"]
    assert rows[-1][3] == ""

    table = matrix(*AWKWARD)
    head, *rows = read_csv(fmt.matrix_csv(table))
    assert head == ["", *SAFE]
    assert [row[0] for row in rows] == SAFE
    assert [[float(x) for x in row[1:]] for row in rows] == [list(row) for row in table.cosines]


def test_no_text_of_a_search_is_a_formula() -> None:
    moment = Moment(
        start_s=0.0, end_s=1.0, score=0.5, cosine=-0.1, evidence=1.0, verdict="match", key_s=0.5
    )
    video = SearchedVideo(index=0, moments=(moment,), curve=((0.5, 0.5),), end_s=1.0)
    search = MomentSearch(videos=(video,), query='=HYPERLINK("http://x")', model="m")
    _, row = read_csv(format_video.moments_csv(search, ["@film.mp4"]))
    assert row == ["'@film.mp4", "0.000", "1.000", "0.5", "-0.1", "match", "'" + search.query]


def test_npz_comes_back_as_it_was() -> None:
    texts = Embeddings(
        vectors=((0.6, 0.8), (1.0, 0.0)), names=("中文", "b"), model="demo-clip", dim=2
    )
    images = Embeddings(
        vectors=(None, (0.0, 1.0)),
        names=("broken.png", "cat.png"),
        model="demo-clip",
        dim=2,
        errors=(("broken.png", "It is empty."),),
    )
    file = np.load(io.BytesIO(fmt.embeddings_npz([texts, images])), allow_pickle=False)
    assert file["names"].tolist() == ["中文", "b", "cat.png"]
    assert file["embeddings"].dtype == np.float32
    np.testing.assert_allclose(file["embeddings"], [[0.6, 0.8], [1, 0], [0, 1]], rtol=1e-6)
    assert file["model"].item() == "demo-clip"
    assert "3 vectors of 2 numbers" in fmt.embeddings_summary([texts, images])


def test_embeddings_keep_holes_and_reasons() -> None:
    images = Embeddings(
        vectors=(None, (0.0, 1.0)),
        names=("a", "b"),
        model="m",
        dim=2,
        errors=(("a", "Empty."),),
        notes=("Hm.",),
    )
    assert fmt.as_embeddings(images) == {
        "model": "m",
        "dim": 2,
        "embeddings": [None, [0.0, 1.0]],
        "errors": [{"file": "a", "error": "Empty."}],
        "notes": ["Hm."],
    }


def test_a_model_row() -> None:
    row = fmt.as_model(CLIP_B32, True)
    assert row["key"] == "clip-vit-b32"
    assert (row["on_disk"], row["demo"]) == (True, False)


def relevance(grid: list[list[float]], box: tuple[float, float, float, float]) -> Relevance:
    return Relevance(label="a", grid=tuple(tuple(row) for row in grid), box=box)


def colourfulness(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image, dtype=np.int32)
    return np.asarray(pixels.max(axis=-1) - pixels.min(axis=-1))


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (1, 50), (50, 1), (1600, 400)])
def test_an_overlay_has_the_shape_of_its_picture(size: tuple[int, int]) -> None:
    whole = relevance([[0.0, 1.0], [0.5, 0.0]], (0.0, 0.0, 1.0, 1.0))
    overlay = heat_overlay(Image.new("RGB", size, "white"), whole)
    assert overlay.mode == "RGB"
    assert max(overlay.size) <= 800
    assert overlay.width / overlay.height == pytest.approx(size[0] / size[1], rel=0.02)


def test_what_is_relevant_is_lit_and_the_rest_is_grey() -> None:
    picture = Image.new("RGB", (100, 100), "#3366cc")
    overlay = heat_overlay(picture, relevance([[1.0, 0.0], [0.0, 0.0]], (0, 0, 1, 1)))
    colour = colourfulness(overlay)
    assert colour[:20, :20].min() > 60
    assert colour[80:, 80:].max() < 12
    assert picture.getpixel((0, 0)) == (0x33, 0x66, 0xCC), "the picture itself stays as it was"


def test_what_the_model_does_not_see_stays_dim() -> None:
    lit = relevance([[1.0, 1.0], [1.0, 1.0]], (0.25, 0.0, 0.75, 1.0))
    overlay = heat_overlay(Image.new("RGB", (200, 100), "#cc3333"), lit)
    colour = colourfulness(overlay)
    assert colour[:, 60:140].min() > 60
    assert colour[:, :48].max() == colour[:, 152:].max() == 0
    assert np.asarray(overlay)[:, :48].max() < 200


@pytest.mark.parametrize(
    ("size", "box", "lit"),
    [
        ((200, 100), (0.1, 0.3, 0.4, 0.9), (20, 30, 80, 90)),
        ((100, 200), (0.3, 0.1, 0.9, 0.4), (30, 20, 90, 80)),
        ((1600, 400), (0.5, 0.0, 0.75, 1.0), (400, 0, 600, 200)),
    ],
)
def test_the_map_lies_on_the_part_that_the_model_sees(
    size: tuple[int, int], box: tuple[float, ...], lit: tuple[int, ...]
) -> None:
    """The shares of the box are of width and height, which differ."""
    every = relevance([[1.0, 1.0], [1.0, 1.0]], box)  # type: ignore[arg-type]
    colour = colourfulness(heat_overlay(Image.new("RGB", size, "#cc3333"), every))
    left, top, right, bottom = lit
    assert colour[top + 1 : bottom - 1, left + 1 : right - 1].min() > 60
    outside = colour.copy()
    outside[top - (top > 0) : bottom + 1, left - 1 : right + 1] = 0
    assert outside.max() == 0


def test_a_row_of_the_map_is_a_row_of_the_picture() -> None:
    grid = relevance([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], (0.0, 0.0, 1.0, 1.0))
    colour = colourfulness(heat_overlay(Image.new("RGB", (300, 100), "#3366cc"), grid))
    assert colour[:20, 270:].min() > 60
    assert colour[80:, :].max() < 12 and colour[:, :100].max() < 12


def test_the_hint_of_a_model_names_the_memory_that_it_will_take(tmp_path: Path) -> None:
    spec = CATALOGUE["blip2-opt-2.7b"]
    whole = PipelineStore(Settings(models="hub", work_dir=tmp_path))
    small = PipelineStore(Settings(models="hub", work_dir=tmp_path, quantization="nf4"))
    assert f" {spec.memory_gb:.1f} GB of memory" in model_hint(whole, spec)
    assert f" {spec.memory_gb * 0.2:.1f} GB of memory" in model_hint(small, spec)
