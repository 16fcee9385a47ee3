"""A process of the crew that crashes or hangs at files whose names ask for it."""

import os
import signal
import time
from pathlib import Path
from typing import Any

#: Put into an app, with a short patience: `serve(folder, code=CODE)`.
CODE = """
from pipelines import apart
from tests.pipelines import evil_decoder
apart.HANG_S = 2.0
apart.crew().target = evil_decoder.serve
import app
app.main()
"""


def act(name: str) -> None:
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in name:
        time.sleep(600)


def serve(conn: Any, stop: Any) -> None:
    """Answer as `apart.serve` does, but for such files."""
    from pipelines import apart, images, video

    open_image = images.open_image

    def evil_open_image(path: Path, **options: Any) -> Any:
        act(path.name)
        return open_image(path, **options)

    class EvilReader(video.VideoReader):
        def __init__(self, path: Path, **options: Any) -> None:
            act(path.name)
            super().__init__(path, **options)

        def frames_at(self, *args: Any, **options: Any) -> Any:
            if "late" in self._path.name:
                act("crash")
            return super().frames_at(*args, **options)

    vars(images)["open_image"] = evil_open_image
    vars(video)["VideoReader"] = EvilReader
    apart.serve(conn, stop)
