"""The app is up at once, whatever the network does, and answers without waiting for it."""

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from gradio_client import handle_file

from tests.conftest import connect
from tests.support.app_process import ROOT, serve
from tests.support.raw_http import upload

EMPTY = (
    "import gradio as gr, sys\n"
    "with gr.Blocks(analytics_enabled=False) as app: pass\n"
    "app.launch(server_port=None, prevent_thread_lock=True, quiet=True)\n"
    "print('up', flush=True)\n"
)


def seconds_of_an_empty_app() -> float:
    start = time.monotonic()
    child = subprocess.run([sys.executable, "-c", EMPTY], capture_output=True, timeout=120)
    assert b"up" in child.stdout
    return time.monotonic() - start


def test_up_and_answering_with_a_hub_that_never_answers(tmp_path: Path, red_circle: Path) -> None:
    empty_s = seconds_of_an_empty_app()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)  # accepts and never says a word
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with serve(tmp_path, "--models", "auto", HF_ENDPOINT=endpoint) as app:
            page_s = time.monotonic() - start
            client = connect(app.url)
            start = time.monotonic()
            label, _ = client.predict(
                image=handle_file(red_circle), labels="red circle\nblue star",
                api_name="/classify_image",
            )  # fmt: skip
            answer_s = time.monotonic() - start
            log = app.log_file.read_text("utf-8")
    assert label["label"] == "red circle", "the demo model answers"
    # bounds on hangs, not on speed: the library's own retries take over 100 s
    assert page_s < 3 * empty_s + 15  # a busy machine slows both
    assert answer_s < 40
    up, imported = log.index("Running on local URL"), re.search("torch .* imported", log)
    assert imported is None or up < imported.start(), "torch is imported after the page is up"


def test_a_port_that_is_in_use_is_told_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        asked = ["--port", str(port), "--work-dir", str(tmp_path), "--cache-dir", str(tmp_path)]
        ended = subprocess.run(
            [sys.executable, "app.py", "--models", "bundled", *asked],
            capture_output=True, text=True, timeout=120, cwd=ROOT,
        )  # fmt: skip
    assert ended.returncode == 1
    assert f"Port {port} is in use." in ended.stderr
    assert "Traceback" not in ended.stderr


#: `python app.py` that keeps files for a second only.
SHORT = (
    "import sys\n"
    "import pipelines.serving.work_dir as sweeping\n"
    "sweeping.KEEP_FILES_S = 1.0\n"
    "import app\n"
    "app.main(sys.argv[1:])\n"
)


def test_uploads_of_a_run_that_was_killed_go_and_a_run_ends_in_order(
    tmp_path: Path, red_circle: Path
) -> None:
    """They piled up for ever: gradio deletes only what it remembers, and nothing on SIGTERM."""
    work = tmp_path / "work"
    with serve(tmp_path, code=SHORT) as app:
        kept = Path(upload(app.url, red_circle))
        assert kept.is_file()
        app.process.kill()
        app.process.wait()
    assert kept.is_file()
    with serve(tmp_path, code=SHORT) as app:
        assert not kept.exists()
        assert not kept.parent.exists()
        examples = list(work.rglob("red-circle.png"))
        assert examples, "the page's own pictures stay"
        time.sleep(2.5)
        assert [path for path in examples if path.is_file()] == examples
        fresh = Path(upload(app.url, red_circle))
        app.process.send_signal(signal.SIGTERM)
        assert app.process.wait(timeout=20) == 0
        assert not fresh.exists()
        assert "Traceback" not in app.log_file.read_text("utf-8")
