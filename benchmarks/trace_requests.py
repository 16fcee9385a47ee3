"""Files and functions of ours that a warm request enters: `python benchmarks/trace_requests.py`.

The app runs in this process with the demo checkpoints. Each request is sent four times over HTTP;
all but the first are traced over all threads, and what each of them enters counts: work that goes
on beside a request, such as the deletion of old sessions, does not. Functions are code objects of
`app.py`, `components/` and `pipelines/`, without lambdas and comprehensions; work of decoder
processes is not counted.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

#: Endpoint: most files, most functions; 0 for no goal.
GOALS = {"/classify_image": (20, 60), "/ask_video": (28, 0), "/caption_images": (35, 0)}

#: Traced requests to each endpoint.
REPEATS = 3

OURS = tuple(f"{ROOT / name}{end}" for name, end in
             (("components", os.sep), ("pipelines", os.sep), ("app", ".py")))  # fmt: skip


class Trace:
    """Code objects of ours that any thread enters while `on`."""

    def __init__(self) -> None:
        """Watch all threads that start from now on."""
        self.on = False
        self.seen: set[CodeType] = set()
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def _profile(self, frame: Any, event: str, arg: Any) -> None:
        if self.on and event == "call" and frame.f_code.co_filename.startswith(OURS):
            self.seen.add(frame.f_code)

    def of(self, request: Callable[[], Any]) -> dict[str, list[str]]:
        """Return the functions that a request enters, by file."""
        entered = []
        for _ in range(REPEATS):
            self.seen = set()
            self.on = True
            request()
            self.on = False
            entered.append(self.seen)
        files: dict[str, list[str]] = defaultdict(list)
        for code in set.intersection(*entered):
            if not code.co_name.startswith("<"):
                name = str(Path(code.co_filename).relative_to(ROOT))
                files[name].append(code.co_qualname)
        return {name: sorted(files[name]) for name in sorted(files)}


def main() -> None:
    """Trace the requests and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print every function")
    parser.add_argument("--write", action="store_true", help="keep the figures for docs/speed.md")
    args = parser.parse_args()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="seesay-trace-")
    trace = Trace()
    rows = []
    for endpoint, request in requests(Path(os.environ["GRADIO_TEMP_DIR"])):
        request()
        files = trace.of(request)
        count = sum(map(len, files.values()))
        most_files, most_functions = GOALS[endpoint]
        met = len(files) <= most_files and (not most_functions or count <= most_functions)
        rows.append({"endpoint": endpoint, "files": len(files), "functions": count,
                     "goal_files": most_files, "goal_functions": most_functions,
                     "met": met})  # fmt: skip
        print(f"{endpoint:<16} {len(files):>3} files (goal {most_files}), {count:>3} functions")
        for name, functions in files.items() if args.list else ():
            print(f"  {name}: {', '.join(functions)}")
    if args.write:
        text = json.dumps({"rows": rows}, indent=1)
        Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    print(json.dumps(rows), flush=True)
    os._exit(0)  # the server's threads are not worth waiting for


def requests(folder: Path) -> list[tuple[str, Callable[[], Any]]]:
    """Start the app and return one request for each endpoint."""
    from gradio_client import Client, handle_file

    from components.page import build_app, launch_options
    from components.server.services import Services
    from pipelines.core.settings import Settings
    from pipelines.serving.store import PipelineStore

    settings = Settings(models="bundled", port=0, device="cpu", work_dir=folder,
                        cache_dir=folder / "cache", offline=True)  # fmt: skip
    app = build_app(Services.of(PipelineStore(settings)))
    options = {**launch_options(settings), "quiet": True}
    _, url, _ = app.launch(**options, prevent_thread_lock=True)
    client = Client(url, ssl_verify=False, verbose=False)
    examples = ROOT / "assets" / "examples"
    image = handle_file(str(examples / "red-circle.png"))
    video = handle_file(str(examples / "circle-moves-left.mp4"))
    return [
        (
            "/classify_image",
            lambda: client.predict(image, "a red circle\na blue star", api_name="/classify_image"),
        ),
        (
            "/ask_video",
            lambda: client.predict(video, "What moves?", api_name="/ask_video"),
        ),
        ("/caption_images", lambda: client.predict([image], api_name="/caption_images")),
    ]


if __name__ == "__main__":
    main()
