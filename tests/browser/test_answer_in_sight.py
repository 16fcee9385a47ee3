"""On a phone an answer is in sight without scrolling."""

import pytest
from playwright.sync_api import expect

from tests.browser.browsing import click_example, open_tab, rows
from tests.browser.conftest import Visit

PHONE_PX = 390


#: Whether the column with the answer begins in the upper third of the window.
IN_SIGHT = """() => {
    const answer = [...document.querySelectorAll(".answer")].find((it) => it.offsetParent);
    const { top } = answer.getBoundingClientRect();
    return top >= -1 && top < innerHeight / 3;
}"""


@pytest.mark.parametrize("tab", ["Classify", "Similarity", "Match", "Moments"])
def test_an_answer_is_in_sight_on_a_phone(visit: Visit, tab: str) -> None:
    page = visit(PHONE_PX)
    open_tab(page, tab)
    click_example(page, 0)
    if tab == "Similarity":
        page.get_by_role("button", name="Rank", exact=True).click()
    expect(rows(page).first).to_be_visible()
    page.wait_for_function(IN_SIGHT, timeout=5000)


def test_a_visitor_who_scrolls_stays_there(visit: Visit) -> None:
    page = visit(PHONE_PX)
    page.emulate_media(reduced_motion="reduce")  # so that no scrolling is under way
    click_example(page, 0)
    page.mouse.wheel(0, -3000)
    page.wait_for_function("scrollY === 0")
    expect(rows(page).first).to_be_visible()
    page.wait_for_timeout(1000)
    assert page.evaluate("scrollY") == 0


def test_a_press_on_a_wide_page_does_not_scroll(visit: Visit) -> None:
    page = visit(1280)
    click_example(page, 0)
    expect(rows(page).first).to_be_visible()
    assert page.evaluate("scrollY") == 0
