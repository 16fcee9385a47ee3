"""A process of the crew that crashes or hangs at files whose names ask for it."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

#: Put into an app, with a short patience: `serve(folder, code=CODE)`.
CODE = """
from pipelines.media import isolation
from tests.fakes import hostile_decoder as evil_decoder
isolation.HANG_S = 2.0
isolation.decoder_pool().target = evil_decoder.serve
import app
app.main()
"""


def act(name: str) -> None:
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in name:
        time.sleep(600)


def ask_for_ever(conn: Any, stop: Any) -> None:
    """Answer nothing, and ask all the time whether to stop."""
    from pipelines.media import worker

    sign = worker._Sign(conn, stop)
    while True:
        sign()


def serve(conn: Any, stop: Any) -> None:
    """Answer as `worker.serve` does, but for such files."""
    from pipelines.media import images, worker
    from pipelines.media.video.decoder import FrameDecoder

    open_image, feed, hung = images.open_image, FrameDecoder._feed, list[bool]()

    def evil_open_image(path: Path, **options: Any) -> Any:
        act(path.name)
        return open_image(path, **options)

    class EvilReader(worker.VideoReader):
        def __init__(self, path: Path, **options: Any) -> None:
            act(path.name)
            super().__init__(path, **options)

        def frames_at(self, *args: Any, **options: Any) -> Any:
            if "late" in self._path.name:
                act("crash")
            return super().frames_at(*args, **options)

        def frames_in_order(self, *args: Any, **options: Any) -> Any:
            if "late" in self._path.name:
                act("crash")
            return super().frames_in_order(*args, **options)

    def evil_feed(self: FrameDecoder, *args: Any) -> Any:
        in_thread = threading.current_thread() is not threading.main_thread()
        if "stuck" in self._path.name and in_thread and not hung:
            hung.append(True)
            time.sleep(20)
        if "stalled" in self._path.name and args[0] > 5:  # wherever it decodes
            time.sleep(20)
        return feed(self, *args)

    FrameDecoder._feed = evil_feed  # type: ignore[method-assign]
    vars(images)["open_image"] = evil_open_image
    vars(worker)["VideoReader"] = EvilReader
    worker.serve(conn, stop)
