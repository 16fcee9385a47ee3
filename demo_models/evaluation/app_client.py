"""Client of a running app, over its public endpoints as a visitor's script does."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[2]
START_LIMIT_S = 180.0
"""Seconds after which a start of the app counts as hung."""


@contextmanager
def running_app(url: str = "") -> Iterator[str]:
    """Give the address of an app: `url`, or else one that is started for the length of the block.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    if url:
        yield url
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "app.py", "--models", "bundled", "--port", str(port)]
        with subprocess.Popen([*command, "--work-dir", folder], cwd=ROOT) as app:
            try:
                own = f"http://127.0.0.1:{port}"
                _await(own, app)
                yield own
            finally:
                app.terminate()


def _await(url: str, app: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and app.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/config", timeout=10):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError("app.py ended or did not answer; run it alone to see why.")


class AppClient:
    """Clients of one app, one for each thread; images travel as PNG files."""

    def __init__(self, url: str) -> None:
        """Connect on the first request."""
        self.url = url
        self.own = threading.local()
        self.folder = tempfile.TemporaryDirectory()

    def _client(self) -> Any:
        """Return this thread's client: several streams of one client lose each other's answers."""
        from gradio_client import Client  # type: ignore[import-untyped]

        if not hasattr(self.own, "client"):
            self.own.client = Client(self.url, ssl_verify=False, verbose=False)
        return self.own.client

    def _file(self, image: Image.Image) -> Path:
        name = hashlib.sha256(image.tobytes() + str(image.size).encode()).hexdigest()
        path = Path(self.folder.name) / f"{name}.png"
        if not path.exists():
            part = path.with_suffix(f".{threading.get_ident()}")
            image.save(part, "PNG")
            part.replace(path)
        return path

    def predict(self, image: Image.Image, **arguments: Any) -> Any:
        """Ask about one image; `arguments` are those of the endpoint, with its `api_name`."""
        from gradio_client import handle_file

        return self._client().predict(image=handle_file(self._file(image)), **arguments)

    def predict_video(self, video: Path, **arguments: Any) -> Any:
        """Ask about one video file; `arguments` as above."""
        from gradio_client import handle_file

        return self._client().predict(video=handle_file(video), **arguments)
