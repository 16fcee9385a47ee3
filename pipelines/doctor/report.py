"""Findings of the doctor as plain values and as text, by the standard library alone.

The doctor also runs where no package is installed, to name what is missing.
"""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipelines.core.results import DeviceSpeed

#: "missing" is needed, a "note" is not.
Status = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """Result of one check; `mend` is a command or setting that solves a problem, or ""."""

    name: str
    status: Status
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Outlook:
    """Forecast for one model on this machine.

    Attributes:
        on_disk: whether its weights are on this machine.
        need_gb: its memory on this device, in GB (1e9 bytes).
        why: the reason if it will not run; else "" or what happens first, such as a download.
        seconds: rough time of one usual request, without loading; None if the model is too large.
        is_default: whether its tab starts with it.
    """

    key: str
    task: str
    on_disk: bool
    need_gb: float
    runs: bool
    why: str
    seconds: float | None
    is_default: bool


@dataclass(frozen=True)
class Report:
    """All findings."""

    findings: Sequence[Finding]
    models: Sequence[Outlook]
    rates: DeviceSpeed | None

    @property
    def is_well(self) -> bool:
        """Return whether nothing that is needed is missing."""
        return all(finding.status != "missing" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for a program."""
        return {"ok": self.is_well, **asdict(self)}


WIDTH = 80

#: Column at which findings begin.
_FOUND = 24

#: One usual request of each task, for the column of times.
USUAL = (
    "Time of one request once the model is loaded, estimated from these rates: a picture with a "
    "few labels; a caption of 15 words; 8 frames and a text; 60 words about 64 frames, the first "
    "time. Rough: within a factor of a few."
)


def as_text(report: Report) -> str:
    """Return the whole report in lines of at most `WIDTH` characters."""
    lines = ["SeeSay doctor", ""]
    for finding in report.findings:
        head = f"  {finding.status:<8} {finding.name:<12}".ljust(_FOUND)
        lines += _wrapped(finding.found, head, " " * _FOUND)
        lines += _wrapped(finding.mend, " " * _FOUND + "-> ", " " * (_FOUND + 3))
    lines += ["", *_models(report), "", *_verdict(report)]
    return "\n".join(lines) + "\n"


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest)


def _models(report: Report) -> Iterator[str]:
    if not report.models:
        return
    width = max(len(model.key) for model in report.models)
    yield f"  {'model':<{width}}  {'memory':>7}  {'request':>9}  what happens"
    for model in report.models:
        yield _model(model, width)
    yield ""
    yield "  * what its tab starts with"
    if report.rates is not None:
        measured = (
            f"Measured just now: {report.rates.flops / 1e9:,.0f} GFLOP/s in "
            f"{report.rates.dtype}, weights read at {report.rates.read_bytes / 1e9:,.1f} GB/s."
        )
        yield from _wrapped(f"{measured} {USUAL}", "  ", "  ")


def _model(model: Outlook, width: int) -> str:
    mark = "*" if model.is_default else " "
    what = "runs" if model.runs else "no:"
    if model.why:
        what = f"{what} {model.why}" if not model.runs else model.why
    return f"{mark} {model.key:<{width}}  {model.need_gb:>4.1f} GB  {duration(model):>9}  {what}"


def duration(model: Outlook) -> str:
    """Return a rough time in words, rounded to its accuracy."""
    seconds = model.seconds
    if seconds is None:
        return "-"
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        digits = 1 if seconds < 10 else 10
        return f"~ {round(seconds / digits) * digits} s"
    return f"~ {round(seconds / 60)} min" if seconds < 5400 else f"~ {round(seconds / 3600)} h"


def _verdict(report: Report) -> Iterator[str]:
    missing = [finding.name for finding in report.findings if finding.status == "missing"]
    if not missing:
        yield "Everything that SeeSay needs is here: python app.py"
        return
    text = f"Missing: {', '.join(missing)}. The lines after -> mend it; then ask again."
    yield from _wrapped(text, "", "")
