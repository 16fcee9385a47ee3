"""Encoding of a video while its visitor still types."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.compute.background import stream_work
from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import PipelineError
from pipelines.core.results import Step
from pipelines.core.spec import ModelSpec
from pipelines.models.video_chat import Estimate, Part
from pipelines.serving.store import PipelineStore


@dataclass(frozen=True, kw_only=True)
class VideoPrefetch:
    """Progress of the encoding.

    Attributes:
        estimate: cost of a question now; None where there is a problem.
        step: part of the video that is encoded; None before the first clip, and once all is.
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

    One clip at a time is encoded, each while no request runs or waits, and only as long as the
    model, whose weights must be on disk, is not unloaded. Nothing is encoded where a question would
    not fit.

    Yields:
        The progress, or the problem; None as a heartbeat.
    """

    def work(emit: Callable[[VideoPrefetch], None], cancel: CancelToken) -> None:
        try:
            with suppress(Cancelled):
                _work(store, spec, video, part, compress, emit, cancel)
        except PipelineError as error:  # only a question raises it
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
            if now is not chat:  # unloaded, and loaded again by another request
                return
            step: Step | None = next(steps, None)
            estimate = chat.estimate(video, part, compress=compress)
        emit(VideoPrefetch(estimate=estimate, step=step, ready=step is None))
        if step is None:
            return
