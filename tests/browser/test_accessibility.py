"""The page for people who do not see it, or not well: what axe finds, and what is announced."""

import json
import re
from dataclasses import dataclass

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.browser.browsing import click_example, open_tab, press, rows
from tests.browser.conftest import Visit
from tests.support.app_process import ROOT

CHINESE = json.loads((ROOT / "assets" / "languages" / "zh.json").read_text("utf-8"))

TABS = (
    "Classify",
    "Similarity",
    "Describe",
    "Batch",
    "Video chat",
    "Match",
    "Moments",
    "Search",
    "Evaluate",
)

THEMES = ("light", "dark")
GRAVE = ("serious", "critical")

#: How bad it is, which rule, where, and what is wrong.
Finding = tuple[str, str, str, str]


@dataclass(frozen=True)
class Excluded:
    """A finding in what Gradio makes and styles, attributes or scripts of ours cannot mend."""

    rule: str
    selector: str
    reason: str


EXCLUDED = (
    Excluded(
        "nested-interactive",
        "button.icon-button:has(input[type=file], button)",
        "the sign above a list of files that adds one more: Gradio lays a button of the same "
        "function into it, and hangs its event there",
    ),
    Excluded(
        "nested-interactive",
        ".toast-header",
        "the head of a notice, which folds it: Gradio lays the button that closes it into it",
    ),
    Excluded(
        "aria-prohibited-attr",
        "div.empty[aria-label='Empty value']",
        "what Gradio shows for the moment in which a picture is on its way",
    ),
)

INSIDE = "([target, selector]) => Boolean(document.querySelector(target)?.closest(selector))"


def grave_findings(page: Page) -> list[Finding]:
    """Return what axe finds serious or critical on the page as it stands, without the excluded."""
    page.mouse.move(0, 0)
    expect(page.locator(".progress-text:visible")).to_have_count(0)
    page.wait_for_function(
        "() => document.getAnimations().every(a => !(a instanceof CSSTransition))"
    )
    found = []
    for rule in Axe().run(page).response["violations"]:
        for node in rule["nodes"]:
            target = str(node["target"][-1])
            known = any(
                rule["id"] == each.rule and page.evaluate(INSIDE, [target, each.selector])
                for each in EXCLUDED
            )
            if rule["impact"] in GRAVE and not known:
                checks = [check["message"] for check in node["any"] + node["all"] + node["none"]]
                found.append((rule["impact"], rule["id"], node["html"][:200], "; ".join(checks)))
    return found


def word(locale: str, english: str) -> str:
    return CHINESE[english] if locale.startswith("zh") else english


def ask_button(page: Page, locale: str) -> Locator:
    """Return the button that asks; it is enabled again once the answer is complete."""
    name = word(locale, "Ask")
    return page.get_by_role("button", name=name, exact=True).filter(visible=True)


def answer(page: Page, tab: str, locale: str) -> None:
    """Have the tab that is open answer, with everything shown that it can show."""
    if tab == "Batch":
        press(page, word(locale, "Take the example pictures"))
        page.locator(".file-preview:visible .file").first.wait_for()
        press(page, word(locale, "Start"))
        expect(page.locator(".batch-progress:visible p")).to_contain_text("11")
        expect(page.locator(".scores.batch:visible tr:has(td)")).to_have_count(11)
        return
    if tab == "Evaluate":
        press(page, word(locale, "Take the example"))
        page.locator(".file-preview:visible .file").first.wait_for()
        press(page, word(locale, "Evaluate"))
        expect(page.locator(".mistakes:visible figure")).to_have_count(12)
        return
    if tab == "Search":
        press(page, word(locale, "Use examples"))
        expect(rows(page).first).to_be_visible()
        return
    click_example(page, 0)
    if tab == "Describe":
        page.locator(".demo-badge:visible").wait_for()
        open_tab(page, word(locale, "Ask"))
        page.get_by_label(word(locale, "Question")).filter(visible=True).fill(
            "What colour is the circle?"
        )
        press(page, word(locale, "Ask"))
        expect(page.locator(".meter:visible")).to_be_visible()
        expect(ask_button(page, locale)).to_be_enabled()
        return
    if tab == "Video chat":
        expect(page.locator(".plan:visible")).not_to_be_empty()
        page.get_by_label(word(locale, "Question")).filter(visible=True).fill(
            "What colour is the star?"
        )
        press(page, word(locale, "Ask"))
        page.locator(".message.bot:visible").wait_for()
        expect(ask_button(page, locale)).to_be_enabled()
        return
    expect(rows(page).first).to_be_visible()


def unfold(page: Page) -> None:
    """Open every accordion of the tab that is shown."""
    for accordion in reversed(
        page.locator("[role=tabpanel]:visible button.label-wrap:not(.open)").all()
    ):
        accordion.click()


def in_both_themes(page: Page) -> list[Finding]:
    """Return what axe finds in light and in dark; `?__theme=dark` sets the same class."""
    found = grave_findings(page)
    page.evaluate("document.body.classList.add('dark')")
    found += grave_findings(page)
    page.evaluate("document.body.classList.remove('dark')")
    return found


def on_a_narrow_page(page: Page) -> list[Finding]:
    """Return what axe finds at the width of a phone; the page is wide again after that."""
    size = page.viewport_size
    assert size is not None
    page.set_viewport_size({"width": 390, "height": size["height"]})
    page.locator(".overflow-menu:visible").wait_for()
    found = grave_findings(page)
    page.set_viewport_size(size)
    page.locator(".overflow-menu:visible").wait_for(state="hidden")
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_axe_finds_nothing_grave(visit: Visit, locale: str) -> None:
    """One visit to every tab, before and after its answer."""
    page = visit(locale=locale)
    found: dict[str, list[Finding]] = {}
    for tab in TABS:
        open_tab(page, word(locale, tab))
        unfold(page)
        expect(page.locator(".model-hint:visible p").first).not_to_be_empty()
        found[tab] = in_both_themes(page)
        answer(page, tab, locale)
        found[tab] += in_both_themes(page)
        if locale == "en-GB":
            found[tab] += on_a_narrow_page(page)
    assert {tab: findings for tab, findings in found.items() if findings} == {}


def test_a_dark_page_is_known_by_the_class_of_its_body(visit: Visit) -> None:
    classes = [visit(theme=theme).locator("body").get_attribute("class") for theme in THEMES]
    assert ["dark" in (each or "").split() for each in classes] == [False, True]


def test_axe_finds_nothing_grave_in_tables_maps_and_captions(visit: Visit) -> None:
    page = visit()
    unfold(page)
    page.get_by_label("Show where the model looks for a label").check()
    click_example(page, 1)
    expect(page.get_by_role("button", name="Where the model looks")).to_be_visible()
    found = grave_findings(page)
    open_tab(page, "Similarity")
    click_example(page, 0)
    expect(rows(page).first).to_be_visible()
    press(page, "Matrix: all texts × all pictures")
    expect(page.locator(".matrix:visible")).to_be_visible()
    found += grave_findings(page)
    open_tab(page, "Describe")
    click_example(page, 0)
    page.locator(".demo-badge:visible").wait_for()
    press(page, "5 captions to choose from")
    expect(rows(page).first).to_be_visible()
    assert found + grave_findings(page) == []


def test_axe_finds_nothing_grave_in_an_error(visit: Visit) -> None:
    page = visit()
    press(page, "Classify")
    expect(page.get_by_test_id("toast-text")).to_be_visible()
    page.wait_for_timeout(1500)  # it fades in
    assert grave_findings(page) == []


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_examples_have_names(visit: Visit, locale: str) -> None:
    page = visit(locale=locale)
    name = "示例：黄色星形" if locale == "zh-CN" else "Example: yellow star"
    page.get_by_role("button", name=name, exact=True).click()
    expect(rows(page).first).to_contain_text("yellow star")


def test_names_of_examples_are_chinese(visit: Visit) -> None:
    page = visit(locale="zh-CN")
    for tab in ("分类", "看图说话", "匹配", "视频对话"):
        open_tab(page, tab)
        page.locator("button.gallery-item:visible").first.wait_for()
        examples = page.locator("button.gallery-item:visible").all()
        names = [example.get_attribute("aria-label") or "" for example in examples]
        assert names, tab
        assert [name for name in names if not re.fullmatch("示例：[\u4e00-\u9fff]+", name)] == []


def test_answers_are_announced(visit: Visit) -> None:
    page = visit()
    said = page.locator("[role=status]#announcer")
    expect(said).to_have_text("")
    click_example(page, 1)
    best = rows(page).first
    expect(best).to_contain_text("yellow star")
    expect(said).to_contain_text("yellow star")
    expect(said).to_contain_text("match")
    open_tab(page, "Describe")
    click_example(page, 0)
    page.locator(".demo-badge:visible").wait_for()
    expect(said).to_have_text("a red circle on a white background")
    open_tab(page, "Batch")
    answer(page, "Batch", "en-GB")
    expect(said).to_contain_text("Done: 11 of 11")
