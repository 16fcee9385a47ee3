"""An evaluation as HTML, CSV and JSON."""

from typing import Any

from components.render.html import render
from components.render.scores import CELLS_SHOWN, ROWS_SHOWN, as_csv, rows_of
from pipelines.evaluation.job import Evaluation
from pipelines.evaluation.results import Accuracy, Measured
from pipelines.models.linear_probe import LinearProbe

#: Files that do not count which are named on the page; the CSV file and the endpoints have all.
LEFT_OUT_SHOWN = 50


def as_summary(found: Evaluation) -> dict[str, Any]:
    """Return the first result of `/evaluate_images` and `/train_probe`."""
    summary: dict[str, Any] = {
        "model": found.model,
        "num_images": found.num_pictures,
        "labels": list(found.zero_shot.labels),
        "zero_shot": _as_measured(found.zero_shot),
    }
    if found.probe is not None and found.by_probe is not None:
        facts = found.probe.facts
        summary["probe"] = {
            **_as_measured(found.by_probe),
            "num_fitted": facts.num_fitted,
            "num_held_out": facts.num_held_out,
            "regularisation_c": facts.strength,
        }
    summary["errors"] = [{"file": name, "error": reason} for name, reason in found.left_out]
    summary["notes"] = list(found.notes)
    return summary


def as_predictions(found: Evaluation) -> list[dict[str, Any]]:
    """Return the rows of `/evaluate_images` and `/train_probe`: one for each image measured."""
    rows = rows_of(found.measured.predictions, ("file", "label", "predicted", "probability"))
    if found.by_probe is not None:
        for row, by_name in zip(rows, found.zero_shot.predictions, strict=True):
            row["zero_shot_predicted"] = by_name.predicted
    return rows


def figures(found: Evaluation) -> str:
    """Return the accuracies with their intervals."""
    return render("evaluation.figures", found=found)


def confusion_table(measured: Measured) -> str:
    """Return the confusion matrix, coloured by the shares of its rows."""
    return render(
        "evaluation.confusion_table",
        labels=measured.labels,
        confusion=measured.confusion,
        shown=CELLS_SHOWN,
    )


def classes_table(found: Evaluation) -> str:
    """Return a table of the accuracy of each class, the lowest first."""
    shares = [accuracy.share if accuracy else 0.0 for accuracy in found.measured.classes]
    order = sorted(range(len(shares)), key=shares.__getitem__)
    return render("evaluation.classes_table", found=found, order=order, shown=ROWS_SHOWN)


def mistakes_strip(found: Evaluation) -> str:
    """Return the surest mistakes with their images; "" if there are none."""
    total, mistakes = len(found.measured.mistakes), found.mistakes
    return render("evaluation.mistakes_strip", mistakes=mistakes, total=total) if mistakes else ""


def left_out_table(found: Evaluation) -> str:
    """Return a table of what does not count and why; "" if there is nothing."""
    if not found.left_out:
        return ""
    return render("evaluation.left_out_table", left_out=found.left_out, shown=LEFT_OUT_SHOWN)


def predictions_csv(found: Evaluation) -> str:
    """Return the predictions, and the files left out, as CSV."""
    head = ["file", "label", "predicted", "probability"]
    if found.by_probe is not None:
        head.append("zero_shot_predicted")
    rows = [[row[name] for name in head] for row in as_predictions(found)]
    blank = [""] * (len(head) - 1)
    left_out = [[name, *blank, reason] for name, reason in found.left_out]
    return as_csv([*head, "error"], [*([*row, ""] for row in rows), *left_out])


def classes_csv(found: Evaluation) -> str:
    """Return the accuracy of each class with its interval as CSV."""
    head = ["label", "correct", "total", "accuracy", "low", "high", "most_often_taken_for"]
    measured = found.measured
    rows = [
        [label, one.correct, one.total, one.share, *one.interval, measured.taken_for(index)[0]]
        for index, (label, one) in enumerate(zip(measured.labels, measured.classes, strict=True))
        if one is not None
    ]
    return as_csv(head, rows)


def confusion_csv(found: Evaluation) -> str:
    """Return the confusion matrix as CSV: a row for each class, with its name first."""
    labels, counts = found.measured.labels, found.measured.confusion
    rows = [[label, *row] for label, row in zip(labels, counts, strict=True)]
    return as_csv(["", *labels], rows)


def probe_name(probe: LinearProbe) -> str:
    """Return the file name of a probe."""
    return f"probe-{probe.model}.safetensors"


def _as_measured(measured: Measured) -> dict[str, Any]:
    return {
        "top1": _as_accuracy(measured.top1),
        "top5": _as_accuracy(measured.top5) if measured.top5 else None,
        "classes": [
            {"label": label, **_as_accuracy(accuracy)}
            for label, accuracy in zip(measured.labels, measured.classes, strict=True)
            if accuracy is not None
        ],
        "confusion": [list(row) for row in measured.confusion],
    }


def _as_accuracy(accuracy: Accuracy) -> dict[str, Any]:
    low, high = accuracy.interval
    return {
        "accuracy": accuracy.share,
        "low": low,
        "high": high,
        "correct": accuracy.correct,
        "total": accuracy.total,
    }
