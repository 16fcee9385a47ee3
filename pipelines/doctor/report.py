"""What the doctor finds, as plain values. Torch-free."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
class Rates:
    """How fast the device is, measured.

    Attributes:
        flops: operations per second in a product of matrices, two for each multiplication.
        read_bytes: bytes of weights per second that one row passes, as each written word does.
        dtype: what it was measured in.
    """

    flops: float
    read_bytes: float
    dtype: str


@dataclass(frozen=True)
class Report:
    """Everything the doctor found."""

    findings: Sequence[Finding]
    models: Sequence[Outlook]
    rates: Rates | None

    @property
    def is_well(self) -> bool:
        """Whether nothing that is needed is missing."""
        return all(finding.status != "missing" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values for a program."""
        return {"ok": self.is_well, **asdict(self)}
