"""The app in this process, over the bundled models, for tests that look behind the page."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradio.blocks import Block

from components.page import build_app, launch_options
from components.server.blocks import Page
from components.server.services import Services
from pipelines.core.settings import Settings
from pipelines.serving.store import PipelineStore

#: Seconds after which what is waited for counts as hanging.
HANG_S = 60.0


def wait_until(what: Callable[[], bool], told: str) -> None:
    """Wait until `what` is true; `told` says what it is that hangs."""
    end = time.monotonic() + HANG_S
    while not what():
        assert time.monotonic() < end, told
        time.sleep(0.02)


@dataclass(frozen=True)
class BundledApp:
    """A served page and what is behind it."""

    page: Page
    url: str
    store: PipelineStore

    def is_idle(self) -> bool:
        """Whether nobody has or awaits a model."""
        return not any(slot.leases for slot in self.store._slots.values())

    def await_idle(self) -> None:
        """Wait until nobody has a model any more."""
        wait_until(self.is_idle, "the model is still lent")

    def num_running(self) -> int:
        """Return how many requests are being answered."""
        return sum(bool(job) for job in self.page._queue.active_jobs)

    def event(self, name: str, about: type = Block) -> Any:
        """Return the first of the page's own events with a handler of that name.

        Args:
            name: of the handler.
            about: class of one of its inputs or outputs.
        """
        return next(
            event
            for event in self.page.fns.values()
            if event.name == name
            and any(isinstance(one, about) for one in (*event.inputs, *event.outputs))
        )


@contextmanager
def bundled_app(cache_dir: Path) -> Iterator[BundledApp]:
    """Serve the app on a free port for the length of the block."""
    settings = Settings(
        models="bundled",
        port=0,
        device="cpu",
        dtype="float32",
        work_dir=Path(os.environ["GRADIO_TEMP_DIR"]),
        cache_dir=cache_dir,
        offline=True,
    )
    store = PipelineStore(settings)
    page = build_app(Services.of(store))
    options = {**launch_options(settings), "quiet": True}
    _, url, _ = page.launch(**options, prevent_thread_lock=True)
    yield BundledApp(page, url, store)
    page.close(verbose=False)
