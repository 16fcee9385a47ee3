"""The page without a mouse: every step by keys, and the focus always to be seen."""

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.browsing import rows
from tests.browser.conftest import Visit
from tests.browser.test_describe import caption

#: Stops of the Tab key after which something counts as out of reach.
MOST_STOPS = 80

#: Contrast of the ring round what has the focus with what is behind it, by WCAG 2.2.
LEAST_CONTRAST = 3.0

#: What has the focus: its name, and how its ring is drawn.
FOCUSED = """() => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const light = colour => {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map(value => {
      const share = value / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const focused = document.activeElement;
  const {outlineStyle, outlineWidth, outlineOffset, outlineColor} = getComputedStyle(focused);
  let behind = parseFloat(outlineOffset) < 0 ? focused : focused.parentElement;
  const paint = node => getComputedStyle(node).backgroundColor;
  while (behind.parentElement && /, 0\\)$/.test(paint(behind))) behind = behind.parentElement;
  const ground = light(paint(behind));
  const [low, high] = [ground, light(outlineColor)].sort((a, b) => a - b);
  return {
    html: focused.outerHTML.slice(0, 160),
    atStart: focused === document.body,
    shown: focused.checkVisibility({opacityProperty: true, visibilityProperty: true}),
    width: outlineStyle === 'none' ? 0 : parseFloat(outlineWidth),
    contrast: (high + 0.05) / (low + 0.05),
  };
}"""


def has_focus(target: Locator) -> bool:
    return target.count() > 0 and bool(
        target.first.evaluate("element => element.contains(document.activeElement)")
    )


def tab_to(page: Page, target: Locator, key: str = "Tab") -> None:
    """Press Tab until `target` has the focus; at each stop the focus must be seen."""
    for _ in range(MOST_STOPS):
        page.keyboard.press(key)
        stop = page.evaluate(FOCUSED)
        if not stop["atStart"]:
            assert stop["shown"], f"the focus is on something unseen: {stop}"
            assert stop["width"] >= 2, f"no ring round what has the focus: {stop}"
            assert stop["contrast"] >= LEAST_CONTRAST, f"a faint ring: {stop}"
        if has_focus(target):
            return
    raise AssertionError(f"{target} is out of reach of the Tab key")


def walk(page: Page, picture: Path) -> None:
    """Classify an upload and an example, then ask about a picture, all by keys."""
    tab_to(page, page.get_by_role("tab", name="Classify", exact=True))
    tab_to(page, page.get_by_role("button", name="Upload file").first)
    page.get_by_test_id("file-upload").first.set_input_files(picture)
    expect(page.get_by_role("button", name="Remove Image")).to_be_visible()
    tab_to(page, page.get_by_label("Labels"))
    page.keyboard.type("red circle, blue star")
    tab_to(page, page.get_by_role("button", name="Classify", exact=True))
    page.keyboard.press("Enter")
    expect(rows(page).first).to_contain_text("red circle")
    tab_to(page, page.get_by_role("button", name="Download as CSV"))
    example = page.get_by_role("button", name="Example: yellow star", exact=True)
    tab_to(page, example, "Shift+Tab")
    page.keyboard.press("Enter")
    expect(rows(page).first).to_contain_text("yellow star")
    tab_to(page, page.get_by_role("tab", name="Describe", exact=True), "Shift+Tab")
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("button", name="Example: red circle", exact=True))
    page.keyboard.press("Enter")
    expect(caption(page)).to_have_value("a red circle on a white background")
    tab_to(page, page.get_by_role("tab", name="Ask", exact=True))
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_label("Question"))
    page.keyboard.type("What colour is the circle?")
    page.keyboard.press("Enter")
    expect(page.locator(".message.bot:visible")).to_have_text(["red"])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_visitor_needs_no_mouse(visit: Visit, red_circle: Path, theme: str) -> None:
    walk(visit(theme=theme), red_circle)


def test_every_tab_stays_in_its_place(visit: Visit) -> None:
    """A state between two tabs made Gradio show one of them twice, once it was opened."""
    page = visit()
    names = page.get_by_role("tablist").first.get_by_role("tab").all_inner_texts()
    assert len(names) == len(set(names)) == 9
    for name in names:
        page.get_by_role("tab", name=name, exact=True).last.click()
        expect(page.locator("[role=tabpanel]:visible button.primary").first).to_be_visible()
        assert page.get_by_role("tablist").first.get_by_role("tab").all_inner_texts() == names
