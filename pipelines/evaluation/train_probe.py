"""From vectors and classes to a linear probe, measured on pictures that it never saw."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.core.errors import InputError, shown
from pipelines.evaluation.logistic import Linear, choose_strength, fit, held_out
from pipelines.evaluation.results import NUM_GUESSES, Guess

#: Fewest pictures of a class: one is held out, and each fold of the rest needs another.
MIN_PER_CLASS = 4

#: Shares of the pictures that may be held out, and seeds.
SHARES = (0.1, 0.5)
MAX_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """How a probe is made.

    Attributes:
        held_out: share of each class that is never seen in fitting, within `SHARES`.
        seed: of the split and of the folds, 0..`MAX_SEED`.
    """

    held_out: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: says what is expected.
        """
        share, seed = self.held_out, self.seed
        low, high = SHARES
        is_number = isinstance(share, int | float) and not isinstance(share, bool)
        if not is_number or not low <= share <= high:
            raise InputError(f"held_out must be within {low}..{high} but got {shown(share)}.")
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
            raise InputError(f"seed must be a whole number, 0..{MAX_SEED}, but got {shown(seed)}.")


@dataclass(frozen=True)
class Taught:
    """A classifier and the pictures that it never saw.

    Attributes:
        linear: the classifier; weights and biases are exact in float32.
        strength: scikit-learn's `C`, chosen by cross-validation.
        unseen: (N,), which pictures were held out.
    """

    linear: Linear
    strength: float
    unseen: NDArray[np.bool_]


def check_enough(labels: tuple[str, ...], classes: NDArray[np.int64]) -> None:
    """Refuse classes of too few pictures.

    Raises:
        InputError: names the smallest ones.
    """
    counts = np.bincount(classes, minlength=len(labels))
    few = [(labels[i], int(counts[i])) for i in np.argsort(counts, kind="stable")]
    few = [(label, count) for label, count in few if count < MIN_PER_CLASS]
    if few:
        named = ", ".join(f"{label[:40]!r} ({count})" for label, count in few[:3])
        more = f" and {len(few) - 3} more" if len(few) > 3 else ""
        raise InputError(
            f"A probe needs at least {MIN_PER_CLASS} pictures of each class that can be read, but "
            f"these classes have fewer: {named}{more}. Add pictures, or leave such classes out.",
            title="Too few pictures",
        )


def teach(
    vectors: NDArray[np.float32],
    classes: NDArray[np.int64],
    options: ProbeOptions,
    turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    check: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, int] | Taught]:
    """Fit a probe on all pictures but those held out.

    Args:
        vectors: (N, D), unit length.
        classes: (N,), positions of the classes, enough of each; see `check_enough`.
        options: how it is made.
        turn: entered around each fit, so that others come in between.
        check: called at every step of a fit; may raise to end it.

    Yields:
        (done, total) fits, and at last the result.
    """
    unseen = held_out(classes, options.held_out, options.seed)
    seen, theirs = vectors[~unseen].astype(np.float64), classes[~unseen]
    fits = choose_strength(seen, theirs, options.seed, check)
    strength, total = 0.0, 0
    while True:
        with turn():
            following = next(fits, None)
        if following is None:
            break
        done, total, strength = following
        yield done, total + 1
    with turn():
        found = fit(seen, theirs, strength, check)
    yield total + 1, total + 1
    exact = (part.astype(np.float32).astype(np.float64) for part in (found.weight, found.bias))
    yield Taught(Linear(*exact), strength, unseen)


def guesses_of(probabilities: NDArray[np.float64]) -> list[Guess]:
    """Return what (N, L) probabilities say, the likeliest classes first."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :NUM_GUESSES]
    return [
        Guess(tuple(order), tuple(row[order].tolist()))
        for order, row in zip(best.tolist(), probabilities, strict=True)
    ]
