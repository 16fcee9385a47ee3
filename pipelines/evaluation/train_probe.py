"""Training of a linear probe on vectors, measured on held-out images."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.core.errors import InputError, shown
from pipelines.core.messages import Message
from pipelines.models.linear_probe import NUM_GUESSES, Floats, Guess, Linear

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Ints = NDArray[np.int64]

#: Inverse strengths of the penalty to choose from, the strongest penalty first; on unit vectors the
#: best one is mostly between 10 and 1000.
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)

#: A fit ends when all derivatives of the mean loss are smaller, or after this number of steps.
TOLERANCE = 1e-6
MAX_STEPS = 1000

#: Most folds of a cross-validation.
_MOST_FOLDS = 5


def fit(
    vectors: Floats, classes: Ints, strength: float, check: Callable[[], None] = lambda: None
) -> Linear:
    """Fit a classifier to (N, D) vectors and (N,) positions of their classes, each at least once.

    `strength` is scikit-learn's `C`; `check` is called at every step and may raise to end the fit.
    """
    model = _fitted(_estimator(), vectors, classes, strength, check)
    weight, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(bias) == 1:  # of two classes it fits the difference
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Linear(weight, bias)


def choose_strength(
    vectors: Floats, classes: Ints, seed: int, check: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, int, float]]:
    """Choose the penalty for (N, D) vectors by cross-validation, one fit at a time.

    Each of the (N,) classes occurs at least twice; `seed` is that of the folds, `check` as for
    `fit`.

    Yields:
        After each fit: finished fits, total fits, and the strength with the smallest mean loss
        (negative log-likelihood) on the validation folds so far.
    """
    from sklearn.metrics import log_loss

    folds = stratified_folds(classes, seed)
    number = int(folds.max()) + 1
    losses = np.zeros((number, len(STRENGTHS)))
    for fold in range(number):
        inside, outside = folds != fold, folds == fold
        model = _estimator(warm_start=True)
        for position, strength in enumerate(STRENGTHS):
            _fitted(model, vectors[inside], classes[inside], strength, check)
            shares = model.predict_proba(vectors[outside])
            losses[fold, position] = log_loss(classes[outside], shares, labels=model.classes_)
            best = STRENGTHS[int(losses.mean(axis=0).argmin())]
            yield fold * len(STRENGTHS) + position + 1, number * len(STRENGTHS), best


def stratified_folds(classes: Ints, seed: int) -> Ints:
    """Return the fold of each image, (N,), 0..K-1: each class is spread evenly over them.

    K is the size of the smallest class, within 2..5.
    """
    from sklearn.model_selection import StratifiedKFold

    number = max(2, min(_MOST_FOLDS, int(np.bincount(classes).min())))
    folds = np.zeros(len(classes), dtype=np.int64)
    drawn = StratifiedKFold(number, shuffle=True, random_state=seed)
    for fold, (_, outside) in enumerate(drawn.split(classes, classes)):
        folds[outside] = fold
    return folds


def held_out(classes: Ints, share: float, seed: int) -> NDArray[np.bool_]:
    """Return a mask, (N,), of the images for testing: about `share` of each class.

    At least one image of every class is held out, and at least two are left.
    """
    draw = np.random.default_rng([seed, 0])
    chosen = np.zeros(len(classes), dtype=np.bool_)
    for label in np.unique(classes):
        members = draw.permutation(np.flatnonzero(classes == label))
        number = min(max(1, int(share * len(members) + 0.5)), len(members) - 2)
        chosen[members[:number]] = True
    return chosen


class _StepCheck:
    """scikit-learn callback that calls `check` at every step of a fit."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing before the fit."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Release `check` after the fit: scikit-learn keeps callbacks for longer."""
        del self._check

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Check before each step."""
        self._check()

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Do nothing after a step."""


def _estimator(*, warm_start: bool = False) -> "LogisticRegression":
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(tol=TOLERANCE, max_iter=MAX_STEPS, warm_start=warm_start)


def _fitted(
    model: "LogisticRegression",
    vectors: Floats,
    classes: Ints,
    strength: float,
    check: Callable[[], None],
) -> "LogisticRegression":
    return model.set_params(C=strength).set_callbacks(_StepCheck(check)).fit(vectors, classes)


#: Fewest images of a class: one is held out, and each fold of the rest needs another.
MIN_PER_CLASS = 4

#: Range of the share of images that is held out, and largest seed.
SHARES = (0.1, 0.5)
MAX_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """Options of the training: share of each class for testing, seed of the split and of the folds.

    Raises:
        InputError: a value is not within `SHARES`, or 0..`MAX_SEED`.
    """

    held_out: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        share, seed = self.held_out, self.seed
        low, high = SHARES
        is_number = isinstance(share, int | float) and not isinstance(share, bool)
        if not is_number or not low <= share <= high:
            raise InputError(
                "held_out must be within {low}..{high} but got {given}.",
                low=low,
                high=high,
                given=shown(share),
            )
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
            raise InputError(
                "seed must be a whole number, 0..{limit}, but got {given}.",
                limit=MAX_SEED,
                given=shown(seed),
            )


@dataclass(frozen=True)
class TrainedProbe:
    """A classifier, its scikit-learn `C` by cross-validation, and the (N,) mask of held-out images.

    The weights and biases are exact in float32.
    """

    linear: Linear
    strength: float
    unseen: NDArray[np.bool_]


def check_enough(labels: tuple[str, ...], classes: NDArray[np.int64]) -> None:
    """Raise `InputError`, which names the smallest classes, if some have too few images."""
    counts = np.bincount(classes, minlength=len(labels))
    few = [(labels[i], int(counts[i])) for i in np.argsort(counts, kind="stable")]
    few = [(label, count) for label, count in few if count < MIN_PER_CLASS]
    if few:
        named = ", ".join(f"{label[:40]!r} ({count})" for label, count in few[:3])
        more = Message(" and {count} more", count=len(few) - 3) if len(few) > 3 else ""
        raise InputError(
            "A probe needs at least {least} pictures of each class that can be read, but "
            "these classes have fewer: {names}{more}. Add pictures, or leave such classes out.",
            least=MIN_PER_CLASS,
            names=named,
            more=more,
            title="Too few pictures",
        )


def train_probe(
    vectors: NDArray[np.float32],
    classes: NDArray[np.int64],
    options: ProbeOptions,
    turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    check: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, int] | TrainedProbe]:
    """Fit a probe on all of (N, D) unit vectors but those held out.

    The (N,) classes have enough images each; see `check_enough`. `turn` is entered around each fit,
    so that other work comes in between; `check` is as for `fit`.

    Yields:
        (done, total) fits, then the result.
    """
    unseen = held_out(classes, options.held_out, options.seed)
    seen, labels = vectors[~unseen].astype(np.float64), classes[~unseen]
    fits = choose_strength(seen, labels, options.seed, check)
    strength, total = 0.0, 0
    while True:
        with turn():
            following = next(fits, None)
        if following is None:
            break
        done, total, strength = following
        yield done, total + 1
    with turn():
        found = fit(seen, labels, strength, check)
    yield total + 1, total + 1
    exact = (part.astype(np.float32).astype(np.float64) for part in (found.weight, found.bias))
    yield TrainedProbe(Linear(*exact), strength, unseen)


def guesses_of(probabilities: NDArray[np.float64]) -> list[Guess]:
    """Return the guesses of (N, L) probabilities, the likeliest classes first."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :NUM_GUESSES]
    return [
        Guess(tuple(order), tuple(row[order].tolist()))
        for order, row in zip(best.tolist(), probabilities, strict=True)
    ]
