"""Pure functions: an evaluation -> what the Evaluate tab and its endpoints show."""

import base64
import html
from pathlib import PurePosixPath
from typing import Any

from components.render.scores import CELLS_SHOWN, ROWS_SHOWN, as_csv, kept, percent
from pipelines.evaluation.job import Evaluation, Mistake
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
    """Return the rows of `/evaluate_images` and `/train_probe`: one for each picture measured."""
    rows: list[dict[str, Any]] = []
    for one, by_name in zip(found.measured.predictions, found.zero_shot.predictions, strict=True):
        row: dict[str, Any] = {
            "file": one.file,
            "label": one.label,
            "predicted": one.predicted,
            "probability": one.probability,
        }
        if found.by_probe is not None:
            row["zero_shot_predicted"] = by_name.predicted
        rows.append(row)
    return rows


def figures(found: Evaluation) -> str:
    """Return the accuracies with their intervals, as HTML."""
    names = [("By name (zero-shot)", found.zero_shot)]
    if found.by_probe is not None:
        names.append(("By the probe", found.by_probe))
    cards = "".join(_card(name, measured) for name, measured in names)
    return f"<div class='figures'>{cards}</div>{_about(found)}"


def confusion_table(measured: Measured) -> str:
    """Return the confusion matrix as a table that is tinted by shares of its rows, as HTML."""
    labels = measured.labels[:CELLS_SHOWN]
    head = "".join(f"<th class='class'><span>{_name(label)}</span></th>" for label in labels)
    rows = []
    for index, (label, counts) in enumerate(zip(labels, measured.confusion, strict=False)):
        total = sum(counts)
        cells = "".join(
            _cell(count, total, right=index == column)
            for column, count in enumerate(counts[:CELLS_SHOWN])
        )
        rows.append(f"<tr><th>{_name(label)}</th>{cells}</tr>")
    more = ""
    if len(measured.labels) > CELLS_SHOWN:
        more = f"<p class='more'>The first {CELLS_SHOWN} are shown; the CSV file has all.</p>"
    return (
        "<p class='heading'>Confusion matrix</p><p class='more'>A row for each class, a column "
        "for what its pictures were taken for.</p>"
        "<div class='scores matrix confusion' tabindex='0' role='region' "
        f"aria-label='Confusion matrix'><table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
        f"</div>{more}"
    )


def classes_table(found: Evaluation) -> str:
    """Return the accuracy of each class, the lowest first, as HTML."""
    measured = found.measured
    order = sorted(range(len(measured.labels)), key=lambda index: _share(measured.classes[index]))
    rows = [_class_row(found, index) for index in order[:ROWS_SHOWN]]
    by_name = "<th>Zero-shot</th>" if found.by_probe is not None else ""
    more = ""
    if len(order) > ROWS_SHOWN:
        more = (
            f"<p class='more'>The lowest {ROWS_SHOWN} of {len(order):,}; the CSV file has all.</p>"
        )
    return (
        "<p class='heading'>Accuracy of each class</p>"
        "<div class='scores classes' tabindex='0' role='region' "
        "aria-label='Accuracy of each class'><table><tr>"
        f"<th>Class</th><th>Accuracy</th>{by_name}<th>Right</th><th>Most often taken for</th></tr>"
        f"{''.join(rows)}</table></div>{more}"
    )


def mistakes_strip(found: Evaluation) -> str:
    """Return the surest mistakes with their pictures, as HTML; "" if there are none."""
    if not found.mistakes:
        return ""
    total = len(found.measured.mistakes)
    shown = f"The surest {len(found.mistakes)} of {total:,}; the CSV file has all."
    more = f"<p class='more'>{shown}</p>" if total > len(found.mistakes) else ""
    return (
        f"<p class='heading'>Taken for another class</p>{more}<div class='strip mistakes'>"
        f"{''.join(_figure(one) for one in found.mistakes)}</div>"
    )


def left_out_table(found: Evaluation) -> str:
    """Return what does not count and why, as HTML; "" if there is nothing."""
    total = len(found.left_out)
    if not total:
        return ""
    rows = "".join(
        f"<tr class='bad'><td class='name' translate='no'>{_cut(name, 120)}</td>"
        f"<td class='said'>{_cut(reason, 400)}</td></tr>"
        for name, reason in found.left_out[:LEFT_OUT_SHOWN]
    )
    more = ""
    if total > LEFT_OUT_SHOWN:
        more = f"<p class='more'>The first {LEFT_OUT_SHOWN}; the files hold all {total:,}.</p>"
    return (
        f"<div class='scores batch'><table><tr><th>Left out ({total:,})</th><th>Why</th></tr>"
        f"{rows}</table></div>{more}"
    )


