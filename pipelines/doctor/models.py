"""Device, memory, hub and models: what will run here, and how fast roughly. Torch-free."""

import time
from pathlib import Path

from pipelines.compute.device import machine_memory_bytes
from pipelines.core.errors import PipelineError
from pipelines.core.settings import Settings
from pipelines.doctor.report import Finding, Outlook, Rates, Status
from pipelines.models.catalogue import HUB_DEFAULTS, MODELS, ModelSpec
from pipelines.probe import Probe
from pipelines.serving.store import PipelineStore
from pipelines.weights.errors import source_endpoint
from pipelines.weights.files import is_complete
from pipelines.weights.locate import BUNDLE, PROBE_TIMEOUT_S

#: What an unreachable hub leaves to do.
HUB_MENDS = (
    "HTTPS_PROXY names a proxy, HF_ENDPOINT a mirror, --models-dir a folder with weights; "
    "without any, --models bundled"
)

#: Tokens that the model reads for one usual request of a task: a picture and a few labels; a
#: picture to be described; 8 frames of a video; 64 frames in the language model.
TOKENS_READ = {"image-text": 250, "caption": 300, "video-text": 2_000, "video-chat": 1_100}

#: Tokens that it writes.
TOKENS_WRITTEN = {"image-text": 0, "caption": 15, "video-text": 0, "video-chat": 60}

#: Operations of a video-chat model's vision tower over 64 frames: 0.3e9 weights, 1024 patches.
VISION_FLOPS = 2 * 0.3e9 * 64 * 1024


def device_finding(store: PipelineStore) -> Finding:
    """Return what computes, in which precision, and why; runs the self-test."""
    try:
        device = store.device
    except PipelineError as error:
        return Finding("Device", "missing", error.message, "--device auto")
    kind = {"cpu": "CPU", "cuda": "NVIDIA GPU", "mps": "Apple GPU"}[device.kind]
    return Finding("Device", "ok", f"{kind}, {device.dtype}: {device.reason}")


def memory_finding(store: PipelineStore) -> Finding:
    """Return how much memory there is, and how much of it models may take."""
    total, budget = machine_memory_bytes() / 1e9, store.budget_gb()
    free = free_memory_gb()
    told = f"{total:,.1f} GB" if free is None else f"{total:,.1f} GB, {free:,.1f} GB of it free"
    found = f"{told}; models may take {budget:,.1f} GB"
    smallest = min(store.need_gb(spec) for spec in MODELS if not spec.demo)
    if budget < min(store.need_gb(spec) for spec in MODELS):
        return Finding("Memory", "missing", f"{found}, less than any model needs", "--memory-gb 1")
    if budget < smallest:
        return Finding("Memory", "note", f"{found}: the demo models only", "--memory-gb takes more")
    return Finding("Memory", "ok", found)


def free_memory_gb() -> float | None:
    """Return the memory that programs can still have, where the system tells it."""
    file = Path("/proc/meminfo")
    if not file.is_file():
        return None
    for line in file.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / 1e9
    return None


def hub_finding(store: PipelineStore, settings: Settings) -> Finding:
    """Return whether weights can be downloaded; needed only where a setting asks for them."""
    defaults = [HUB_DEFAULTS[task][0] for task in HUB_DEFAULTS]
    here = all(store.sources.locate(spec) is not None for spec in defaults)
    needed = settings.models == "hub" and not here
    bad: Status = "missing" if needed else "note"
    if settings.offline:
        return Finding("Hub", bad, "forbidden by HF_HUB_OFFLINE", "unset HF_HUB_OFFLINE")
    endpoint, start = source_endpoint(settings), time.monotonic()
    probe = Probe(endpoint, PROBE_TIMEOUT_S)
    if probe.own_answer(PROBE_TIMEOUT_S + 0.5):
        return Finding("Hub", "ok", f"{endpoint} answers in {time.monotonic() - start:.1f} s")
    reason = probe.reason or f"no answer within {PROBE_TIMEOUT_S:g} s"
    return Finding("Hub", bad, f"{endpoint} cannot be reached ({reason})", HUB_MENDS)


def demo_finding(bundle: Path = BUNDLE) -> Finding:
    """Return whether the bundled checkpoints are whole."""
    demos = [spec for spec in MODELS if spec.demo]
    there = [spec for spec in demos if (bundle / spec.key).is_dir()]
    whole = [spec for spec in there if is_complete(bundle / spec.key, spec.stock_files)]
    damaged = [spec.key for spec in there if spec not in whole]
    if damaged or not whole:
        found = f"damaged: {', '.join(damaged)}" if damaged else "there are none"
        return Finding("Demo models", "missing", found, "git checkout assets/checkpoints")
    found = ", ".join(spec.key for spec in whole)
    absent = [spec.key for spec in demos if spec not in there]
    if absent:
        return Finding("Demo models", "note", f"{found}; its tab is hidden: {', '.join(absent)}")
    return Finding("Demo models", "ok", found)


def outlooks(store: PipelineStore, rates: Rates | None, hub_answers: bool) -> list[Outlook]:
    """Return what is to be expected of each model, in the order of the catalogue."""
    return [_outlook(store, spec, rates, hub_answers) for spec in MODELS]


def _outlook(
    store: PipelineStore, spec: ModelSpec, rates: Rates | None, hub_answers: bool
) -> Outlook:
    on_disk = store.sources.locate(spec) is not None
    need, budget = store.need_gb(spec), store.budget_gb()
    runs, why = True, ""
    if need > budget:
        runs, why = False, "too large"
    elif not on_disk and spec.demo:
        runs, why = False, "not bundled"
    elif not on_disk and not hub_answers:
        runs, why = False, "no weights, no hub"
    elif not on_disk:
        why = f"downloads {spec.download_gb:.1f} GB first"
    return Outlook(
        key=spec.key,
        task=spec.task,
        on_disk=on_disk,
        need_gb=round(need, 2),
        runs=runs,
        why=why,
        seconds=seconds_of(spec, need, rates) if rates is not None and need <= budget else None,
        is_default=runs and store.default_spec(spec.task) == spec,
    )


def seconds_of(spec: ModelSpec, need_gb: float, rates: Rates) -> float:
    """Return roughly how long one usual request takes once the model is loaded.

    Reading costs two operations for each weight and token, writing one pass over all weights
    for each token. Decoding the file, caches and batches are left out.

    Args:
        spec: the model.
        need_gb: memory of its weights on the device.
        rates: what was measured.
    """
    num_weights = spec.memory_gb * 1e9 / 4  # the catalogue tells the size in float32
    flops = 2 * num_weights * TOKENS_READ[spec.task]
    if spec.task == "video-chat" and not spec.demo:
        flops += VISION_FLOPS
    return flops / rates.flops + TOKENS_WRITTEN[spec.task] * need_gb * 1e9 / rates.read_bytes
