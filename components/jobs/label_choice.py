"""A probe of one's own in the place of labels, in the Classify tab and its endpoint."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.server.uploads import Uploads
from pipelines.core.results import Classification
from pipelines.core.text import split_labels
from pipelines.models.linear_probe import LinearProbe, read_probe, spec_of


@dataclass(frozen=True)
class Choice:
    """What a picture is to be classified as.

    Attributes:
        labels: distinct.
        repeated: labels that were given more than once.
        probe: the visitor's own, or None.
        notes: what a person should know about the choice.
    """

    labels: list[str]
    repeated: list[str]
    probe: LinearProbe | None = None
    notes: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """Key of the model that the probe was made with, "" without one.

        Raises:
            InputError: it is not among the models here.
        """
        return spec_of(self.probe).key if self.probe else ""

    def classify(self, clip: Any, image: Path, templates: str) -> Classification:
        """Classify an image with a pipeline; see `ClipPipeline.classify`."""
        if self.probe is not None:
            by_probe: Classification = clip.classify_by_probe(
                image, self.probe, templates=templates
            )
            return replace(by_probe, notes=(*self.notes, *by_probe.notes))
        answer: Classification = clip.classify(image, self.labels, templates=templates)
        return answer


def choose(uploads: Uploads, labels: str, probe: Any) -> Choice:
    """Return what is asked for.

    Args:
        uploads: guards the file.
        labels: as they were typed; they may be empty where there is a probe.
        probe: the file of a probe as Gradio hands it over, or None.

    Raises:
        InputError: no labels and no probe, or a file that is no probe.
    """
    if not probe:
        return Choice(*split_labels(labels))
    found = read_probe(uploads.path(probe, "probe"))
    unused = (
        ("Your labels were not used: a probe knows the classes that it was taught.",)
        if str(labels or "").strip()
        else ()
    )
    return Choice(list(found.labels), [], found, unused)