def predictions_csv(found: Evaluation) -> str:
    """Return what each picture was taken for, and what was left out, as CSV."""
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
    rows = []
    for index, (label, accuracy) in enumerate(zip(measured.labels, measured.classes, strict=True)):
        if accuracy is not None:
            told = [accuracy.correct, accuracy.total, accuracy.share, *accuracy.interval]
            rows.append([label, *told, measured.taken_for(index)[0]])
    return as_csv(head, rows)


def confusion_csv(found: Evaluation) -> str:
    """Return the confusion matrix as CSV: a row for each class, with its name first."""
    labels, counts = found.measured.labels, found.measured.confusion
    rows = [[label, *row] for label, row in zip(labels, counts, strict=True)]
    return as_csv(["", *labels], rows)


def probe_name(probe: LinearProbe) -> str:
    """Return the name of the file of a probe."""
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


def _card(name: str, measured: Measured) -> str:
    top5 = ""
    if measured.top5 is not None:
        top5 = f"<p>Among the best five: {_told(measured.top5)}</p>"
    low, high = measured.top1.interval
    return (
        f"<div class='figure'><p class='what'>{name}</p><b>{percent(measured.top1.share)}</b>"
        f"<p>{measured.top1.correct:,} of {measured.top1.total:,} right</p>"
        f"<p>95 % interval: {percent(low)} to {percent(high)}</p>{top5}</div>"
    )


def _told(accuracy: Accuracy) -> str:
    return f"{percent(accuracy.share)}"


def _about(found: Evaluation) -> str:
    if found.probe is None:
        return ""
    return (
        f"<p class='more'>Both on the same {found.zero_shot.top1.total:,} pictures, which the "
        f"probe never saw; it was fitted on the other {found.num_fitted:,}. Cross-validation "
        f"chose C = {found.probe.facts.strength:g}.</p>"
    )


def _cell(count: int, total: int, *, right: bool) -> str:
    share = count / total if total else 0.0
    kind = "right" if right else "wrong"
    shown = f"{count:,}" if count else "<span class='none'>·</span>"
    return f"<td class='cell {kind}' style='--share:{share:.3f}'>{shown}</td>"


def _class_row(found: Evaluation, index: int) -> str:
    measured = found.measured
    accuracy, (taken, times) = measured.classes[index], measured.taken_for(index)
    mistaken = f"{kept(_cut(taken, 60))} <small>× {times:,}</small>" if times else "–"
    right = f"{accuracy.correct:,} / {accuracy.total:,}" if accuracy else "–"
    by_name = ""
    if found.by_probe is not None:
        by_name = f"<td class='number'>{_share_text(found.zero_shot.classes[index])}</td>"
    return (
        f"<tr><td class='name'>{kept(_cut(measured.labels[index], 120))}</td>"
        f"<td class='bar'><i style='width:{_share(accuracy) * 100:.1f}%'></i>"
        f"<b>{_share_text(accuracy)}</b></td>{by_name}<td class='number'>{right}</td>"
        f"<td class='name'>{mistaken}</td></tr>"
    )


def _share(accuracy: Accuracy | None) -> float:
    return accuracy.share if accuracy else 0.0


def _share_text(accuracy: Accuracy | None) -> str:
    return percent(accuracy.share) if accuracy else "–"


def _figure(mistake: Mistake) -> str:
    one = mistake.prediction
    picture = ""
    if mistake.jpeg:
        data = base64.b64encode(mistake.jpeg).decode("ascii")
        picture = f"<img src='data:image/jpeg;base64,{data}' alt='{_cut(one.file, 60)}'>"
    return (
        f"<figure>{picture}<figcaption>{kept(_cut(one.label, 60))} → "
        f"<b>{kept(_cut(one.predicted, 60))}</b> "
        f"<span class='share'>{percent(one.probability)}</span>"
        f"<small translate='no'>{_cut(PurePosixPath(one.file).name, 60)}</small></figcaption>"
        "</figure>"
    )


def _name(label: str) -> str:
    shown = label if len(label) <= 18 else f"{label[:10]}…{label[-7:]}"  # ends often differ
    return f"<span translate='no' title='{html.escape(label[:300])}'>{html.escape(shown)}</span>"


def _cut(text: str, longest: int) -> str:
    return html.escape(text if len(text) <= longest else f"{text[: longest - 1]}…")
