"""Videos against texts, for the Match and Moments tabs and their endpoints."""

from collections.abc import Generator, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

import gradio as gr

from components.server.translate import say
from components.widgets.model_lease import lease
from pipelines.core.spec import ModelSpec, Task
from pipelines.models.viclip.results import MomentSearch, VideoMatch
from pipelines.models.viclip.windows import SearchOptions
from pipelines.serving.store import PipelineStore

TASK: Task = "video-text"

Sign = TypeVar("Sign")


def match_texts(
    store: PipelineStore,
    model: ModelSpec | str,
    file: Path,
    texts: list[str],
    sign: Sign,
    *,
    start_s: float,
    end_s: float,
    fit: str,
    progress: gr.Progress | None = None,
) -> Generator[Sign, None, VideoMatch]:
    """Match a video with texts; yields `sign` a few times a second, returns the match."""
    with lease(store, model, TASK) as held:
        yield from held.wait(sign, lambda viclip: viclip.prepare(texts), progress)
        part = {"start_s": start_s, "end_s": end_s}
        for match in held.pipeline.stream_match(file, texts, **part, fit=fit):
            if match is None:
                if progress is not None:
                    progress(0.0, desc=say("Looking at the video"))
                yield sign
        found: VideoMatch = match
    return found


def find_moments(
    store: PipelineStore,
    model: ModelSpec | str,
    files: Sequence[Path],
    text: str,
    options: SearchOptions,
    sign: Sign,
    progress: gr.Progress | None = None,
) -> Generator[Sign, None, MomentSearch]:
    """Search videos for a text; yields `sign` a few times a second, returns the moments."""
    with lease(store, model, TASK) as held:
        yield from held.wait(
            sign,
            lambda viclip: chain(viclip.prepare([text]), viclip.search(files, options)),
            progress,
        )
        found: MomentSearch = held.pipeline.moments(files, text, options)
    return found
