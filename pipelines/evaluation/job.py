"""An evaluation from a zip to its result; visitors come in between, batch by batch."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.compute.background import stream_work
from pipelines.core.cancel import CancelToken
from pipelines.core.errors import PipelineError
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
    teach,
)
from pipelines.media.images import decode_image
from pipelines.models.linear_probe import Guess, LinearProbe, ProbeFacts
from pipelines.serving.store import PipelineStore
from pipelines.weights.files import weights_revision

#: Mistakes that are shown, and the longest side of the copies in pixels.
MOST_SHOWN = 12
_SIDE_PX = 200


@dataclass(frozen=True)
class Mistake:
    """A picture that was taken for another class; `jpeg` is a small copy of it, a whole file."""

    prediction: Prediction
    jpeg: bytes


def show_mistakes(
    pictures: Sequence[LabelledImage], found: Measured, max_pixels: int
) -> Iterator[Mistake]:
    """Yield the surest mistakes, one by one.

    Args:
        pictures: of an archive that is open.
        found: what they were taken for.
        max_pixels: most pixels of one picture.
    """
    by_name = {picture.item.name: picture for picture in pictures}
    for one in found.mistakes[:MOST_SHOWN]:
        yield Mistake(one, _small(by_name[one.file], max_pixels))


def _small(picture: LabelledImage, max_pixels: int) -> bytes:
    item = picture.item
    try:
        image = decode_image(
            item.source.read(), item.name, max_pixels=max_pixels, draft_px=_SIDE_PX
        )
    except PipelineError:
        return b""  # it was there a moment ago; what it was taken for stands all the same
    image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


TASK: Task = "image-text"


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be evaluated.

    Attributes:
        path: a zip of folders named after classes.
        spec: the model.
        templates: wording of the labels, as `resolve_templates` takes it.
        probe: how to make a probe; None for the zero-shot accuracy alone.
        pictures: whether small copies of mistaken pictures are made.
    """

    path: Path
    spec: ModelSpec
    templates: str = ""
    probe: ProbeOptions | None = None
    pictures: bool = False


@dataclass(frozen=True)
class Stage:
    """How far an evaluation is.

    Attributes:
        text: what it is doing, for people.
        done: of `total`.
        total: how many there are; 0 where that is not known.
        unit: what is counted, in the plural.
    """

    text: str
    done: int = 0
    total: int = 0
    unit: str = "steps"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found.

    Attributes:
        model: key of the model.
        num_pictures: pictures that counted.
        num_fitted: of those, how many the probe was fitted on; 0 without a probe.
        zero_shot: accuracy by the names of the classes: on all pictures, or, with a probe, on
            those held out.
        by_probe: accuracy of the probe on those held out; None without a probe.
        probe: the probe; None without.
        left_out: (file, reason) of what did not count.
        notes: what a person should know, one sentence each.
        mistakes: the first mistakes, of the probe where there is one.
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
        """What the result is about: the probe's accuracy where there is one."""
        return self.by_probe or self.zero_shot


