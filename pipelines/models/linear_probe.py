"""Linear probes, and their file format: safetensors, with a description as JSON in the header."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from pipelines.core.errors import InputError
from pipelines.core.spec import ModelSpec, Task
from pipelines.models.catalogue import find

TASK: Task = "image-text"

#: Key of the description in the header of a file, and the version of its format.
KEY = "seesay-linear-probe"
VERSION = 1

#: Most bytes of a file: a thousand classes of vectors of 4096 numbers, and their names.
MAX_BYTES = 20_000_000
MAX_CLASSES = 1000

#: Name of a class: up to 1000 characters, not all of them blank.
_Name = Annotated[str, Field(max_length=1000, pattern=r"\S")]

_OTHER = "Probe of another model"
_DAMAGED = "but what it says about itself is incomplete or damaged"


@pydantic.dataclasses.dataclass(
    frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid")
)
class ProbeFacts:
    """Facts of the training of a probe, and its score on images that it never saw.

    Attributes:
        num_fitted: images that it was fitted on.
        num_held_out: images that it was measured on, never fitted on.
        correct: number of those that it recognised.
        strength: scikit-learn's `C`, chosen by cross-validation.
        seed: of the split and of the folds.
    """

    num_fitted: NonNegativeInt
    num_held_out: NonNegativeInt
    correct: NonNegativeInt
    strength: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.correct > self.num_held_out:
            raise ValueError("more images are recognised than were held out")
        return self


class _Header(pydantic.BaseModel, strict=True):
    """Description of a probe in its file."""

    version: Literal[1]
    model: str
    revision: str
    labels: list[_Name]
    facts: ProbeFacts


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """Linear classifier over the unit vectors of images by one model.

    Attributes:
        model: catalogue key of the model.
        revision: of the model's weights; see `weights_revision`.
        labels: L classes, distinct.
        weight: (L, D) float32.
        bias: (L,) float32.
        facts: facts of its training.
    """

    model: str
    revision: str
    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    facts: ProbeFacts

    @property
    def dim(self) -> int:
        """Length D of the vectors that it takes."""
        return int(self.weight.shape[1])

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (N, L) probabilities, rows summing to 1, of (N, D) unit vectors."""
        linear = Linear(self.weight.astype(np.float64), self.bias.astype(np.float64))
        return np.exp(linear.log_probabilities(vectors.astype(np.float64)))

    def to_bytes(self) -> bytes:
        """Return the file."""
        from safetensors.numpy import save

        header = {
            "version": VERSION,
            "model": self.model,
            "revision": self.revision,
            "labels": self.labels,
            "facts": asdict(self.facts),
        }
        metadata = {KEY: json.dumps(header, ensure_ascii=False)}
        # safetensors writes memory in its order, and scikit-learn's is column by column
        arrays = {"weight": self.weight, "bias": self.bias}
        rows = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        data: bytes = save(rows, metadata=metadata)
        return data


