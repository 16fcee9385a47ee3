"""A running app, asked over its public endpoints as a visitor's script does."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from pathlib import Path
from typing import Any

from PIL import Image


class AppClient:
    """Clients of one app, one for each thread; pictures travel as PNG files."""

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
        """Ask about one picture; `arguments` are those of the endpoint, with its `api_name`."""
        from gradio_client import handle_file

        return self._client().predict(image=handle_file(self._file(image)), **arguments)