class EvaluationJob:
    """Does one order; `run` is for a thread (`pipelines.compute.background.stream_work`)."""

    def __init__(
        self,
        store: PipelineStore,
        order: EvaluationRequest,
        emit: Callable[[Stage], None],
        cancel: CancelToken,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            store: lends the model.
            order: what is wanted.
            emit: told how far it is.
            cancel: makes `run` raise `Cancelled`.
        """
        self._store = store
        self._order = order
        self._emit = emit
        self._cancel = cancel

    def run(self) -> Evaluation:
        """Do it.

        Raises:
            Cancelled: `cancel` is cancelled.
            PipelineError: the zip cannot be used, or the model is not to be had.
        """
        self._emit(Stage("Waiting for others' batches"))
        with self._store.queue.place(self._cancel), open_labelled(self._order.path) as archive:
            self._fetch()
            embedded = self._embed(archive)
            labels = sorted({picture.label for picture in embedded.pictures}, key=str.casefold)
            check_classes(labels)
            position = {label: index for index, label in enumerate(labels)}
            classes = np.array([position[p.label] for p in embedded.pictures], dtype=np.int64)
            if self._order.probe is not None:
                check_enough(tuple(labels), classes)
            gone = {picture.label for picture in archive.pictures} - set(labels)
            return self._measure(embedded, tuple(labels), classes, sorted(gone, key=str.casefold))

    def _measure(
        self,
        embedded: Embedded,
        labels: tuple[str, ...],
        classes: NDArray[np.int64],
        gone: list[str],
    ) -> Evaluation:
        guesses, notes = self._guess(embedded.vectors, labels)
        taught = self._teach(embedded.vectors, classes)
        files = [picture.item.name for picture in embedded.pictures]
        chosen = list(range(len(files)))
        probe = by_probe = None
        if taught is not None:
            chosen = np.flatnonzero(taught.unseen).tolist()
            shares = np.exp(
                taught.linear.log_probabilities(embedded.vectors[chosen].astype(np.float64))
            )
            by_probe = _measured(labels, files, classes, chosen, guesses_of(shares))
            probe = self._probe(taught, labels, by_probe)
        zero_shot = _measured(labels, files, classes, chosen, [guesses[i] for i in chosen])
        return Evaluation(
            model=self._order.spec.key,
            num_pictures=len(files),
            num_fitted=len(files) - len(chosen),
            zero_shot=zero_shot,
            by_probe=by_probe,
            probe=probe,
            left_out=embedded.left_out,
            notes=(*_gone_notes(gone), *notes),
            mistakes=tuple(self._mistakes(embedded.pictures, by_probe or zero_shot)),
        )

    def _fetch(self) -> None:
        """Download the weights where they are not on disk."""
        for step in self._store.fetch(self._order.spec.key, TASK):
            self._emit(Stage(step.message(self._order.spec.title)))
            self._check()
        self._emit(Stage("Loading the model"))

    def _embed(self, archive: LabelledImages) -> Embedded:
        total = len(archive.pictures)

        def encode(
            files: list[tuple[str, bytes]],
        ) -> tuple[NDArray[np.float32], dict[int, str]]:
            with self._lent() as clip:
                found: tuple[NDArray[np.float32], dict[int, str]] = clip.embed_contents(files)
            return found

        def tell(done: int) -> None:
            self._emit(Stage("Looking at the pictures", done, total, "pictures"))

        return embed_all(archive, encode, tell, self._check)

    @contextmanager
    def _lent(self) -> Iterator[Any]:
        """Lend the model for a batch, when it is this batch's turn."""
        with (
            self._store.queue.batch(self._cancel),
            self._store.use(self._order.spec.key, TASK, self._cancel, inf) as clip,
        ):
            yield clip

    def _guess(
        self, vectors: NDArray[np.float32], labels: tuple[str, ...]
    ) -> tuple[list[Guess], list[str]]:
        """Return the zero-shot guesses; the texts are encoded in steps, as for `classify`."""
        templates = self._order.templates
        self._emit(Stage("Reading the names of the classes"))
        with self._lent() as clip:
            for _ in clip.prepare(labels, templates=templates):
                self._check()
            guesses, notes = clip.guess(vectors, labels, templates=templates)
        return guesses, notes

    def _teach(
        self, vectors: NDArray[np.float32], classes: NDArray[np.int64]
    ) -> TrainedProbe | None:
        if self._order.probe is None:
            return None
        steps = teach(
            vectors,
            classes,
            self._order.probe,
            lambda: self._store.queue.batch(self._cancel),
            self._check,
        )
        for step in steps:
            if isinstance(step, TrainedProbe):
                return step
            self._emit(Stage("Fitting the probe", *step, "fits"))
        raise AssertionError("teaching ends with a result")

    def _probe(self, taught: TrainedProbe, labels: tuple[str, ...], found: Measured) -> LinearProbe:
        spec = self._order.spec
        assert self._order.probe is not None
        return LinearProbe(
            model=spec.key,
            revision=weights_revision(spec, self._store.sources.locate(spec)),
            labels=labels,
            weight=taught.linear.weight.astype(np.float32),
            bias=taught.linear.bias.astype(np.float32),
            facts=ProbeFacts(
                num_fitted=int((~taught.unseen).sum()),
                num_held_out=found.top1.total,
                correct=found.top1.correct,
                strength=taught.strength,
                seed=self._order.probe.seed,
            ),
        )

    def _mistakes(self, pictures: Sequence[LabelledImage], found: Measured) -> Iterator[Mistake]:
        if self._order.pictures:
            max_pixels = int(self._store.settings.max_pixels_mp * 1e6)
            for mistake in show_mistakes(pictures, found, max_pixels):
                self._check()
                yield mistake

    def _check(self) -> None:
        self._cancel.check()


def _measured(
    labels: tuple[str, ...],
    files: list[str],
    classes: NDArray[np.int64],
    chosen: list[int],
    guesses: list[Guess],
) -> Measured:
    true = [int(classes[index]) for index in chosen]
    return measure(labels, [files[index] for index in chosen], true, guesses)


def _gone_notes(labels: list[str]) -> list[str]:
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


def follow(store: PipelineStore, order: EvaluationRequest) -> Iterator[Stage | Evaluation | None]:
    """Do an evaluation; closing the iterator ends it.

    Yields:
        How far it is, None several times a second as a sign of life, and the result at last.

    Raises:
        PipelineError: the zip cannot be used, or the model is not to be had.
    """

    def work(emit: Callable[[Stage | Evaluation], None], cancel: CancelToken) -> None:
        emit(EvaluationJob(store, order, emit, cancel).run())

    with closing(stream_work(work)) as steps:
        yield from steps
