"""Linear probes and their file format: safetensors with a JSON description in the header."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from pipelines.core.errors import InputError
from pipelines.core.messages import Message
from pipelines.core.spec import ModelSpec, Task
from pipelines.models.catalogue import find

TASK: Task = "image-text"

#: Key of the description in the header of a file, and the version of its format.
KEY = "seesay-linear-probe"
VERSION = 1

#: Largest file: a thousand classes, vectors of 4096 numbers, and the names.
MAX_BYTES = 20_000_000
MAX_CLASSES = 1000

#: Name of a class: up to 1000 characters, not all blank.
_Name = Annotated[str, Field(max_length=1000, pattern=r"\S")]

_OTHER = "Probe of another model"
_DAMAGED = "but what it says about itself is incomplete or damaged"


@pydantic.dataclasses.dataclass(
    frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid")
)
class ProbeFacts:
    """Training of a probe and its score on held-out images.

    `num_fitted` images were fitted, `correct` of `num_held_out` others recognised. `strength` is
    scikit-learn's `C`, chosen by cross-validation; `seed` is that of the split and the folds.
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
    version: Literal[1]
    model: str
    revision: str
    labels: list[_Name]
    facts: ProbeFacts


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """Linear classifier over the unit vectors of images by one model.

    `model` is a catalogue key, `revision` that of its weights; see `weights_revision`. `weight` is
    (L, D) and `bias` (L,), both float32, for L distinct labels.
    """

    model: str
    revision: str
    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    facts: ProbeFacts

    @property
    def dim(self) -> int:
        """Length D of its input vectors."""
        return int(self.weight.shape[1])

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (N, L) probabilities, rows summing to 1, of (N, D) unit vectors."""
        linear = Linear(self.weight.astype(np.float64), self.bias.astype(np.float64))
        return np.exp(linear.log_probabilities(vectors.astype(np.float64)))

    def to_bytes(self) -> bytes:
        """Return the content of its file."""
        from safetensors.numpy import save

        header = {
            "version": VERSION,
            "model": self.model,
            "revision": self.revision,
            "labels": self.labels,
            "facts": asdict(self.facts),
        }
        # safetensors needs row-major arrays; those of scikit-learn are column-major
        rows = {
            "weight": np.ascontiguousarray(self.weight),
            "bias": np.ascontiguousarray(self.bias),
        }
        data: bytes = save(rows, metadata={KEY: json.dumps(header, ensure_ascii=False)})
        return data


def read_probe(path: Path) -> LinearProbe:
    """Read a file written by `LinearProbe.to_bytes`.

    Raises:
        InputError: the file is anything else; the message says why.
    """
    from safetensors import SafetensorError, safe_open

    if (size := path.stat().st_size) > MAX_BYTES:
        raise _not_a_probe(
            "of at most {limit:.0f} MB, but the file has {size:,.0f} MB",
            limit=MAX_BYTES / 1e6,
            size=size / 1e6,
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
        fault = "but the file is no safetensors file, or is damaged or cut off"
        raise _not_a_probe(fault) from error
    return _checked(metadata[KEY], weight, bias)


def _checked(text: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> LinearProbe:
    try:
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        raise _not_a_probe(_fault(error)) from error
    labels = header.labels
    if not 2 <= len(labels) <= MAX_CLASSES or len(set(labels)) != len(labels):
        raise _not_a_probe(
            "of 2 to {limit:,} distinct classes, but it has {count:,} names",
            limit=MAX_CLASSES,
            count=len(labels),
        )
    if weight.dtype != np.float32 or bias.dtype != np.float32 or weight.size == 0:
        raise _not_a_probe(
            "of float32 numbers, but it holds {weight} and {bias}",
            weight=weight.dtype,
            bias=bias.dtype,
        )
    if (weight.ndim, weight.shape[:1], bias.shape) != (2, (len(labels),), (len(labels),)):
        raise _not_a_probe(
            "with a row of weights for each of its {classes:,} classes, but the weights "
            "are {weight} and the biases {bias}",
            classes=len(labels),
            weight=weight.shape,
            bias=bias.shape,
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
    """Return the first fault of the description in a file."""
    first = error.errors()[0]
    where = first["loc"][:1]
    if where == ("version",) and first["type"] != "missing":
        return Message(
            "of version {limit}, but it is of version {version}; train it again with this SeeSay",
            limit=VERSION,
            version=str(first["input"])[:20],
        )
    if where == ("labels",) and first["type"] != "missing":
        return "but its classes are not a list of names"
    return _DAMAGED


def _not_a_probe(what: str, **values: object) -> InputError:
    return InputError(
        "Expected a probe that the Evaluate tab or the endpoint train_probe made "
        "(.safetensors), {what}.",
        what=Message(what, **values),
        title="Not a probe",
    )


def spec_of(probe: LinearProbe) -> ModelSpec:
    """Return the model that a probe was trained with.

    Raises:
        InputError: it is not in the catalogue.
    """
    try:
        return find(probe.model, TASK)
    except InputError as error:
        raise InputError(
            "This probe was made with the model {model!r}, which is not among those here. "
            "Train a probe with one of these.",
            model=probe.model[:60],
            title=_OTHER,
        ) from error


def check_model(probe: LinearProbe, model: str, revision: str, dim: int) -> None:
    """Check that a probe was trained with the weights in use: their model, revision and dimension.

    Raises:
        InputError: it was trained with others; the message names both models.
    """
    if probe.model != model:
        raise InputError(
            "This probe was made with {made_with}, but the model in use is {model}. Choose "
            "the model that the probe was made with, or train a probe with this one.",
            made_with=probe.model[:60],
            model=model,
            title=_OTHER,
        )
    if (probe.revision, probe.dim) != (revision, dim):
        raise InputError(
            "This probe was made with other weights of {model} ({made_with!r}, {made_dim} "
            "numbers) than those in use ({revision!r}, {dim} numbers). Train it again.",
            model=model,
            made_with=probe.revision[:12],
            made_dim=probe.dim,
            revision=revision[:12],
            dim=dim,
            title=_OTHER,
        )


def probe_note(probe: LinearProbe) -> str:
    """Return the note on an answer with a probe's probabilities."""
    facts = probe.facts
    return Message(
        "The probabilities come from your probe, fitted on {pictures:,} pictures of "
        "{classes:,} classes; it recognised {correct:,} of {total:,} others. Cosine and "
        "verdict compare the picture with the names of the classes.",
        pictures=facts.num_fitted,
        classes=len(probe.labels),
        correct=facts.correct,
        total=facts.num_held_out,
    )


#: Classes of a prediction, for top-5 accuracy.
NUM_GUESSES = 5


@dataclass(frozen=True)
class Guess:
    """Indices and probabilities of 1 to `NUM_GUESSES` classes of an image, most likely first."""

    classes: tuple[int, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.classes or len(self.classes) != len(self.probabilities):
            raise ValueError(f"a guess needs as many probabilities as classes, but got {self}")


Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """Linear classifier with weights (L, D) and biases (L,), float64."""

    weight: Floats
    bias: Floats

    def log_probabilities(self, vectors: Floats) -> Floats:
        """Return (N, L) log probabilities of (N, D) vectors."""
        logits = vectors @ self.weight.T + self.bias
        shifted = logits - logits.max(axis=1, keepdims=True)
        normalised: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return normalised