def read_probe(path: Path) -> LinearProbe:
    """Read a probe as `LinearProbe.to_bytes` writes it.

    Raises:
        InputError: the file is anything else; the message says why.
    """
    from safetensors import SafetensorError, safe_open

    if (size := path.stat().st_size) > MAX_BYTES:
        raise _not_a_probe(
            f"of at most {MAX_BYTES / 1e6:.0f} MB, but the file has {size / 1e6:,.0f} MB"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise _not_a_probe("but this safetensors file is something else")
            if set(file.keys()) != {"weight", "bias"}:
                raise _not_a_probe("with the tensors weight and bias, but it holds others")
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
    except (SafetensorError, OSError, TypeError, AttributeError) as error:
        raise _not_a_probe("but the file is no safetensors file, or is damaged or cut off") from (
            error
        )
    return _checked(metadata[KEY], weight, bias)


def _checked(text: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> LinearProbe:
    try:
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        raise _not_a_probe(_fault(error)) from error
    labels = header.labels
    if not 2 <= len(labels) <= MAX_CLASSES or len(set(labels)) != len(labels):
        raise _not_a_probe(
            f"of 2 to {MAX_CLASSES:,} distinct classes, but it has {len(labels):,} names"
        )
    if weight.dtype != np.float32 or bias.dtype != np.float32 or weight.size == 0:
        raise _not_a_probe(f"of float32 numbers, but it holds {weight.dtype} and {bias.dtype}")
    if (weight.ndim, weight.shape[:1], bias.shape) != (2, (len(labels),), (len(labels),)):
        raise _not_a_probe(
            f"with a row of weights for each of its {len(labels):,} classes, but the weights are "
            f"{weight.shape} and the biases {bias.shape}"
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise _not_a_probe("but some of its weights are no finite numbers; train it again")
    return LinearProbe(
        model=header.model,
        revision=header.revision,
        labels=tuple(labels),
        weight=weight,
        bias=bias,
        facts=header.facts,
    )


def _fault(error: ValidationError) -> str:
    """Return what is wrong with the description in a file, from the first of its faults."""
    first = error.errors()[0]
    where = first["loc"][:1]
    if where == ("version",) and first["type"] != "missing":
        return (
            f"of version {VERSION}, but it is of version {str(first['input'])[:20]}; train it "
            "again with this SeeSay"
        )
    if where == ("labels",) and first["type"] != "missing":
        return "but its classes are not a list of names"
    return _DAMAGED


def _not_a_probe(what: str) -> InputError:
    return InputError(
        "Expected a probe that the Evaluate tab or the endpoint train_probe made (.safetensors), "
        f"{what}.",
        title="Not a probe",
    )


def spec_of(probe: LinearProbe) -> ModelSpec:
    """Return the model that a probe was made with.

    Raises:
        InputError: it is not in the catalogue.
    """
    try:
        return find(probe.model, TASK)
    except InputError as error:
        raise InputError(
            f"This probe was made with the model {probe.model[:60]!r}, which is not among those "
            "here. Train a probe with one of these.",
            title=_OTHER,
        ) from error


def check_model(probe: LinearProbe, model: str, revision: str, dim: int) -> None:
    """Check that a probe was made with the weights in use.

    Args:
        probe: the probe.
        model: key of the model in use.
        revision: of its weights.
        dim: length of its vectors.

    Raises:
        InputError: it was made with others; the message names both models.
    """
    if probe.model != model:
        raise InputError(
            f"This probe was made with {probe.model[:60]}, but the model in use is {model}. Choose "
            "the model that the probe was made with, or train a probe with this one.",
            title=_OTHER,
        )
    if (probe.revision, probe.dim) != (revision, dim):
        raise InputError(
            f"This probe was made with other weights of {model} ({probe.revision[:12]!r}, "
            f"{probe.dim} numbers) than those in use ({revision[:12]!r}, {dim} numbers). "
            "Train it again.",
            title=_OTHER,
        )


def probe_note(probe: LinearProbe) -> str:
    """Return the note on an answer whose probabilities are a probe's."""
    facts = probe.facts
    return (
        f"The probabilities come from your probe, fitted on {facts.num_fitted:,} pictures of "
        f"{len(probe.labels):,} classes; it recognised {facts.correct:,} of {facts.num_held_out:,} "
        "others. Cosine and verdict compare the picture with the names of the classes."
    )


#: Classes kept of a prediction, for the accuracy among the best five.
NUM_GUESSES = 5


@dataclass(frozen=True)
class Guess:
    """The likeliest classes of an image.

    Attributes:
        classes: indices of up to `NUM_GUESSES` classes, the likeliest first.
        probabilities: of these classes, 0..1.

    Raises:
        ValueError: there is no class, or not one probability for each.
    """

    classes: tuple[int, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the numbers of both."""
        if not self.classes or len(self.classes) != len(self.probabilities):
            raise ValueError(f"a guess needs as many probabilities as classes, but got {self}")


Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """Linear classifier: weights (L, D) and biases (L,) of L classes, float64."""

    weight: Floats
    bias: Floats

    def log_probabilities(self, vectors: Floats) -> Floats:
        """Return (N, L) log probabilities of (N, D) vectors."""
        return _log_softmax(vectors @ self.weight.T + self.bias)


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalised: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised
