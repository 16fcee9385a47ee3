"""The Video chat tab, as a person uses it, with a tiny model in the real format."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.browsing import (
    at_both_widths,
    close_toast,
    open_page,
    open_tab,
    overflow_px,
    press,
    toast,
)
from tests.browser.contrast import contrasts
from tests.browser.test_describe import retry, settled
from tests.fakes.tiny_viclip import SERVE_CODE
from tests.fakes.tiny_videochat import make_bundle
from tests.fakes.videos import encode
from tests.support.app_process import RunningApp, serve

SAYS = "The bar turns at 0:01 and rests after 2 seconds."


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    bundle = make_bundle(tmp_path_factory.mktemp("bundle"), says=SAYS)
    code = SERVE_CODE.format(bundle=str(bundle))
    with serve(tmp_path_factory.mktemp("videochat"), code=code) as running:
        yield running


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("videos") / "a.mp4", "libx264")


def enter(browser: Browser, app: RunningApp, trouble: list[str], width: int = 1280) -> Page:
    def prepare(page: Page) -> None:
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)

    page = open_page(browser, app.url, width=width, prepare=prepare)
    open_tab(page, "Video chat")
    return page


@pytest.fixture
def trouble() -> Iterator[list[str]]:
    """What went wrong on the page."""
    found: list[str] = []
    yield found
    assert found == []


def show_video(page: Page, video: Path) -> None:
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(video)
    expect(page.locator("[role=tabpanel]:visible video").first).to_be_visible()


def answers(page: Page) -> Locator:
    return page.locator(".message.bot:visible")


def ask(page: Page, question: str) -> None:
    page.get_by_label("Question").fill(question)
    press(page, "Ask")


def position_s(page: Page) -> float:
    player = page.locator("[role=tabpanel]:visible video").first
    return float(player.evaluate("player => player.currentTime"))


@at_both_widths
def test_a_conversation_and_a_click_on_a_time(
    browser: Browser, app: RunningApp, video: Path, width: int, trouble: list[str]
) -> None:
    page = enter(browser, app, trouble, width)
    show_video(page, video)
    expect(page.locator(".plan:visible")).to_contain_text("64 frames, one every 0.047 s")
    expect(page.locator(".plan:visible")).to_contain_text("The video is prepared")
    questions = ["What happens?", "And <b>then</b>, *really*?", "Why at [0:02](x)?"]
    for number, question in enumerate(questions, start=1):
        ask(page, question)
        expect(answers(page)).to_have_text([SAYS] * number)
        expect(page.get_by_label("Question")).to_have_value("")
    expect(page.locator(".message.user:visible")).to_have_text(questions)
    expect(page.locator(".demo-badge:visible")).to_be_visible()
    expect(page.locator(".meter:visible")).to_contain_text("tokens")
    for name, seconds in (("2 seconds", 2.0), ("0:01", 1.0)):
        answers(page).first.get_by_role("link", name=name).click()
        assert position_s(page) == pytest.approx(seconds, abs=0.05)
    frames = page.locator(".film:visible a")
    expect(frames).to_have_count(64)
    frames.nth(3).click()
    there = float(str(frames.nth(3).get_attribute("href")).partition("=")[2])
    assert position_s(page) == pytest.approx(there, abs=0.05)
    assert overflow_px(page) <= 0
    with page.expect_download() as download:
        press(page, "Download")
    text = Path(download.value.path()).read_text("utf-8")
    assert text.startswith(f"Question: What happens?\n\nAnswer: {SAYS}\n\n")
    press(page, "New conversation")
    expect(answers(page)).to_have_count(0)
    page.context.close()


def test_a_question_is_asked_again_and_undone(
    browser: Browser, app: RunningApp, video: Path, trouble: list[str]
) -> None:
    page = enter(browser, app, trouble)
    show_video(page, video)
    ask(page, "What *happens*?")
    expect(answers(page)).to_have_text([SAYS])
    settled(page)
    retry(page)
    expect(answers(page)).to_have_text([SAYS])
    page.get_by_role("button", name="Undo").click()
    expect(answers(page)).to_have_count(0)
    expect(page.get_by_label("Question")).to_have_value("What *happens*?")
    page.context.close()


def test_mistakes_are_told_and_cost_nothing(
    browser: Browser, app: RunningApp, video: Path, tmp_path: Path, trouble: list[str]
) -> None:
    page = enter(browser, app, trouble)
    ask(page, "What happens?")
    expect(toast(page)).to_contain_text("The video is missing")
    close_toast(page)
    expect(page.get_by_label("Question")).to_have_value("What happens?")
    (tmp_path / "a.mp4").write_bytes(b"hello, this is text")
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(
        tmp_path / "a.mp4"
    )
    expect(page.locator(".plan:visible .warning")).to_contain_text("a.mp4")
    press(page, "Ask")
    expect(toast(page).filter(has_text="a.mp4")).to_be_visible()
    close_toast(page)
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_enabled()
    page.context.close()
    # the player's own word on a file that is none
    trouble[:] = [each for each in trouble if "ERR_" not in each and "video" not in each.lower()]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out(browser: Browser, app: RunningApp, video: Path, theme: str) -> None:
    page = open_page(browser, app.url, theme=theme)
    open_tab(page, "Video chat")
    show_video(page, video)
    expect(page.locator(".plan:visible")).to_contain_text("The video is prepared")
    ask(page, "What happens?")
    expect(answers(page)).to_have_text([SAYS])
    expect(page.locator(".film:visible a").first).to_be_visible()
    page.locator("h1").hover()
    kinds = [".message.bot a", ".plan p", ".film span", ".film-label"]
    seen = {kind: contrasts(page, kind) for kind in kinds}
    assert all(seen.values()), f"each kind must be on the page: {seen}"
    weak = {
        f"{kind} {text!r}": round(ratio, 2)
        for kind, found in seen.items()
        for text, ratio in found.items()
        if ratio < 4.5
    }
    assert weak == {}
    page.context.close()
