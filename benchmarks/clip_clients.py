"""Throughput of the running app: clients in a process of their own ask `/classify_image`."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
LABELS = "dog\ncat\ntree\nhouse\ncar"


def throughput(
    models: Path, work: Path, *, num_clients: int, seconds: float
) -> tuple[float, float]:
    """Start the app on random weights; return requests per second of one client and of many."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    folders = ["--models-dir", models, "--work-dir", work / "uploads", "--cache-dir", work / "c"]
    command = [sys.executable, "app.py", "--port", str(port), *map(str, folders)]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL) as server:
        try:
            asker = [sys.executable, "-m", "benchmarks.clip_clients", str(port)]
            found = subprocess.run(
                [*asker, str(num_clients), str(seconds)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
        finally:
            server.terminate()
    alone, together = json.loads(found.stdout.splitlines()[-1])
    return round(alone, 2), round(together, 2)


class Clients:
    """Visitors that upload a picture each and ask about it."""

    def __init__(self, port: int) -> None:
        """Aim at a local port."""
        self.url = f"http://127.0.0.1:{port}/gradio_api"

    def wait(self) -> None:
        """Return once the page is up and the model answers."""
        import httpx

        deadline = time.monotonic() + 180
        while True:
            try:
                self.ask(httpx.Client(timeout=120))
                return
            except (httpx.HTTPError, KeyError, ValueError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def ask(self, http: "object") -> None:
        """Upload a fresh picture, classify it, read the answer."""
        import httpx
        import numpy as np
        from PIL import Image

        assert isinstance(http, httpx.Client)
        small = np.random.default_rng().integers(0, 256, (8, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((224, 224)).save(buffer, "JPEG")
        files = {"files": ("p.jpg", buffer.getvalue())}
        path = http.post(f"{self.url}/upload", files=files).json()[0]
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, LABELS, "", "clip-vit-b32"]
        call = f"{self.url}/call/classify_image"
        event = http.post(call, json={"data": data}).json()["event_id"]
        answer = http.get(f"{call}/{event}").text
        if "event: complete" not in answer:
            raise ValueError(answer[:300])

    def rate(self, number: int, seconds: float) -> float:
        """Return answers per second of `number` clients that ask again and again."""
        import httpx

        done = [0] * number
        end = time.monotonic() + seconds

        def work(index: int) -> None:
            with httpx.Client(timeout=120) as http:
                while time.monotonic() < end:
                    self.ask(http)
                    done[index] += 1

        threads = [threading.Thread(target=work, args=(index,)) for index in range(number)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(done) / (time.monotonic() - start)


def main() -> None:
    """Print requests per second, alone and together, as JSON."""
    port, number, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    clients = Clients(port)
    clients.wait()
    clients.rate(4, 1.0)
    alone = clients.rate(1, seconds)
    together = clients.rate(number, seconds)
    print(json.dumps([alone, together]))


if __name__ == "__main__":
    main()
