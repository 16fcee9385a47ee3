"""Multinomial logistic regression with an L2 penalty, as a linear probe needs it.

scikit-learn fits it, and is asked at every step of its optimiser whether its visitor is still
there. It is imported when a probe is fitted, not for a probe that is used.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Inverse strengths of the penalty that are tried, the strongest penalty first; on vectors of
#: unit length the best one is as a rule between 10 and 1000.
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)

#: A fit is over when no derivative of the mean loss is larger, or after so many steps.
TOLERANCE = 1e-6
MAX_STEPS = 1000

#: Most folds of a cross-validation.
_MOST_FOLDS = 5


@dataclass(frozen=True)
class Linear:
    """A linear classifier: weights (L, D) and biases (L,) of L classes, float64."""

    weight: Floats
    bias: Floats

    def log_probabilities(self, vectors: Floats) -> Floats:
        """Return the logarithms of (N, L) probabilities of (N, D) vectors."""
        return _log_softmax(vectors @ self.weight.T + self.bias)


def fit(
    vectors: Floats, classes: Ints, strength: float, check: Callable[[], None] = lambda: None
) -> Linear:
    """Fit a classifier.

    Args:
        vectors: (N, D).
        classes: (N,) positions of the classes, each of which comes at least once.
        strength: scikit-learn's `C`.
        check: called at every step; may raise to end the fit.
    """
    model = _fitted(_estimator(), vectors, classes, strength, check)
    weight, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(bias) == 1:  # of two classes it fits the difference
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Linear(weight, bias)


def choose_strength(
    vectors: Floats, classes: Ints, seed: int, check: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, int, float]]:
    """Choose the penalty by cross-validation, one fit at a time.

    Args:
        vectors: (N, D).
        classes: (N,) positions of the classes; every class comes at least twice.
        seed: of the folds.
        check: called at every step of a fit; may raise to end it.

    Yields:
        After each fit: how many are done, of how many, and the strength with the smallest mean
        loss (negative log-likelihood) on the folds left out, which is the answer at the end.
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
    """Return the fold of each picture, (N,), 0..K-1: each class is spread evenly over them.

    There are as many folds as the smallest class has pictures, at least 2 and at most 5.
    """
    from sklearn.model_selection import StratifiedKFold

    number = max(2, min(_MOST_FOLDS, int(np.bincount(classes).min())))
    folds = np.zeros(len(classes), dtype=np.int64)
    drawn = StratifiedKFold(number, shuffle=True, random_state=seed)
    for fold, (_, outside) in enumerate(drawn.split(classes, classes)):
        folds[outside] = fold
    return folds


def held_out(classes: Ints, share: float, seed: int) -> NDArray[np.bool_]:
    """Return which pictures are never seen in fitting, (N,): about `share` of each class.

    Of every class at least one is held out, and at least two are left.
    """
    draw = np.random.default_rng([seed, 0])
    chosen = np.zeros(len(classes), dtype=np.bool_)
    for label in np.unique(classes):
        members = draw.permutation(np.flatnonzero(classes == label))
        number = min(max(1, int(share * len(members) + 0.5)), len(members) - 2)
        chosen[members[:number]] = True
    return chosen


class _Asks:
    """A callback of one fit that asks at every step whether to go on."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def setup(self, estimator: Any, context: Any) -> None:
        """Called before the fit."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Called after it; scikit-learn remembers callbacks for longer, but not who asked."""
        del self._check

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Called before each step."""
        self._check()

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Called after each step."""


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
    return model.set_params(C=strength).set_callbacks(_Asks(check)).fit(vectors, classes)


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalised: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised
