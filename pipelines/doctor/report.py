"""What the doctor finds, as plain values. Torch-free."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipelines.core.results import DeviceSpeed

#: "missing" is needed, a "note" is not.
Status = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        status: "missing" where SeeSay cannot do without.
        found: what there is.
        mend: the command or setting that mends it, "" where nothing needs to be.
    """

    name: str
    status: Status
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Outlook:
    """What is to be expected of one model here.

    Attributes:
        key: of the model.
        task: what it is for.
        on_disk: whether its weights are on this machine.
        need_gb: memory it takes on this device.
        runs: whether it will run.
        why: if not, why; if so, "" or what happens first, such as a download.
        seconds: rough time of one usual request, without the loading; None if it is too large.
        is_default: whether it is what its tab starts with.
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
    """Everything the doctor found."""

    findings: Sequence[Finding]
    models: Sequence[Outlook]
    rates: DeviceSpeed | None

    @property
    def is_well(self) -> bool:
        """Whether nothing that is needed is missing."""
        return all(finding.status != "missing" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values for a program."""
        return {"ok": self.is_well, **asdict(self)}


WIDTH = 80

#: Column at which what was found begins.
_FOUND = 24

#: What one request is, for the column of times.
USUAL = (
    "Time of one request once the model is loaded, estimated from these rates: a picture with a "
    "few labels; a caption of 15 words; 8 frames and a text; 60 words about 64 frames, the first "
    "time. Rough: within a factor of a few."
)


def as_text(report: Report) -> str:
    """Return the whole report."""
    lines = ["SeeSay doctor", ""]
    for finding in report.findings:
        lines += _finding(finding)
    lines += ["", *_models(report), "", *_verdict(report)]
    return "\n".join(lines) + "\n"


def _finding(finding: Finding) -> Iterator[str]:
    head = f"  {finding.status:<8} {finding.name:<12}".ljust(_FOUND)
    yield from textwrap.wrap(
        finding.found, WIDTH, initial_indent=head, subsequent_indent=" " * _FOUND
    )
    if finding.mend:
        yield from textwrap.wrap(
            finding.mend,
            WIDTH,
            initial_indent=" " * _FOUND + "-> ",
            subsequent_indent=" " * (_FOUND + 3),
        )


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
        yield from textwrap.wrap(
            f"{measured} {USUAL}", WIDTH, initial_indent="  ", subsequent_indent="  "
        )


def _model(model: Outlook, width: int) -> str:
    mark = "*" if model.is_default else " "
    what = "runs" if model.runs else "no:"
    if model.why:
        what = f"{what} {model.why}" if not model.runs else model.why
    return f"{mark} {model.key:<{width}}  {model.need_gb:>4.1f} GB  {duration(model):>9}  {what}"


def duration(model: Outlook) -> str:
    """Return a rough time in words, no more exact than it is."""
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
    yield from textwrap.wrap(
        f"Missing: {', '.join(missing)}. The lines after -> mend it; then ask again.", WIDTH
    )
