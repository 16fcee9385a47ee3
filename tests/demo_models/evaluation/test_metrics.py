"""Areas under the ROC curve, thresholds and shares."""

from demo_models.evaluation.metrics import auroc, best_threshold, missed_gates, shares


def test_area_under_curve_by_hand():
    assert auroc([3, 2], [1, 0]) == 1.0
    assert auroc([1], [1]) == 0.5
    assert auroc([0, 2], [1]) == 0.5
    assert best_threshold([0.6, 0.7], [0.1, 0.2]) == (0.6, 1.0)
    assert best_threshold([0.6, 0.1], [0.3, 0.2])[1] == 0.75


def test_shares_by_kind_and_missed_gates():
    figures = shares([("a", True), ("b", False), ("a", False), ("a", True)])
    assert figures == {"a": {"percent": 66.67, "n": 3}, "b": {"percent": 0.0, "n": 1}}
    assert missed_gates(figures, {"a": 66.0, "b": 1.0, "c": 90.0}) == ["b"]
