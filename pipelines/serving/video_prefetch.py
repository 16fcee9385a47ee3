"""A video is encoded while its visitor still types."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.compute.background import stream_work
from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import PipelineError
from pipelines.core.results import Step
from pipelines.core.spec import ModelSpec
from pipelines.models.video_chat import Estimate, Part
from pipelines.serving.store import PipelineStore


@dataclass(frozen=True, kw_only=True)
class VideoPrefetch:
    """How far it is.

    Attributes:
        estimate: what a question would take now; None where there is a problem.
        step: how much of the video was encoded; None before the first clip, and once all is.
        ready: whether all of the video is encoded.
        problem: why a question would be refused, or "".
    """

    estimate: Estimate | None = None
    step: Step | None = None
    ready: bool = False
    problem: str = ""


def prefetch_video(
    store: PipelineStore, spec: ModelSpec, video: Path, part: Part, *, compress: bool = False
) -> Iterator[VideoPrefetch | None]:
    """Encode what a question about a video would need; closing the iterator ends it.

    It is a guest: a clip at a time, each when no visitor is being answered, and only as long as
    nobody needs the model's memory. Where a question would not fit nothing is encoded.

    Args:
        store: lends the model, whose weights must be on disk.
        spec: the model.
        video: a video file.
        part: what of it is looked at.
        compress: as a question would be asked.

    Yields:
        How far it is, or the problem with it; None as a sign of life.
    """

    def work(emit: Callable[[VideoPrefetch], None], cancel: CancelToken) -> None:
        try:
            with suppress(Cancelled):
                _work(store, spec, video, part, compress, emit, cancel)
        except PipelineError as error:  # nobody has asked yet: it is told, and raised by a question
            emit(VideoPrefetch(problem=error.message))

    return stream_work(work)


def _work(
    store: PipelineStore,
    spec: ModelSpec,
    video: Path,
    part: Part,
    compress: bool,
    emit: Callable[[VideoPrefetch], None],
    cancel: CancelToken,
) -> None:
    with store.queue.batch(cancel), store.use(spec.key, spec.task, cancel) as chat:
        estimate = chat.estimate(video, part, compress=compress)
        emit(VideoPrefetch(estimate=estimate))
        steps = chat.look(video, part, cancel)

    either = CancelToken(lambda: cancel.is_cancelled or spec.key not in store.loaded_keys())
    while estimate.fits:
        with store.queue.batch(either), store.use(spec.key, spec.task, either) as now:
            if now is not chat:  # dropped, and loaded again for somebody else
                return
            step = _next(steps)
            estimate = chat.estimate(video, part, compress=compress)
        emit(VideoPrefetch(estimate=estimate, step=step, ready=step is None))
        if step is None:
            return


def _next(steps: Iterator[Any]) -> Step | None:
    step: Step | None = next(steps, None)
    return step
