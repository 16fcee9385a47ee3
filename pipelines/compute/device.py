"""Device, dtype and memory budget."""

import functools
import logging
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from pipelines.core.errors import PipelineError
from pipelines.core.settings import Settings

log = logging.getLogger(__name__)

#: Minimum speed of bfloat16 relative to float32 that justifies its rounding.
MIN_GAIN = 1.25

#: Files with the memory limit of a container: control groups version 2 and version 1.
CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

_IMPORTING = threading.Lock()


@dataclass(frozen=True)
class Device:
    """Device and floating-point type of tensors.

    `kind` is "cpu", "cuda" or "mps", `dtype` "float32" or "bfloat16". `packed` states whether
    Linear weights are prepacked for oneDNN (CPU, bfloat16); `reason` is for the log and the doctor.
    """

    kind: str
    dtype: str
    packed: bool
    reason: str


def choose_device(settings: Settings) -> Device:
    """Return the device of the settings, or the best available one.

    CUDA uses bfloat16 from compute capability 8.0 on, else float32; MPS uses float32; a CPU uses
    prepacked bfloat16 if it is faster in a self-test of about a second.

    Raises:
        PipelineError: the device of the settings is not available.
    """
    kind, why = _choose_kind(settings)
    dtype, packed, reason = _choose_dtype(kind, settings)
    device = Device(kind, dtype, packed, f"{why}; {reason}")
    log.info("Compute device: %s, %s (%s)", device.kind, device.dtype, device.reason)
    return device


def _choose_kind(settings: Settings) -> tuple[str, str]:
    import torch

    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if settings.device != "auto":
        if {"cpu": True, "cuda": has_cuda, "mps": has_mps}[settings.device]:
            return settings.device, "asked for"
        raise PipelineError(
            "--device is {device} but torch finds no such device. Start SeeSay with --device "
            "auto, or install a torch build for it.",
            device=settings.device,
            title="No such device",
        )
    if has_cuda:
        return "cuda", torch.cuda.get_device_name(0)
    return ("mps", "Apple GPU found") if has_mps else ("cpu", "no GPU found")


def _choose_dtype(kind: str, settings: Settings) -> tuple[str, bool, str]:
    import torch

    from pipelines.compute import packed_linear

    if settings.dtype == "float32":
        return "float32", False, "float32 asked for"
    if settings.dtype == "bfloat16":
        return "bfloat16", kind == "cpu" and packed_linear.can_pack(), "bfloat16 asked for"
    if kind == "cuda":
        major, minor = torch.cuda.get_device_capability(0)
        name = "bfloat16" if major >= 8 else "float32"
        return name, False, f"compute capability {major}.{minor}"
    if kind == "mps":
        return "float32", False, "float32 on Apple GPUs"
    gain = packed_linear.bfloat16_gain()
    if gain >= MIN_GAIN:
        return "bfloat16", True, f"prepacked bfloat16 is {gain:.1f} times as fast here"
    return "float32", False, f"prepacked bfloat16 is only {gain:.1f} times as fast here"


def memory_budget_gb(settings: Settings, kind: str) -> float:
    """Return the memory budget of all loaded models in GB (1e9 bytes)."""
    if settings.memory_gb:
        return settings.memory_gb
    if kind == "cuda":
        import torch

        return 0.7 * torch.cuda.mem_get_info(0)[1] / 1e9
    return 0.7 * machine_memory_bytes() / 1e9


def likely_budget_gb(settings: Settings) -> float:
    """Return a lower bound of the memory budget in GB, without importing torch.

    The device is not known yet: the smaller one of the machine's and a GPU's memory counts.
    """
    if settings.memory_gb:
        return settings.memory_gb
    may_be_cuda = settings.device in {"auto", "cuda"}
    sizes = [machine_memory_bytes(), *(_gpu_memory_bytes() if may_be_cuda else ())]
    return 0.7 * min(sizes) / 1e9


@functools.cache
def _gpu_memory_bytes() -> tuple[int, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=3.0).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.info("nvidia-smi failed: %s", type(error).__name__)
        return ()
    return tuple(int(line) * 2**20 for line in output.split("\n") if line.isdigit())


def machine_memory_bytes() -> int:
    """Return the memory of the machine, or the limit of its container if that is less."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:  # Windows has no sysconf: assume a small laptop, --memory-gb says otherwise
        total = 8_000_000_000
    for limit in CONTAINER_LIMITS:
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            total = min(total, int(text))
    return total


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the machine or its GPU is out of memory."""
    if isinstance(error, MemoryError):
        return True
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    # the CPU allocator of torch raises a bare RuntimeError
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def import_libraries() -> None:
    """Import torch and transformers in one thread at a time.

    Transformers replaces itself by a lazy module during its import; a concurrent import of one of
    its names in another thread would fail.
    """
    with _IMPORTING:
        import torch  # noqa: F401
        import transformers  # noqa: F401


def warm_up() -> threading.Thread:
    """Import torch and transformers in a background thread, which is returned."""

    def work() -> None:
        import_libraries()
        log.info("torch and transformers are imported")

    thread = threading.Thread(target=work, name="warm-up", daemon=True)
    thread.start()
    return thread
