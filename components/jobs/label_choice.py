"""Classification by labels or by a probe, for the Classify tab and its endpoint."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from components.server.uploads import Uploads
from components.widgets.model_lease import lease
from pipelines.core.results import Classification
from pipelines.core.spec import ModelSpec
from pipelines.core.text import split_labels
from pipelines.models.linear_probe import LinearProbe, read_probe, spec_of
from pipelines.serving.store import PipelineStore

Sign = TypeVar("Sign")


@dataclass(frozen=True)
class Choice:
    """Classes to choose among."""

    labels: list[str]  # distinct
    repeated: list[str]  # labels that were given more than once
    probe: LinearProbe | None = None  # the visitor's own
    notes: tuple[str, ...] = ()  # sentences on the choice

    @property
    def model(self) -> str:
        """Key of the model that the probe was made with, "" without one.

        Raises:
            InputError: it is not among the models here.
        """
        return spec_of(self.probe).key if self.probe else ""


def choose(uploads: Uploads, labels: str, probe: Any) -> Choice:
    """Return the classes that a request names, in words or by the file of a probe.

    Raises:
        InputError: no labels and no probe, or a file that is no probe.
    """
    if not probe:
        return Choice(*split_labels(labels))
    found = read_probe(uploads.path(probe, "probe"))
    unused = "Your labels were not used: a probe knows the classes that it was taught."
    notes = (unused,) if str(labels or "").strip() else ()
    return Choice(list(found.labels), [], found, notes)


def classify(
    store: PipelineStore,
    model: ModelSpec | str,
    image: Path,
    choice: Choice,
    templates: str,
    sign: Sign,
    progress: gr.Progress | None = None,
) -> Generator[Sign, None, Classification]:
    """Classify an image; yields `sign` a few times a second, returns the answer."""
    with lease(store, model, "image-text") as held:
        yield from held.wait(
            sign, lambda clip: clip.prepare(choice.labels, templates=templates), progress
        )
        clip = held.pipeline
        if choice.probe is None:
            answer: Classification = clip.classify(image, choice.labels, templates=templates)
        else:
            answer = clip.classify_by_probe(image, choice.probe, templates=templates)
    return replace(answer, notes=(*choice.notes, *answer.notes))
