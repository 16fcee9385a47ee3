"""Figures: shares of right answers, areas under the ROC curve, thresholds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

Figure = dict[str, Any]
"""Mostly "percent" or "auroc", and "n", the number of cases."""
Figures = dict[str, Figure]
"""A figure of each kind of case."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_parallel(ask: Callable[[Item], Answer], items: Iterable[Item], workers: int) -> list[Answer]:
    """Return the answers in the order of the items, asked by several threads."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(ask, items))


def share(right: Sequence[bool]) -> Figure:
    """Return the share of what is right in percent, and n."""
    return {"percent": round(100 * sum(right) / len(right), 2), "n": len(right)}


def shares(answers: Iterable[tuple[str, bool]]) -> Figures:
    """Return the share of right answers of each kind, in the order of their first case."""
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for kind, right in answers:
        by_kind[kind].append(right)
    return {kind: share(values) for kind, values in by_kind.items()}


def missed_gates(figures: Figures, gates: dict[str, float]) -> list[str]:
    """Return the kinds whose share lies below the percentage that they must reach."""
    return [
        kind for kind, gate in gates.items() if kind in figures and figures[kind]["percent"] < gate
    ]


def auroc(high: ArrayLike, low: ArrayLike) -> float:
    """Return the area under the ROC curve: the share of `high` above `low`, ties half."""
    first, second = np.asarray(high, float), np.asarray(low, float)
    values = np.concatenate([first, second])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    wins = mean_ranks[inverse][: len(first)].sum() - len(first) * (len(first) + 1) / 2
    return float(wins / (len(first) * len(second)))


def best_threshold(scenes: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Return the threshold with the best mean of the two rates of right decisions, and that mean.

    A score that reaches the threshold counts as a scene.
    """
    candidates = np.unique(np.concatenate([scenes, others]))
    is_scene, is_other = np.asarray(scenes), np.asarray(others)
    rates = [(np.mean(is_scene >= t) + np.mean(is_other < t)) / 2 for t in candidates]
    best = np.flatnonzero(np.isclose(rates, np.max(rates)))
    middle = int(best[len(best) // 2])
    return float(candidates[middle]), float(rates[middle])
