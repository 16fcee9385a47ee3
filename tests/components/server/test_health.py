"""What a server's owner asks: /healthz always, /metrics where it was asked for."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import handle_file

from pipelines.core.settings import Settings
from pipelines.serving.work_dir import no_uploads_because
from tests.conftest import connect
from tests.support.app_process import RunningApp, serve
from tests.support.raw_http import http

LINE = re.compile(r'(\w+)(?:\{((?:\w+="[^"]*",?)*)\})? (\S+)')


@pytest.fixture(scope="module")
def measured_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with serve(tmp_path_factory.mktemp("metrics"), SEESAY_METRICS="1") as app:
        yield app


def figures(app: RunningApp) -> dict[tuple[str, str], float]:
    """Read /metrics as Prometheus does: each value once, each metric with its kind before it."""
    response = http.get(f"{app.url.rstrip('/')}/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    known: set[str] = set()
    found: dict[tuple[str, str], float] = {}
    for line in response.text.splitlines():
        if line.startswith("# TYPE "):
            known.add(line.split()[2])
        if line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        assert match, line
        assert match[1] in known
        key = (match[1], match[2] or "")
        assert key not in found
        found[key] = float(match[3])
    return found


def test_health_of_a_running_app(running_app: RunningApp) -> None:
    response = http.get(f"{running_app.url.rstrip('/')}/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_health_tells_when_uploads_cannot_be_taken(tmp_path: Path) -> None:
    assert no_uploads_because(Settings(work_dir=tmp_path)) == ""
    assert list(tmp_path.iterdir()) == [], "the look leaves nothing behind"
    file = tmp_path / "file"
    file.touch()
    reason = no_uploads_because(Settings(work_dir=file / "work"))
    assert "cannot be written" in reason
    assert str(tmp_path) not in reason
    assert "less than the largest upload" in no_uploads_because(
        Settings(work_dir=tmp_path, max_upload_mb=1e12)
    )


def test_an_unwell_app_answers_503(full_app: RunningApp) -> None:
    response = http.get(f"{full_app.url.rstrip('/')}/healthz")
    assert response.status_code == 503
    assert response.json()["status"] == "unwell"


def test_metrics_are_off_unless_asked_for(running_app: RunningApp) -> None:
    assert http.get(f"{running_app.url.rstrip('/')}/metrics").status_code == 404


def test_metrics_count_requests_by_model_and_how_they_ended(
    measured_app: RunningApp, red_circle: Path
) -> None:
    client = connect(measured_app.url)
    assert figures(measured_app)["seesay_requests_waiting", ""] == 0
    secret = "a label that nobody else may read"
    for labels in (f"red circle\n{secret}", "red circle\nblue star"):
        client.predict(image=handle_file(red_circle), labels=labels, api_name="/classify_image")
    found = figures(measured_app)
    assert found["seesay_requests_total", 'model="demo-clip",outcome="ok"'] == 2
    assert found["seesay_requests_in_progress", 'model="demo-clip"'] == 0
    assert found["seesay_request_seconds_total", 'model="demo-clip"'] > 0
    assert found["seesay_models_loaded", 'model="demo-clip"'] == 1
    text = http.get(f"{measured_app.url.rstrip('/')}/metrics").text
    assert secret not in text
    assert "circle" not in text
