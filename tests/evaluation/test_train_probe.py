"""The logistic regression against scikit-learn's, and how pictures are shared out."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from pipelines.core.cancel import Cancelled
from pipelines.evaluation.train_probe import (
    STRENGTHS,
    choose_strength,
    fit,
    held_out,
    stratified_folds,
)

ROOT = Path(__file__).parent.parent.parent


def overlapping(num_classes: int, each: int = 20, dim: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors of classes that overlap, and the classes."""
    draw = np.random.default_rng(num_classes)
    centres = draw.normal(size=(num_classes, dim))
    classes = np.repeat(np.arange(num_classes), each)
    vectors = centres[classes] + 1.2 * draw.normal(size=(len(classes), dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), classes


def stock(strength: float = 1.0) -> LogisticRegression:
    return LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)


@pytest.mark.parametrize("num_classes", [2, 3, 7])
@pytest.mark.parametrize("strength", [STRENGTHS[0], 1.0, 100.0, STRENGTHS[-1]])
def test_the_optimum_is_that_of_scikit_learn(num_classes: int, strength: float) -> None:
    vectors, classes = overlapping(num_classes)
    ours = np.exp(fit(vectors, classes, strength).log_probabilities(vectors))
    theirs = stock(strength).fit(vectors, classes).predict_proba(vectors)
    assert np.abs(ours - theirs).max() < 2e-3  # flat optima at the weakest penalty
    assert (ours.argmax(1) == theirs.argmax(1)).all()
    assert (ours.argmax(1) != classes).sum() > 0 or strength > 1, "the classes do overlap"


@pytest.mark.long
@pytest.mark.parametrize("num_classes", [2, 5])
def test_cross_validation_chooses_what_scikit_learn_chooses(num_classes: int) -> None:
    vectors, classes = overlapping(num_classes)
    steps = list(choose_strength(vectors, classes, seed=3))
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    search = GridSearchCV(stock(), {"C": STRENGTHS}, scoring="neg_log_loss", cv=folds)
    search.fit(vectors, classes)
    assert [done for done, _, _ in steps] == list(range(1, 5 * len(STRENGTHS) + 1))
    assert {total for _, total, _ in steps} == {5 * len(STRENGTHS)}
    assert steps[-1][2] == search.best_params_["C"]
    assert steps[-1][2] in STRENGTHS[1:-1], "the case has an optimum inside the grid"


@pytest.mark.parametrize("cross", [True, False])
def test_a_fit_ends_when_it_is_told_to(cross: bool) -> None:
    """Within a step of the optimiser, not at the end of a fit."""
    vectors, classes = overlapping(7)
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        if cross:
            list(choose_strength(vectors, classes, 0, check))
        else:
            fit(vectors, classes, 10_000.0, check)
    assert asked == 3


def test_a_probe_is_used_without_scikit_learn() -> None:
    """It takes seconds to import on a slow machine, and is for fitting only."""
    code = """
import sys
import pipelines.evaluation.job, pipelines.models.linear_probe
sys.exit("sklearn" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_pictures_are_held_out_of_every_class() -> None:
    classes = np.repeat([0, 1, 2, 3], [4, 5, 40, 101])
    chosen = held_out(classes, 0.25, seed=0)
    assert np.bincount(classes[chosen]).tolist() == [1, 1, 10, 25]
    assert (held_out(classes, 0.25, seed=0) == chosen).all()
    assert (held_out(classes, 0.25, seed=1) != chosen).any()
    assert (np.bincount(classes[~held_out(classes, 0.5, seed=0)]) >= 2).all()


def test_folds_spread_every_class() -> None:
    classes = np.repeat([0, 1, 2], [3, 30, 100])
    folds = stratified_folds(classes, seed=0)
    assert set(folds) == {0, 1, 2}
    for label in range(3):
        counts = np.bincount(folds[classes == label], minlength=3)
        assert counts.max() - counts.min() <= 1
    assert set(stratified_folds(np.repeat([0, 1], 50), seed=0)) == set(range(5))
