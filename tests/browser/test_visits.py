"""What the server keeps of pages that were closed."""

import re
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.browsing import open_page
from tests.support.app_in_process import wait_until
from tests.support.app_process import serve

#: `python app.py` that gives up closed visits at once, and prints how many there are.
QUICK = (
    "import sys\n"
    "from components.server import sessions\n"
    "own = sessions.forget\n"
    "def forget(holder, now, closed):\n"
    "    ages = sessions.SessionAges(plain=0.2, left=0.2, found=0.2)\n"
    "    own(holder, now, closed, ages)\n"
    "    print('LEFT', len(holder.session_data), flush=True)\n"
    "sessions.forget, sessions.EVERY_S = forget, 0.2\n"
    "import app\n"
    "app.main(sys.argv[1:])\n"
)


def test_a_closed_page_is_given_up_and_an_open_one_is_not(browser: Browser, tmp_path: Path) -> None:
    with serve(tmp_path, code=QUICK) as app:

        def left() -> int:
            return int(re.findall(r"LEFT (\d+)", app.log_file.read_text("utf-8"))[-1])

        pages = [open_page(browser, app.url) for _ in range(2)]
        wait_until(lambda: left() == 2, "both visits are there")
        pages[0].context.close()
        wait_until(lambda: left() == 1, "the closed one goes")
        pages[1].wait_for_timeout(2000)
        assert left() == 1, "the open one stays"
        pages[1].context.close()
        wait_until(lambda: left() == 0, "the last one goes")
