"""Evaluation from a zip to its result, in short turns at the device."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.compute.background import stream_work
from pipelines.core.cancel import CancelToken
from pipelines.core.messages import Message
from pipelines.core.spec import ModelSpec, Task
from pipelines.evaluation.dataset import LabelledImage, LabelledImages, check_classes, open_labelled
from pipelines.evaluation.embedding import Embedded, embed_all
from pipelines.evaluation.results import Measured, Prediction, measure
from pipelines.evaluation.train_probe import (
    ProbeOptions,
    TrainedProbe,
    check_enough,
    guesses_of,
    train_probe,
)
from pipelines.media.thumbnails import input_thumbnail
from pipelines.models.linear_probe import Guess, LinearProbe, ProbeFacts
from pipelines.serving.store import PipelineStore

#: Most mistakes that are shown, and the longest side of the copies in pixels.
MOST_SHOWN = 12
_SIDE_PX = 200


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction, with a small JPEG of the image."""

    prediction: Prediction
    jpeg: bytes


def show_mistakes(
    pictures: Sequence[LabelledImage], found: Measured, max_pixels: int
) -> Iterator[Mistake]:
    """Yield the surest mistakes; the archive of the images must be open."""
    by_name = {picture.item.name: picture for picture in pictures}
    for one in found.mistakes[:MOST_SHOWN]:
        item = by_name[one.file].item
        yield Mistake(one, input_thumbnail(item, _SIDE_PX, max_pixels=max_pixels))


TASK: Task = "image-text"


@dataclass(frozen=True)
class EvaluationRequest:
    """Request of an evaluation.

    Attributes:
        path: a zip of folders named after classes.
        templates: wording of the labels, as for `resolve_templates`.
        probe: options of a probe; None for the zero-shot accuracy alone.
        pictures: whether small copies of mistaken images are made.
    """

    path: Path
    spec: ModelSpec
    templates: str = ""
    probe: ProbeOptions | None = None
    pictures: bool = False


@dataclass(frozen=True)
class Stage:
    """Progress of an evaluation: a text for people, and finished units; `total` is 0 if unknown."""

    text: str
    done: int = 0
    total: int = 0
    unit: str = "steps"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        num_pictures: images that counted.
        num_fitted: of those, the images that the probe was fitted on; 0 without a probe.
        zero_shot: accuracy by the names of the classes: on all images or, with a probe, on those
            held out.
        by_probe: accuracy of the probe on those held out; None without a probe.
        left_out: (file, reason) of files that did not count.
        notes: one sentence each.
        mistakes: the first mistakes, of the probe if there is one.
    """

    model: str
    num_pictures: int
    num_fitted: int
    zero_shot: Measured
    by_probe: Measured | None
    probe: LinearProbe | None
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    mistakes: tuple[Mistake, ...] = ()

    @property
    def measured(self) -> Measured:
        """The probe's accuracy if there is one, else the zero-shot accuracy."""
        return self.by_probe or self.zero_shot


