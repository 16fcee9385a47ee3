"""A visitor who comes while as many wait as may."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.browsing import open_page, press
from tests.components.server.test_queue_full import FULL
from tests.support.app_process import serve


@pytest.mark.parametrize(
    ("locale", "button", "told"),
    [
        ("en-GB", "Classify", "The queue is full: 256 requests"),
        ("zh-CN", "分类", "队列已满：有 256"),
    ],
)
def test_the_notice_is_ours(
    browser: Browser, tmp_path: Path, locale: str, button: str, told: str
) -> None:
    gate = tmp_path / "gate"
    with serve(tmp_path, code=FULL.format(gate=str(gate))) as running:
        page = open_page(browser, running.url, locale=locale)
        gate.touch()
        press(page, button)
        expect(page.get_by_test_id("toast-text")).to_contain_text(told)
        page.context.close()
