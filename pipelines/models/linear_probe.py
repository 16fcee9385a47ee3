"""A linear probe as a file: safetensors, with what it was made of as JSON in the header."""

import json
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.core.errors import InputError
from pipelines.core.spec import ModelSpec, Task
from pipelines.models.catalogue import find

TASK: Task = "image-text"

#: Where in the header a file says what it is, as JSON, and the version of that.
KEY = "seesay-linear-probe"
VERSION = 1

#: Most bytes of a file: a thousand classes of vectors of 4096 numbers, and their names.
MAX_BYTES = 20_000_000

#: Most letters of a class's name.
_MAX_NAME = 1000

_OTHER = "Probe of another model"
_DAMAGED = "but what it says about itself is incomplete or damaged"


@dataclass(frozen=True, kw_only=True)
class ProbeFacts:
    """How a probe was made, and how well it did on pictures that it never saw.

    Attributes:
        num_fitted: pictures that it was fitted on.
        num_held_out: pictures that it was measured on, never fitted on.
        correct: of those, how many it recognised.
        strength: scikit-learn's `C`, chosen by cross-validation.
        seed: of the split and of the folds.
    """

    num_fitted: int
    num_held_out: int
    correct: int
    strength: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """A linear classifier over the unit vectors that one model gives images.

    Attributes:
        model: catalogue key of the model.
        revision: of the model's weights; see `weights.weights_revision`.
        labels: L classes, distinct.
        weight: (L, D) float32.
        bias: (L,) float32.
        facts: how it was made.
    """

    model: str
    revision: str
    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    facts: ProbeFacts

    @property
    def dim(self) -> int:
        """Length of the vectors that it reads."""
        return int(self.weight.shape[1])

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (N, L), each row adding up to 1, for (N, D) unit vectors."""
        linear = Linear(self.weight.astype(np.float64), self.bias.astype(np.float64))
        return np.exp(linear.log_probabilities(vectors.astype(np.float64)))

    def to_bytes(self) -> bytes:
        """Return the file."""
        from safetensors.numpy import save

        told = {
            "version": VERSION,
            "model": self.model,
            "revision": self.revision,
            "labels": self.labels,
            "facts": asdict(self.facts),
        }
        metadata = {KEY: json.dumps(told, ensure_ascii=False)}
        # safetensors writes the memory as it lies, and scikit-learn's lies column by column
        arrays = {"weight": self.weight, "bias": self.bias}
        rows = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        data: bytes = save(rows, metadata=metadata)
        return data


def read_probe(path: Path) -> LinearProbe:
    """Read a probe; whatever is not exactly as `LinearProbe.to_bytes` writes it is refused.

    Raises:
        InputError: says what is wrong with it.
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


def _checked(header: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> LinearProbe:
    try:
        told = json.loads(header)
        if (version := told["version"]) != VERSION:
            raise _not_a_probe(
                f"of version {VERSION}, but it is of version {str(version)[:20]}; train it again "
                "with this SeeSay"
            )
        labels, made = told["labels"], ProbeFacts(**told["facts"])
        model, revision = told["model"], told["revision"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _not_a_probe(_DAMAGED) from error
    if not isinstance(model, str) or not isinstance(revision, str):
        raise _not_a_probe(_DAMAGED)
    if not isinstance(labels, list) or not all(_is_name(label) for label in labels):
        raise _not_a_probe("but its classes are not a list of names")
    if not 2 <= len(labels) <= MAX_CLASSES or len(set(labels)) != len(labels):
        raise _not_a_probe(
            f"of 2 to {MAX_CLASSES:,} distinct classes, but it has {len(labels):,} names"
        )
    numbers = (made.num_fitted, made.num_held_out, made.correct, made.seed)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise _not_a_probe(_DAMAGED)
    if not _is_strength(made.strength) or not 0 <= made.correct <= made.num_held_out:
        raise _not_a_probe(_DAMAGED)
    shapes = (weight.ndim, weight.shape[:1], bias.shape)
    if weight.dtype != np.float32 or bias.dtype != np.float32 or weight.size == 0:
        raise _not_a_probe(f"of float32 numbers, but it holds {weight.dtype} and {bias.dtype}")
    if shapes != (2, (len(labels),), (len(labels),)):
        raise _not_a_probe(
            f"with a row of weights for each of its {len(labels):,} classes, but the weights are "
            f"{weight.shape} and the biases {bias.shape}"
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise _not_a_probe("but some of its weights are no finite numbers; train it again")
    return LinearProbe(
        model=model, revision=revision, labels=tuple(labels), weight=weight, bias=bias, facts=made
    )


def _is_strength(value: object) -> bool:
    return isinstance(value, float) and 0 < value < inf


def _is_name(label: object) -> bool:
    return isinstance(label, str) and 0 < len(label) <= _MAX_NAME and bool(label.strip())


def _not_a_probe(what: str) -> InputError:
    return InputError(
        "Expected a probe that the Evaluate tab or the endpoint train_probe made (.safetensors), "
        f"{what}.",
        title="Not a probe",
    )


def spec_of(probe: LinearProbe) -> ModelSpec:
    """Return the model that a probe was made with.

    Raises:
        InputError: the catalogue does not know it.
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
    """Refuse a probe that was made with other weights than those it is to be used with.

    Args:
        probe: the probe.
        model: key of the model in use.
        revision: of its weights.
        dim: length of its vectors.

    Raises:
        InputError: names both models.
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


#: Guesses of a prediction that are kept, for the accuracy among the best five.
NUM_GUESSES = 5


@dataclass(frozen=True)
class Guess:
    """What pictures are taken for.

    Attributes:
        classes: positions of up to `NUM_GUESSES` classes, the likeliest first.
        probabilities: of these classes, 0..1.
    """

    classes: tuple[int, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that there is one, and a probability for each."""
        if not self.classes or len(self.classes) != len(self.probabilities):
            raise ValueError(f"a guess needs as many probabilities as classes, but got {self}")


Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """A linear classifier: weights (L, D) and biases (L,) of L classes, float64."""

    weight: Floats
    bias: Floats

    def log_probabilities(self, vectors: Floats) -> Floats:
        """Return the logarithms of (N, L) probabilities of (N, D) vectors."""
        return _log_softmax(vectors @ self.weight.T + self.bias)


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalised: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


MAX_CLASSES = 1000
