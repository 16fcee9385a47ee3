"""The Evaluate tab, and its probe in Classify, as a person uses them."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.browsing import (
    at_both_widths,
    close_toast,
    open_tab,
    overflow_px,
    press,
    rows,
    toast,
    upload_picture,
)
from tests.browser.conftest import Visit
from tests.browser.contrast import contrasts
from tests.fakes.labelled_zips import dot, drawn, pack
from tests.models.test_linear_probe import make_probe
from tests.support.app_process import ROOT

Save = Callable[..., Path]


STAR = ROOT / "assets" / "examples" / "yellow-star.png"


def enter(visit: Visit, width: int = 1280, **options: str) -> Page:
    page = visit(width, **options)
    open_tab(page, "Evaluate")
    return page


def take_example(page: Page) -> None:
    press(page, "Take the example")
    expect(page.locator(".file-preview:visible .file")).to_have_count(1)


def give(page: Page, file: Path) -> None:
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(file)
    expect(page.locator(".file-preview:visible .file")).to_have_count(1)


def give_probe(page: Page, file: Path) -> None:
    page.get_by_role("button", name="Your own probe").click()
    box = page.locator(".probe:visible")
    expect(box).to_be_visible()
    box.locator("input[type=file]").set_input_files(file)
    expect(box.locator(".file-preview .file")).to_have_count(1)


def cells(page: Page) -> Locator:
    return page.locator(".confusion:visible td")


def download(page: Page, name: str) -> Path:
    with page.expect_download() as waiting:
        press(page, name)
    return Path(waiting.value.path())


@at_both_widths
def test_the_example_is_evaluated(visit: Visit, width: int) -> None:
    page = enter(visit, width)
    take_example(page)
    press(page, "Evaluate")
    figure = page.locator(".figure:visible")
    expect(figure).to_have_count(1)
    expect(figure).to_contain_text("of 96 right")
    expect(figure).to_contain_text("95 % interval")
    expect(figure).to_contain_text("Among the best five")
    expect(page.locator("#announcer")).to_contain_text("of 96 right")
    expect(cells(page)).to_have_count(64)
    expect(page.locator(".classes:visible tr:has(td)")).to_have_count(8)
    expect(page.locator(".mistakes:visible figure")).to_have_count(12)
    expect(page.get_by_role("button", name="Download the probe")).to_be_hidden()
    assert overflow_px(page) <= 0
    counts = [int(text) if text != "·" else 0 for text in cells(page).all_inner_texts()]
    assert sum(counts) == 96
    shown = list(csv.reader(download(page, "Confusion matrix (.csv)").open(encoding="utf-8")))
    assert [int(cell) for line in shown[1:] for cell in line[1:]] == counts
    told = list(csv.DictReader(download(page, "Predictions (.csv)").open(encoding="utf-8")))
    right = sum(row["label"] == row["predicted"] for row in told)
    expect(figure).to_contain_text(f"{right} of 96 right")
    assert len(list(csv.DictReader(download(page, "Classes (.csv)").open(encoding="utf-8")))) == 8


@at_both_widths
def test_a_probe_is_trained_and_used_in_classify(visit: Visit, tmp_path: Path, width: int) -> None:
    page = enter(visit, width)
    take_example(page)
    press(page, "Train a probe")
    figures = page.locator(".figure:visible")
    expect(figures).to_have_count(2)
    expect(figures.first).to_contain_text("of 24 right")
    expect(figures.last).to_contain_text("of 24 right")
    file = tmp_path / "probe.safetensors"
    file.write_bytes(download(page, "Download the probe").read_bytes())
    open_tab(page, "Classify")
    upload_picture(page, STAR)
    give_probe(page, file)
    press(page, "Classify")
    expect(rows(page).first).to_contain_text("star")
    expect(rows(page)).to_have_count(8)
    expect(page.locator("p.note:visible").first).to_contain_text("come from your probe")


def test_many_classes_on_a_narrow_page(visit: Visit, tmp_path: Path) -> None:
    """The matrix scrolls in its own box; the page does not."""
    page = enter(visit, 390)
    names = [f"a_class_with_a_long_name_{index}" for index in range(20)]
    give(page, pack(tmp_path / "a.zip", {f"{n}/1.png": dot(i) for i, n in enumerate(names)}))
    press(page, "Evaluate")
    expect(cells(page)).to_have_count(400)
    assert overflow_px(page) <= 0
    box = page.locator(".confusion:visible")
    wider = "box => box.scrollWidth > box.clientWidth && box.clientWidth <= window.innerWidth"
    assert box.evaluate(wider)
    box.evaluate("box => box.scrollTo(10000, 10000)")
    head, name = page.locator(".confusion:visible tr").last.locator("th"), box.bounding_box()
    place = head.bounding_box()
    assert place is not None
    assert name is not None
    assert name["x"] - 1 <= place["x"] <= name["x"] + 3, "the names of the rows stay in sight"


def test_bad_input_is_told_and_the_tab_goes_on(visit: Visit, save: Save, tmp_path: Path) -> None:
    page = enter(visit)
    press(page, "Evaluate")
    expect(toast(page)).to_contain_text("The zip is missing")
    close_toast(page)
    give(page, STAR)
    press(page, "Evaluate")
    expect(toast(page)).to_contain_text("not a zip, or is damaged")
    close_toast(page)
    page.get_by_role("button", name="Clear").first.click()
    members = drawn(num_each=1) | {"toy_shop/star/text.png": b"no picture"}
    give(page, pack(tmp_path / "a.zip", members))
    press(page, "Train a probe")
    expect(toast(page)).to_contain_text("at least 4 pictures of each class")
    close_toast(page)
    press(page, "Evaluate")
    expect(page.locator(".figure:visible")).to_contain_text("of 8 right")
    expect(page.locator("tr.bad:visible")).to_contain_text("toy_shop/star/text.png")
    expect(page.locator("tr.bad:visible")).to_contain_text("looks like a text")


def test_a_probe_of_another_model_is_told(visit: Visit, save: Save) -> None:
    page = visit()
    upload_picture(page, STAR)
    other = save("probe.safetensors", make_probe(model="clip-vit-b32").to_bytes())
    give_probe(page, other)
    press(page, "Classify")
    expect(toast(page)).to_contain_text("made with clip-vit-b32, but the model in use is demo-clip")


def test_stop(visit: Visit, tmp_path: Path) -> None:
    page = enter(visit)
    give(page, pack(tmp_path / "a.zip", {f"{i % 2}/{i}.png": dot(i) for i in range(6000)}))
    press(page, "Evaluate")
    expect(page.locator(".progress-text:visible").first).to_contain_text("pictures")
    press(page, "Stop")
    expect(page.locator(".progress-text:visible")).to_have_count(0)
    expect(page.locator(".figure:visible")).to_have_count(0)
    page.get_by_role("button", name="Clear").first.click()
    take_example(page)
    press(page, "Evaluate")
    expect(page.locator(".figure:visible")).to_contain_text("of 96 right")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_read(visit: Visit, theme: str) -> None:
    page = enter(visit, theme=theme)
    take_example(page)
    press(page, "Evaluate")
    expect(page.locator(".mistakes:visible figure")).to_have_count(12)
    for selector in (".figure p", ".confusion td.cell", ".mistakes figcaption", ".classes td"):
        seen = contrasts(page, selector)
        assert seen, selector
        assert min(seen.values()) >= 4.5, (selector, seen)


def test_in_chinese(visit: Visit) -> None:
    page = visit(locale="zh-CN")
    open_tab(page, "评估")
    press(page, "使用示例")
    expect(page.locator(".file-preview:visible .file")).to_have_count(1)
    press(page, "训练探针")
    expect(page.locator(".figure:visible")).to_have_count(2)
    expect(page.locator(".figure:visible").first).to_contain_text("24 张中")
    expect(page.locator(".heading:visible").first).to_have_text("混淆矩阵")
