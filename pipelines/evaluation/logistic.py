"""Multinomial logistic regression with an L2 penalty, as a linear probe needs it.

The optimum is that of scikit-learn's `LogisticRegression` of the same `C`, against which the tests
compare it; written here because a fit must end within a moment when its visitor has left.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Inverse strengths of the penalty that are tried, the strongest penalty first; on vectors of
#: unit length the best one is as a rule between 10 and 1000.
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)

#: A fit is over when no derivative of the mean loss is larger, or after so many steps.
TOLERANCE = 1e-6
MAX_STEPS = 1000

#: Steps whose curvature is remembered.
_MEMORY = 10

#: Share of the decrease that the slope promises with which a step is content (Armijo).
_ENOUGH = 1e-4


@dataclass(frozen=True)
class Linear:
    """A linear classifier: weights (L, D) and biases (L,) of L classes, float64."""

    weight: Floats
    bias: Floats

    def log_probabilities(self, vectors: Floats) -> Floats:
        """Return the logarithms of (N, L) probabilities of (N, D) vectors."""
        return _log_softmax(vectors @ self.weight.T + self.bias)


def fit(
    vectors: Floats,
    classes: Ints,
    num_classes: int,
    strength: float,
    start: Linear | None = None,
    check: Callable[[], None] = lambda: None,
) -> Linear:
    """Fit a classifier.

    Args:
        vectors: (N, D).
        classes: (N,) positions of the classes.
        num_classes: how many there are, L, at least 2.
        strength: scikit-learn's `C`: the sum of the losses times this, and half of the squared
            weights, are made small together. Biases are free.
        start: where to begin; the optimum does not depend on it.
        check: called at every step; may raise to end the fit.
    """
    num, dim = vectors.shape
    # with two classes scikit-learn has one vector, their difference, and penalises that
    penalty = (2.0 if num_classes == 2 else 1.0) / (strength * num)
    target = np.zeros((num, num_classes))
    target[np.arange(num), classes] = 1.0

    def loss(flat: Floats) -> tuple[float, Floats]:
        weight, bias = _unpacked(flat, num_classes, dim)
        logs = _log_softmax(vectors @ weight.T + bias)
        value = -float((logs * target).sum()) / num + penalty / 2 * float((weight**2).sum())
        wrong = (np.exp(logs) - target) / num  # (N, L)
        gradient = np.concatenate([(wrong.T @ vectors + penalty * weight).ravel(), wrong.sum(0)])
        return value, gradient

    first = start or Linear(np.zeros((num_classes, dim)), np.zeros(num_classes))
    found = _minimise(loss, np.concatenate([first.weight.ravel(), first.bias]), check)
    return Linear(*_unpacked(found, num_classes, dim))


def choose_strength(
    vectors: Floats,
    classes: Ints,
    num_classes: int,
    seed: int,
    check: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, int, float]]:
    """Choose the penalty by cross-validation, one fit at a time.

    Args:
        vectors: (N, D).
        classes: (N,); every class comes at least twice.
        num_classes: how many there are.
        seed: of the folds.
        check: called at every step of a fit; may raise to end it.

    Yields:
        After each fit: how many are done, of how many, and the strength with the smallest mean
        loss (negative log-likelihood) on the folds left out, which is the answer at the end.
    """
    folds = stratified_folds(classes, seed)
    number = int(folds.max()) + 1
    losses = np.zeros((number, len(STRENGTHS)))
    for fold in range(number):
        inside, outside = folds != fold, folds == fold
        model = None
        for position, strength in enumerate(STRENGTHS):
            model = fit(vectors[inside], classes[inside], num_classes, strength, model, check)
            logs = model.log_probabilities(vectors[outside])
            losses[fold, position] = -logs[np.arange(len(logs)), classes[outside]].mean()
            best = STRENGTHS[int(losses.mean(axis=0).argmin())]
            yield fold * len(STRENGTHS) + position + 1, number * len(STRENGTHS), best


def stratified_folds(classes: Ints, seed: int, most: int = 5) -> Ints:
    """Return the fold of each picture, (N,), 0..K-1: each class is spread evenly over them.

    There are as many folds as the smallest class has pictures, at least 2 and at most `most`.
    """
    number = max(2, min(most, int(np.bincount(classes).min())))
    draw = np.random.default_rng([seed, 1])
    folds = np.zeros(len(classes), dtype=np.int64)
    for label in np.unique(classes):
        members = draw.permutation(np.flatnonzero(classes == label))
        folds[members] = (np.arange(len(members)) + draw.integers(number)) % number
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


def _minimise(
    loss: Callable[[Floats], tuple[float, Floats]], at: Floats, check: Callable[[], None]
) -> Floats:
    """Return where a smooth convex function is smallest, by L-BFGS.

    Source: Nocedal and Wright, "Numerical Optimization", algorithms 7.4 and 7.5, with a step that
    is halved until it is good enough.
    """
    value, gradient = loss(at)
    past: deque[tuple[Floats, Floats]] = deque(maxlen=_MEMORY)
    for _ in range(MAX_STEPS):
        check()
        if np.abs(gradient).max() <= TOLERANCE:
            break
        direction = _direction(gradient, past)
        slope = float(direction @ gradient)
        step = 1.0
        while True:
            moved = at + step * direction
            new_value, new_gradient = loss(moved)
            if new_value <= value + _ENOUGH * step * slope:
                break
            step /= 2
            if step < 1e-10:  # what is left to gain is below what float64 resolves
                return at
        change = new_gradient - gradient
        if float(change @ (moved - at)) > 0:
            past.append((moved - at, change))
        at, value, gradient = moved, new_value, new_gradient
    return at


def _direction(gradient: Floats, past: deque[tuple[Floats, Floats]]) -> Floats:
    """Return minus the gradient times the inverse curvature that past steps tell."""
    direction = -gradient
    shares = []
    for moved, change in reversed(past):
        share = float(moved @ direction) / float(moved @ change)
        direction = direction - share * change
        shares.append(share)
    if past:
        moved, change = past[-1]
        direction = direction * (float(moved @ change) / float(change @ change))
    else:
        direction = direction / max(1.0, float(np.linalg.norm(gradient)))
    for (moved, change), share in zip(past, reversed(shares), strict=True):
        direction = direction + moved * (share - float(change @ direction) / float(moved @ change))
    return direction


def _unpacked(flat: Floats, num_classes: int, dim: int) -> tuple[Floats, Floats]:
    weight = flat[: num_classes * dim].reshape(num_classes, dim)  # (L, D)
    return weight, flat[num_classes * dim :]


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalised: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised
