"""The page for a visitor whose browser speaks Chinese."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.browsing import click_example, open_tab, press
from tests.browser.conftest import Visit

#: Texts on the page that are neither a visitor's nor a model's words, with those of Gradio's own
#: buttons, which it has in English only, left out.
TEXTS = """() => {
  const texts = [];
  const kept = '[translate=no], code, script, style, button.gallery-item, footer, textarea, '
    + '.chart, .file-preview, #announcer, h1, [data-testid="caption"]';
  const seen = (element) => element && element.checkVisibility() && !element.closest(kept);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode())
    if (seen(walker.currentNode.parentElement)) texts.push(walker.currentNode.textContent.trim());
  for (const element of document.querySelectorAll('.scores [title], .meter[title]'))
    if (seen(element)) texts.push(element.title);
  return texts.filter(Boolean);
}"""

#: Three English words one after another.
ENGLISH = re.compile(r"\b[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}")


def english_on(page: Page) -> list[str]:
    page.wait_for_timeout(500)
    return [text for text in page.evaluate(TEXTS) if ENGLISH.search(text)]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_picture_is_classified_in_chinese(visit: Visit, width: int) -> None:
    page = visit(width=width, locale="zh-CN")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    assert english_on(page) == []
    click_example(page, 3)
    expect(page.locator(".scores .pill:visible").first).to_have_text("匹配")
    expect(page.locator(".demo-badge:visible")).to_contain_text("演示模型")
    for accordion in page.get_by_role("button", name=re.compile("选项|如何看懂分数")).all():
        accordion.click()
    assert english_on(page) == []


@pytest.mark.parametrize("tab", ["相似度", "看图说话", "匹配", "片段"])
def test_a_tab_answers_in_chinese(visit: Visit, tab: str) -> None:
    page = visit(locale="zh-CN")
    open_tab(page, tab)
    assert english_on(page) == []
    click_example(page, 0)
    expect(page.locator(".demo-badge:visible")).to_contain_text("演示模型")
    assert english_on(page) == []


def test_a_batch_runs_in_chinese(visit: Visit) -> None:
    page = visit(locale="zh-CN")
    open_tab(page, "批量")
    press(page, "使用示例图片")
    page.locator(".file-preview:visible .file").first.wait_for()
    press(page, "开始")
    expect(page.locator(".batch-progress")).to_contain_text("完成：11 / 11")
    assert english_on(page) == []


def test_a_mistake_is_explained_in_chinese(visit: Visit, red_circle: Path) -> None:
    page = visit(locale="zh-CN")
    page.get_by_test_id("file-upload").first.set_input_files(red_circle)
    page.locator(".image-container img:visible").first.wait_for()
    press(page, "分类")
    expect(page.get_by_test_id("toast-body")).to_contain_text("至少要有一条文本，但它是空的")
    assert english_on(page) == []


def test_other_languages_see_english(visit: Visit) -> None:
    page = visit(locale="fr-FR")
    expect(page.get_by_role("tab", name="Similarity")).to_be_visible()