@dataclass(frozen=True)
class EvaluationJob:
    """One evaluation; `run` is for a thread (`pipelines.compute.background.stream_work`).

    `emit` receives the progress; `cancel` makes `run` raise `Cancelled`.
    """

    store: PipelineStore
    request: EvaluationRequest
    emit: Callable[[Stage], None]
    cancel: CancelToken

    def run(self) -> Evaluation:
        """Evaluate the archive.

        Raises:
            Cancelled: `cancel` is cancelled.
            PipelineError: the zip cannot be used, or the model is not available.
        """
        self.emit(Stage("Waiting for others' batches"))
        with self.store.queue.run_slot(self.cancel), open_labelled(self.request.path) as archive:
            self._fetch()
            embedded = self._embed(archive)
            labels = sorted({picture.label for picture in embedded.pictures}, key=str.casefold)
            check_classes(labels)
            position = {label: index for index, label in enumerate(labels)}
            classes = np.array([position[p.label] for p in embedded.pictures], dtype=np.int64)
            if self.request.probe is not None:
                check_enough(tuple(labels), classes)
            unreadable = {picture.label for picture in archive.pictures} - set(labels)
            return self._measure(
                embedded, tuple(labels), classes, sorted(unreadable, key=str.casefold)
            )

    def _measure(
        self,
        embedded: Embedded,
        labels: tuple[str, ...],
        classes: NDArray[np.int64],
        unreadable: list[str],
    ) -> Evaluation:
        guesses, notes = self._guess(embedded.vectors, labels)
        trained = self._train(embedded.vectors, classes)
        files = [picture.item.name for picture in embedded.pictures]
        chosen = list(range(len(files)))
        probe = by_probe = None

        def measured(found: list[Guess]) -> Measured:
            true = [int(classes[index]) for index in chosen]
            return measure(labels, [files[index] for index in chosen], true, found)

        if trained is not None:
            chosen = np.flatnonzero(trained.unseen).tolist()
            shares = np.exp(
                trained.linear.log_probabilities(embedded.vectors[chosen].astype(np.float64))
            )
            by_probe = measured(guesses_of(shares))
            probe = self._probe(trained, labels, by_probe)
        zero_shot = measured([guesses[index] for index in chosen])
        return Evaluation(
            model=self.request.spec.key,
            num_pictures=len(files),
            num_fitted=len(files) - len(chosen),
            zero_shot=zero_shot,
            by_probe=by_probe,
            probe=probe,
            left_out=embedded.left_out,
            notes=(*_unreadable_notes(unreadable), *notes),
            mistakes=tuple(self._mistakes(embedded.pictures, by_probe or zero_shot)),
        )

    def _fetch(self) -> None:
        for stage in self.store.fetch_stages(self.request.spec, self.cancel):
            self.emit(Stage(stage))
        self.emit(Stage("Loading the model"))

    def _embed(self, archive: LabelledImages) -> Embedded:
        total = len(archive.pictures)

        def encode(files: list[tuple[str, bytes]]) -> Any:
            with self._leased() as clip:
                return clip.embed_contents(files)

        def report(done: int) -> None:
            self.emit(Stage("Looking at the pictures", done, total, "pictures"))

        return embed_all(archive, encode, report, self.cancel.check)

    def _leased(self) -> AbstractContextManager[Any]:
        return self.store.use_for_batch(self.request.spec, self.cancel)

    def _guess(
        self, vectors: NDArray[np.float32], labels: tuple[str, ...]
    ) -> tuple[list[Guess], list[str]]:
        """Return the zero-shot guesses; the texts are encoded in steps, as for `classify`."""
        templates = self.request.templates
        self.emit(Stage("Reading the names of the classes"))
        with self._leased() as clip:
            for _ in clip.prepare(labels, templates=templates):
                self.cancel.check()
            guesses, notes = clip.guess(vectors, labels, templates=templates)
        return guesses, notes

    def _train(
        self, vectors: NDArray[np.float32], classes: NDArray[np.int64]
    ) -> TrainedProbe | None:
        if self.request.probe is None:
            return None
        steps = train_probe(
            vectors,
            classes,
            self.request.probe,
            lambda: self.store.queue.batch(self.cancel),
            self.cancel.check,
        )
        for step in steps:
            if isinstance(step, TrainedProbe):
                return step
            self.emit(Stage("Fitting the probe", *step, "fits"))
        raise AssertionError("the training ends with a result")

    def _probe(
        self, trained: TrainedProbe, labels: tuple[str, ...], found: Measured
    ) -> LinearProbe:
        spec = self.request.spec
        assert self.request.probe is not None
        return LinearProbe(
            model=spec.key,
            revision=self.store.revision(spec),
            labels=labels,
            weight=trained.linear.weight.astype(np.float32),
            bias=trained.linear.bias.astype(np.float32),
            facts=ProbeFacts(
                num_fitted=int((~trained.unseen).sum()),
                num_held_out=found.top1.total,
                correct=found.top1.correct,
                strength=trained.strength,
                seed=self.request.probe.seed,
            ),
        )

    def _mistakes(self, pictures: Sequence[LabelledImage], found: Measured) -> Iterator[Mistake]:
        if self.request.pictures:
            max_pixels = int(self.store.settings.max_pixels_mp * 1e6)
            for mistake in show_mistakes(pictures, found, max_pixels):
                self.cancel.check()
                yield mistake


def _unreadable_notes(labels: list[str]) -> list[str]:
    if not labels:
        return []
    named = ", ".join(f"“{label[:40]}”" for label in labels[:3])
    more = Message(" and {count} more", count=len(labels) - 3) if len(labels) > 3 else ""
    return [
        Message(
            "No picture of these classes could be read, so they do not count: {names}{more}.",
            names=named,
            more=more,
        )
    ]


def follow(store: PipelineStore, request: EvaluationRequest) -> Iterator[Stage | Evaluation | None]:
    """Do an evaluation; closing the iterator ends it.

    Yields:
        The progress, None several times a second as a heartbeat, and the result at last.

    Raises:
        PipelineError: the zip cannot be used, or the model is not available.
    """

    def work(emit: Callable[[Stage | Evaluation], None], cancel: CancelToken) -> None:
        emit(EvaluationJob(store, request, emit, cancel).run())

    with closing(stream_work(work)) as steps:
        yield from steps
