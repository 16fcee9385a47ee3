"""The page as a whole."""

import httpx

from components.page import ASSETS
from tests.support.app_process import RunningApp


def test_the_page_has_its_own_icon(running_app: RunningApp) -> None:
    icon = httpx.get(f"{running_app.url.rstrip('/')}/favicon.ico")
    assert icon.content == (ASSETS / "favicon.svg").read_bytes()
    assert icon.headers["content-type"].startswith("image/svg+xml")
