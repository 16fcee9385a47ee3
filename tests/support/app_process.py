"""Starts `app.py` as people do, on a free port, with no hub within reach."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

#: Seconds after which a start counts as hung.
START_LIMIT_S = 180.0

#: What of our own environment must not reach the app: it would change what the tests see.
FOREIGN = re.compile(
    r"(SEESAY|GRADIO|HF|HUGGINGFACE|HUGGING_FACE|TRANSFORMERS)_|.*_PROXY$", re.IGNORECASE
)


@dataclass(frozen=True)
class RunningApp:
    """A running `app.py`.

    Attributes:
        url: where it listens.
        work_dir: its uploads and results.
        log_file: what it prints.
        process: the process itself.
    """

    url: str
    work_dir: Path
    log_file: Path
    process: subprocess.Popen[bytes]


@contextmanager
def serve(folder: Path, *flags: str, code: str = "", **variables: str) -> Iterator[RunningApp]:
    """Run `app.py --models bundled` with its files in `folder` for the length of the block.

    With `code`, that is run with the same arguments in place of `app.py`.
    """
    log_file, work_dir = folder / "app.log", folder / "work"
    command = [
        sys.executable,
        "-u",
        *(["-c", code] if code else ["app.py"]),
        "--models",
        "bundled",
        "--port",
        "0",
    ]
    command += ["--work-dir", str(work_dir), "--cache-dir", str(folder / "cache"), *flags]
    # a port that is taken but not listened to refuses every connection
    with socket.socket() as nobody, log_file.open("wb") as output:
        nobody.bind(("127.0.0.1", 0))
        env = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        env["HF_ENDPOINT"] = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        env["HF_HOME"] = str(folder / "hub")
        env.update(variables)
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield RunningApp(_await_url(process, log_file), work_dir, log_file, process)
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_url(process: subprocess.Popen[bytes], log_file: Path) -> str:
    """Return the address that the app prints once it answers."""
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"Running on local URL:\s+(http://\S+)", log_file.read_text("utf-8"))
        if found and _answers(found[1]):
            return found[1]
        time.sleep(0.1)
    raise RuntimeError(f"app.py did not start:\n{log_file.read_text('utf-8')[-3000:]}")


def _answers(url: str) -> bool:
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False
