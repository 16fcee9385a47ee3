"""`python app.py doctor`: run all checks, print the report, exit with 1 if something is missing."""

import argparse
import json
from collections.abc import Callable, Sequence

from pipelines.core.results import DeviceSpeed
from pipelines.core.settings import Settings, read_settings
from pipelines.doctor import checks
from pipelines.doctor.report import Finding, Outlook, Report, as_text
from pipelines.models.catalogue import CATALOGUE
from pipelines.serving.store import PipelineStore


def main(argv: Sequence[str]) -> int:
    """Print the report; return 0 if nothing that is needed is missing, else 1.

    `argv` are the arguments after `doctor`: `--json`, and any setting of the app.

    Raises:
        SystemExit: on an argument that is not allowed.
    """
    parser = argparse.ArgumentParser(
        prog="python app.py doctor",
        description="Report what this machine has, which models will run here and roughly how "
        "fast, what is missing, and what mends it. Exits with 1 if something needed is missing.",
        epilog="Takes every setting of the app too: python app.py --help lists them.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="the same for programs")
    args, rest = parser.parse_known_args(list(argv))
    report = examine(read_settings(rest, taken=CATALOGUE))
    print(json.dumps(report.as_json(), indent=2) if args.json else as_text(report), end="")
    if args.json:
        print()
    return 0 if report.is_well else 1


def examine(settings: Settings) -> Report:
    """Run all checks, the quick ones first; importing torch takes seconds."""
    findings = [
        checks.python_finding(),
        guarded("Packages", checks.packages_finding),
        guarded("Disk", lambda: checks.disk_finding(settings)),
        guarded("Images", checks.images_finding),
        guarded("Videos", checks.videos_finding),
        guarded("OpenCV", checks.opencv_finding),
        guarded("Extras", lambda: checks.extras_finding(settings)),
        guarded("Address", lambda: checks.port_finding(settings)),
    ]
    more, models, rates = _models(settings)
    return Report(findings=[*findings, *more], models=models, rates=rates)


def _models(settings: Settings) -> tuple[list[Finding], list[Outlook], DeviceSpeed | None]:
    """Check the device and the models; without torch, report that it is missing."""
    try:
        import torch  # noqa: F401

        from pipelines.compute.speed import measure_speed
    except ImportError as error:
        return [_not_installed("Models", error)], [], None
    store = PipelineStore(settings)
    device = checks.device_finding(store)
    hub = guarded("Hub", lambda: checks.hub_finding(store, settings))
    rest = [guarded("Demo models", checks.demo_finding), hub]
    if device.status == "missing":
        return [device, *rest], [], None
    rates = measure_speed(store.device)
    memory = guarded("Memory", lambda: checks.memory_finding(store))
    return [device, memory, *rest], checks.outlooks(store, rates, hub.status == "ok"), rates


def guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """Run a check; an error in it becomes a finding."""
    try:
        return check()
    except ImportError as error:
        return _not_installed(name, error)
    except Exception as error:
        return Finding(name, "missing", f"the check itself failed: {type(error).__name__}: {error}")


def _not_installed(name: str, error: ImportError) -> Finding:
    package = error.name or str(error)
    return Finding(name, "missing", f"cannot import {package}", checks.INSTALL)
