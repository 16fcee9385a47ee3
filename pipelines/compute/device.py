"""Device, dtype and memory budget: decided once, with the reason logged."""

import ctypes
import functools
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipelines.core.errors import PipelineError
from pipelines.core.settings import Settings

log = logging.getLogger(__name__)

#: bfloat16 must be at least this many times as fast as float32 to be worth its rounding.
WORTH_IT = 1.25

#: Where a container's memory limit is written, in version 2 and in version 1 of control groups.
CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

_IMPORTING = threading.Lock()


@dataclass(frozen=True)
class Device:
    """Where tensors live and in which floating-point type.

    Attributes:
        kind: "cpu", "cuda" or "mps".
        dtype: "float32" or "bfloat16".
        packed: whether Linear weights are prepacked for oneDNN (CPU, bfloat16).
        reason: why, in one line, for the log and for `doctor`-like reports.
    """

    kind: str
    dtype: str
    packed: bool
    reason: str


def choose_device(settings: Settings) -> Device:
    """Return the device that `settings` ask for, or the best there is.

    CUDA with compute capability 8.0 or more takes bfloat16, else float32; MPS takes float32; a
    CPU takes prepacked bfloat16 where a self-test of about a second shows that it is faster.

    Raises:
        PipelineError: the device that was asked for is not there.
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
    if gain >= WORTH_IT:
        return "bfloat16", True, f"prepacked bfloat16 is {gain:.1f} times as fast here"
    return "float32", False, f"prepacked bfloat16 is only {gain:.1f} times as fast here"


def memory_budget_gb(settings: Settings, kind: str) -> float:
    """Return how much memory all loaded models together may take, in GB (1e9 bytes)."""
    if settings.memory_gb:
        return settings.memory_gb
    if kind == "cuda":
        import torch

        return 0.7 * torch.cuda.mem_get_info(0)[1] / 1e9
    return 0.7 * machine_memory_bytes() / 1e9


def likely_budget_gb(settings: Settings) -> float:
    """Return what the budget will be at the least, without torch, which takes seconds to import.

    The device is not chosen yet: of the machine's memory and a GPU's the smaller one counts.
    """
    if settings.memory_gb:
        return settings.memory_gb
    may_be_cuda = settings.device in {"auto", "cuda"}
    sizes = [machine_memory_bytes(), *(_gpu_memory_bytes() if may_be_cuda else ())]
    return 0.7 * min(sizes) / 1e9


@functools.cache
def _gpu_memory_bytes() -> tuple[int, ...]:
    """Return the memory of each GPU that the driver's own tool knows; () where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    ask = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=3.0)
    except (OSError, subprocess.SubprocessError) as error:
        log.info("nvidia-smi does not answer: %s", type(error).__name__)
        return ()
    return tuple(int(line) * 2**20 for line in answer.stdout.split("\n") if line.isdigit())


def machine_memory_bytes() -> int:
    """Return the memory of this machine, or of the container it runs in where that is less."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:  # Windows has no sysconf: assume a small laptop, --memory-gb says otherwise
        total = 8_000_000_000
    for limit in CONTAINER_LIMITS:
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            total = min(total, int(text))
    return total


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the machine or of its GPU."""
    if isinstance(error, MemoryError):
        return True
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    # the CPU allocator of torch raises a bare RuntimeError
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def import_libraries() -> None:
    """Import torch and transformers; one thread does it and the others wait.

    Transformers replaces itself by a lazy module while it is imported: another thread that asks
    for a name of it meanwhile is told that there is none.
    """
    with _IMPORTING:
        import torch  # noqa: F401
        import transformers  # noqa: F401


def warm_up() -> threading.Thread:
    """Import torch and transformers in the background; returns the thread that does it."""

    def work() -> None:
        import_libraries()
        log.info("torch and transformers are imported")

    thread = threading.Thread(target=work, name="warm-up", daemon=True)
    thread.start()
    return thread


#: `omp_pause_soft` of OpenMP 5.0: what can be made anew is given up.
_SOFT = 1


def release_threads() -> None:
    """End the threads that OpenMP keeps for the next computation of the calling thread.

    It keeps some for every thread that has ever computed. While there are more of them than
    cores, GNU's OpenMP lets each sleep as soon as it waits, and wake up for each layer, which
    costs a decoding step a tenth of its time. Ending them costs microseconds, and so does starting
    them again. Does nothing inside a computation, and where torch uses another OpenMP. Not for a
    process that was forked by a thread that had computed: its threads are not there to end.
    """
    if "torch" in sys.modules and (pause := _pause()) is not None:
        pause(_SOFT)


@cache
def _pause() -> Callable[[int], int] | None:
    """Return `omp_pause_resource_all` of the library that torch has loaded; call it after that."""
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:
        return None
    return getattr(library, "omp_pause_resource_all", None)
