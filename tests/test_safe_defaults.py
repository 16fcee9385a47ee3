"""What `python app.py` does unasked is safe: loopback, no share link, nothing sent or logged."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from gradio.queueing import Queue
from gradio_client import handle_file

from components.page import MAX_WAITING, PUBLIC_FOLDERS, launch_options
from components.server.body_limit import MAX_JSON_BYTES
from components.server.uploads import REQUEST_S
from components.widgets.queues import BATCHED_QUEUE
from pipelines.core.options import MAX_BEAMS, MAX_NEW_TOKENS
from pipelines.core.settings import Settings, read_settings
from pipelines.core.text import MAX_CHARS, MAX_TEXTS
from pipelines.media.archive import ZipLimits
from pipelines.media.inputs import MAX_FILE_BYTES
from pipelines.media.links import FETCH_S, MAX_REDIRECTS
from pipelines.media.video.container import MAX_FRAME_PIXELS, MAX_FRAMES_GB
from pipelines.serving.work_dir import KEEP_FILES_S
from pipelines.weights.locate import MAX_WAITING_IN_ALL
from tests.conftest import FakeApp, connect
from tests.support.app_process import ROOT, RunningApp, serve
from tests.support.raw_http import http


def test_options_of_the_launch() -> None:
    options = launch_options(read_settings([], {}))
    assert options["server_name"] == "127.0.0.1"
    for switch in ("share", "show_error", "mcp_server", "enable_monitoring", "ssr_mode"):
        assert options[switch] is False, switch
    assert options["allowed_paths"] == [str(folder) for folder in PUBLIC_FOLDERS]
    assert options["max_file_size"] == 200_000_000


def listeners(port: int) -> set[str]:
    """Return the addresses at which somebody listens to a port, as the kernel writes them."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text("ascii").splitlines()[1:]:
            address, _, number = line.split()[1].rpartition(":")
            if int(number, 16) == port and line.split()[3] == "0A":
                found.add(address)
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").is_file(), reason="the kernel of Linux tells this")
def test_it_listens_on_loopback_only(running_app: RunningApp) -> None:
    port = urlsplit(running_app.url).port
    assert port
    assert listeners(port) == {"0100007F"}, "127.0.0.1, in the byte order of the machine"


def test_no_variable_of_gradio_opens_a_share_link_or_agents_or_statistics(tmp_path: Path) -> None:
    switched_on = {
        name: "True" for name in ("GRADIO_SHARE", "GRADIO_MCP_SERVER", "GRADIO_ANALYTICS_ENABLED")
    }
    with serve(tmp_path, **switched_on) as app:
        url = app.url.rstrip("/")
        log = app.log_file.read_text("utf-8")
        assert "public URL" not in log
        assert "MCP" not in log
        assert http.get(f"{url}/gradio_api/mcp/schema").status_code == 404
        assert http.get(f"{url}/config").json()["analytics_enabled"] is False


def test_nobody_watches_the_visitors(running_app: RunningApp) -> None:
    url = running_app.url.rstrip("/")
    answer = http.get(f"{url}/monitoring")
    assert answer.status_code in {403, 404} or "disabled" in answer.text.lower()
    assert http.get(f"{url}/metrics").status_code == 404


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("name", ["runs", "run-history/connect", "run-history/buckets"])
def test_nobody_acts_with_the_owners_token(running_app: RunningApp, name: str, method: str) -> None:
    """Gradio's history of runs asks for no password, and reads and writes the owner's buckets."""
    url = f"{running_app.url.rstrip('/')}/gradio_api/{name}"
    assert getattr(http, method)(url).status_code in {404, 405}
    assert http.get(f"{running_app.url.rstrip('/')}/config").json()["run_history"] is False


def test_no_requests_are_remembered_for_statistics(
    fake_app: FakeApp, red_circle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio made a table of the last 10,000 after each: slower with each, and 100 MB kept."""
    tables: list[object] = []
    monkeypatch.setattr(Queue, "_get_df", staticmethod(tables.append))
    for _ in range(2):
        fake_app.client.predict(
            image=handle_file(red_circle), labels="a\nb", api_name="/classify_image"
        )
    assert tables == []


def test_the_page_loads_nothing_from_elsewhere(running_app: RunningApp) -> None:
    html = http.get(running_app.url).text
    loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)"', html)
    loaded += re.findall(r'<link[^>]+rel="stylesheet"[^>]+href="(https?:[^"]+)"', html)
    assert [link for link in loaded if not link.startswith(running_app.url)] == []


def test_what_a_visitor_types_is_not_logged(running_app: RunningApp, red_circle: Path) -> None:
    secret = "the words of nobody else"
    client = connect(running_app.url)
    client.predict(
        image=handle_file(red_circle), labels=f"red circle\n{secret}", api_name="/classify_image"
    )
    client.predict(image=handle_file(red_circle), question=secret, api_name="/answer_image")
    log = running_app.log_file.read_text("utf-8")
    assert secret not in log
    assert red_circle.name not in log


def test_the_documented_limits_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "server.md").read_text("utf-8")
    defaults, zips = Settings(), ZipLimits()
    for bound in (
        f"{defaults.max_upload_mb:.0f} MB",
        f"{defaults.max_pixels_mp:.0f} megapixels",
        f"{defaults.max_video_s / 3600:.0f} hours",
        f"{MAX_FRAMES_GB:.0f} GB of frames",
        f"{zips.num_members:,} entries and {zips.total_bytes / 1e9:.0f} GB unpacked",
        f"{MAX_FILE_BYTES / 1e6:.0f} MB for each entry",
        f"{MAX_TEXTS:,} lines, {MAX_CHARS:,} characters",
        f"{MAX_NEW_TOKENS:,} new tokens, {MAX_BEAMS} beams",
        f"{FETCH_S:.0f} seconds for one, {REQUEST_S:.0f} seconds for all of a request",
        f"{MAX_REDIRECTS} redirects",
        f"body of a request | {MAX_JSON_BYTES / 1e6:.0f} MB",
        f"{MAX_WAITING} places",
        f"{MAX_WAITING_IN_ALL} of {BATCHED_QUEUE['concurrency_limit']} places",
    ):
        assert bound in page, bound
    assert MAX_FRAME_PIXELS == 8192 * 8192
    assert KEEP_FILES_S == 3600
