"""Remote models on the page: chosen, told of, asked, stopped; wide and narrow."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.browsing import (
    choose_model,
    close_toast,
    open_page,
    open_tab,
    overflow_px,
    press,
    toast,
)
from tests.fakes.chat_server import PIECES, FakeChatServer
from tests.fakes.videos import encode
from tests.support.app_process import RunningApp, serve

TEXT = "".join(PIECES)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeChatServer]:
    with FakeChatServer() as fake:
        yield fake


@pytest.fixture(scope="module")
def app(server: FakeChatServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with serve(tmp_path_factory.mktemp("app"), "--remote", f"fake={server.url}") as running:
        yield running


def enter(browser: Browser, app: RunningApp, tab: str, width: int, locale: str = "en-GB") -> Page:
    page = open_page(browser, app.url, width=width, locale=locale)
    open_tab(page, tab)
    return page


@pytest.mark.parametrize("width", [1280, 390])
def test_a_caption(
    browser: Browser, app: RunningApp, server: FakeChatServer, red_circle: Path, width: int
) -> None:
    page = enter(browser, app, "Describe", width)
    choose_model(page, "fake: through a server")
    hint = page.locator(".model-hint:visible").first
    expect(hint).to_contain_text(f"your words are sent to {server.host}")
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(red_circle)
    expect(page.get_by_role("button", name="Remove Image")).to_be_visible()
    press(page, "Caption")
    expect(page.get_by_placeholder("The caption appears here.")).to_have_value(TEXT)
    assert overflow_px(page) == 0
    server.faults = ["404"]
    press(page, "Caption")
    expect(toast(page)).to_contain_text(f"fake ({server.host})")
    close_toast(page)
    page.context.close()


def test_stop_closes_the_connection(
    browser: Browser, app: RunningApp, server: FakeChatServer, red_circle: Path
) -> None:
    page = enter(browser, app, "Describe", 1280)
    choose_model(page, "fake: through a server")
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(red_circle)
    expect(page.get_by_role("button", name="Remove Image")).to_be_visible()
    server.faults = ["silence"]
    server.left.clear()
    press(page, "Caption")
    expect(page.get_by_placeholder("The caption appears here.")).to_have_value(PIECES[0])
    assert not server.left.is_set()
    page.get_by_role("button", name="Stop", exact=True).first.click()
    assert server.left.wait(10)
    page.context.close()


def test_a_question_about_a_video(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    page = enter(browser, app, "Video chat", 1280)
    choose_model(page, "fake: through a server")
    video = encode(tmp_path / "a.mp4", "libx264")
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(video)
    expect(page.locator(".plan:visible")).to_contain_text("runs on a server")
    page.get_by_label("Question").last.fill("What happens?")
    press(page, "Ask")
    expect(page.locator(".message.bot:visible")).to_contain_text(TEXT)
    expect(page.locator(".film-label:visible")).to_contain_text("What the model saw")
    page.context.close()


def test_it_speaks_chinese(
    browser: Browser, app: RunningApp, server: FakeChatServer, red_circle: Path
) -> None:
    page = enter(browser, app, "看图说话", 1280, "zh-CN")
    page.locator(".model-picker:visible").get_by_role("combobox").click()
    page.get_by_role("option", name="fake：通过服务器").click()
    expect(page.locator(".model-hint:visible").first).to_contain_text("在别处运行")
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(red_circle)
    server.faults = ["404"]
    press(page, "描述")
    expect(toast(page)).to_contain_text("没有这个模型")
    page.context.close()
