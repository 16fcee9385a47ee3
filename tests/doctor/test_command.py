"""`python app.py doctor`: true of this machine, readable, and 1 where something is missing."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.compute.device import Device
from pipelines.compute.speed import measure_speed
from pipelines.core.errors import PipelineError
from pipelines.core.results import DeviceSpeed
from pipelines.core.settings import Settings
from pipelines.doctor import checks, command
from pipelines.doctor import checks as models
from pipelines.doctor.report import WIDTH, Finding, Outlook, Report, as_text, duration
from pipelines.models.catalogue import MODELS
from pipelines.serving.store import PipelineStore
from pipelines.weights.locate import BUNDLE
from tests.support.app_process import FOREIGN, ROOT

pytestmark = pytest.mark.long

RATES = DeviceSpeed(flops=1e12, read_bytes=2e10, dtype="float32")


def doctor(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    env |= {"HF_HUB_OFFLINE": "1", **variables}
    return subprocess.run(
        [sys.executable, "app.py", "doctor", *flags],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=180,
    )  # fmt: skip


def settings(tmp_path: Path, **given: object) -> Settings:
    values = {"device": "cpu", "dtype": "float32", "offline": True, "work_dir": tmp_path / "work"}
    return Settings(**{**values, **given})  # type: ignore[arg-type]


def test_a_machine_that_runs_the_tests_is_well(tmp_path: Path) -> None:
    done = doctor("--work-dir", str(tmp_path / "work"), "--port", "0", "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert max(len(line) for line in done.stdout.splitlines()) <= WIDTH
    assert "Everything that SeeSay needs is here" in done.stdout
    rows = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("* ")}
    assert rows["demo-clip"].endswith("runs")


def test_json_holds_the_same_and_the_code_says_what_is_missing(tmp_path: Path) -> None:
    done = doctor("--json", "--work-dir", str(tmp_path / "work"), "--models", "hub", "--port", "0")
    assert done.returncode == 1, "--models hub with no hub and nothing on disk"
    report = json.loads(done.stdout)
    assert report["ok"] is False
    found = {finding["name"]: finding for finding in report["findings"]}
    assert found["Hub"]["status"] == "missing"
    assert "HF_HUB_OFFLINE" in found["Hub"]["mend"]
    assert {model["key"] for model in report["models"]} == {spec.key for spec in MODELS}
    assert report["rates"]["flops"] > 1e8
    by_key = {model["key"]: model for model in report["models"]}
    assert not by_key["clip-vit-b32"]["runs"]
    assert by_key["demo-clip"]["runs"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--jsn"], "unrecognized arguments: --jsn"),
        (["--models", "best"], "invalid choice"),
        (["--memory-gb", "-1"], "must be 0 or more"),
    ],
)
def test_bad_arguments_are_named(flags: list[str], said: str) -> None:
    done = doctor(*flags)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    report = command.examine(settings(tmp_path, device="mps", port=0))
    found = {finding.name: finding for finding in report.findings}
    assert (found["Device"].status, found["Device"].mend) == ("missing", "--device auto")
    assert not report.is_well
    assert list(report.models) == []
    assert "Missing: Device." in as_text(report)


def test_without_torch_the_rest_is_still_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    report = command.examine(settings(tmp_path, port=0))
    found = {finding.name: finding for finding in report.findings}
    assert found["Models"].status == "missing"
    assert found["Models"].mend == checks.INSTALL
    assert found["Videos"].status == "ok"
    assert not report.is_well


def test_opencv_without_its_system_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.opencv_finding().status == "ok"
    monkeypatch.delitem(sys.modules, "cv2")
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr(checks, "find_spec", lambda name: True)
    finding = checks.opencv_finding()
    assert (finding.status, finding.mend) == ("missing", "apt-get install libgl1 libglib2.0-0")


def test_without_any_package_it_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "app.py", "doctor", "--port", "0", "--work-dir", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert "not installed: gradio" in done.stdout
    assert f"-> {checks.INSTALL}" in done.stdout


def test_packages_that_lack_or_differ(tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text("# pins\nno-such-package-of-ours==1.0\npillow==0.1\n")
    finding = checks.packages_finding(pins)
    assert (finding.status, finding.mend) == ("missing", checks.INSTALL)
    assert "no-such-package-of-ours" in finding.found
    pins.write_text('pillow==0.1\nno-such-package==1; platform_machine == "vax"\n')
    finding = checks.packages_finding(pins)
    assert finding.status == "note"
    assert "instead of 0.1" in finding.found
    pins.write_text("numpy==" + checks._installed("numpy").split("+")[0])  # type: ignore
    assert checks.packages_finding(pins).status == "ok"


def test_an_old_python() -> None:
    assert checks.python_finding((3, 10)).status == "missing"
    assert checks.python_finding((3, 11)).status == "ok"


def test_a_disk_that_cannot_be_written_or_is_full(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    finding = checks.disk_finding(settings(tmp_path, work_dir=file / "work"))
    assert (finding.status, "--work-dir" in finding.mend) == ("missing", True)
    assert checks.disk_finding(settings(tmp_path, max_upload_mb=1e12)).status == "missing"
    assert checks.disk_finding(settings(tmp_path)).status in {"ok", "note"}


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = checks.port_finding(settings(tmp_path, port=port))
        assert (finding.status, "--port 0" in finding.mend) == ("note", True)
    assert checks.port_finding(settings(tmp_path, port=0)).status == "ok"
    assert checks.port_finding(settings(tmp_path, host="no.such.host")).status == "note"


def test_an_extra_that_a_setting_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert checks.extras_finding(settings(tmp_path)).status == "ok"
    finding = checks.extras_finding(settings(tmp_path, quantization="nf4"))
    assert (finding.status, finding.mend) == ("missing", "pip install bitsandbytes accelerate")
    finding = checks.extras_finding(settings(tmp_path, source="modelscope"))
    assert finding.mend == "pip install modelscope"


def test_a_demo_model_that_is_damaged(tmp_path: Path) -> None:
    """A clone without large files has pointers in place of weights."""
    assert models.demo_finding().status != "missing"
    bundle = tmp_path / "checkpoints"
    shutil.copytree(BUNDLE / "demo-clip", bundle / "demo-clip")
    assert models.demo_finding(bundle).status == "note"
    (bundle / "demo-clip" / "model.safetensors").write_bytes(b"version https://git-lfs")
    finding = models.demo_finding(bundle)
    assert (finding.status, "demo-clip" in finding.found) == ("missing", True)
    assert models.demo_finding(tmp_path / "nothing").status == "missing"


def test_a_hub_that_answers_and_one_that_does_not(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # refuses every connection
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        given = settings(tmp_path, offline=False, endpoint=endpoint)
        finding = models.hub_finding(PipelineStore(given), given)
        assert (finding.status, endpoint in finding.found) == ("note", True)
        assert "HF_ENDPOINT" in finding.mend
        hub_only = replace(given, models="hub")
        assert models.hub_finding(PipelineStore(hub_only), hub_only).status == "missing"


def test_models_that_fit_and_that_do_not(tmp_path: Path) -> None:
    store = PipelineStore(settings(tmp_path, memory_gb=1.0))
    found = {outlook.key: outlook for outlook in models.outlooks(store, RATES, True)}
    small, large = found["clip-vit-b32"], found["blip2-opt-2.7b"]
    assert (small.runs, small.why) == (True, "downloads 0.6 GB first")
    assert (large.runs, large.why, large.seconds) == (False, "too large", None)
    nowhere = {outlook.key: outlook for outlook in models.outlooks(store, RATES, False)}
    assert (nowhere["clip-vit-b32"].runs, nowhere["clip-vit-b32"].why) == (
        False,
        "no weights, no hub",
    )
    assert nowhere["demo-clip"].is_default


def test_memory_for_nothing(tmp_path: Path) -> None:
    store = PipelineStore(settings(tmp_path, memory_gb=0.001))
    assert models.memory_finding(store).status == "missing"
    assert models.memory_finding(PipelineStore(settings(tmp_path, memory_gb=0.1))).status == "note"
    assert models.memory_finding(PipelineStore(settings(tmp_path, memory_gb=100))).status == "ok"


def test_times_grow_with_the_model_and_shrink_with_the_rate() -> None:
    """Checked by hand: 2 x 3.75e9 weights x 300 tokens / 1e12, and 15 passes over 15 GB."""
    spec = next(spec for spec in MODELS if spec.key == "blip2-opt-2.7b")
    assert models.seconds_of(spec, 15.0, RATES) == pytest.approx(2.25 + 15 * 15e9 / 2e10)
    fast = replace(RATES, flops=1e13, read_bytes=2e11)
    assert models.seconds_of(spec, 15.0, fast) == pytest.approx(1.35, abs=0.01)


def test_rates_are_measured() -> None:
    rates = measure_speed(Device("cpu", "float32", False, "test"))
    assert 1e8 < rates.flops < 1e16
    assert 1e7 < rates.read_bytes < 1e14


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0.2, "under 1 s"), (3.4, "~ 3 s"), (47, "~ 50 s"), (200, "~ 3 min"),
     (7200, "~ 2 h")],
)  # fmt: skip
def test_times_are_no_more_exact_than_they_are(seconds: float | None, shown: str) -> None:
    outlook = Outlook("a", "caption", True, 1.0, True, "", seconds, False)
    assert duration(outlook) == shown


def test_the_page_of_the_worst_case_fits_its_width() -> None:
    findings = [Finding("Demo models", "missing", "word " * 60, "mend " * 40)]
    longest = max(MODELS, key=lambda spec: len(spec.key))
    rows = [
        Outlook(longest.key, longest.task, False, 36.4, True, "downloads 17.2 GB first", 59.0, True)
    ]
    text = as_text(Report(findings, rows, RATES))
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert text.endswith("Missing: Demo models. The lines after -> mend it; then ask again.\n")


def test_a_look_that_breaks_is_a_finding() -> None:
    def breaks() -> Finding:
        raise PipelineError("nothing works", title="No")

    def lacks() -> Finding:
        import no_such_module_of_ours  # noqa: F401

        raise AssertionError

    assert command.guarded("A", breaks).status == "missing"
    finding = command.guarded("B", lacks)
    assert (finding.found, finding.mend) == (
        "cannot import no_such_module_of_ours",
        checks.INSTALL,
    )
