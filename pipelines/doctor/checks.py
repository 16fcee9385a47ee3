"""Checks of the doctor: Python, packages, disk, decoders, port, device, models."""

import platform
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from pipelines.compute.device import machine_memory_bytes
from pipelines.core.errors import PipelineError
from pipelines.core.results import DeviceSpeed
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.doctor.report import Finding, Outlook, Status
from pipelines.models.catalogue import HUB_DEFAULTS, MODELS
from pipelines.serving.store import PipelineStore
from pipelines.serving.work_dir import no_uploads_because
from pipelines.weights.errors import source_endpoint
from pipelines.weights.files import is_complete
from pipelines.weights.locate import BUNDLE, PROBE_TIMEOUT_S, Probe

ROOT = Path(__file__).parent.parent.parent

#: Packages that SeeSay runs without: for agents, and the second decoder of videos.
OPTIONAL = frozenset({"mcp", "decord"})

#: The command that installs what is pinned.
INSTALL = "pip install -r requirements.txt"

#: Video codecs that most files are in, by the names that FFmpeg gives their decoders.
CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4")

_PIN = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)==(?P<version>[^;\s]+)(?P<rest>.*)")


def python_finding(version: tuple[int, ...] = sys.version_info[:2]) -> Finding:
    """Check that this Python is new enough."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if version < (3, 11):
        return Finding("Python", "missing", found, "install Python 3.11 or newer")
    return Finding("Python", "ok", found)


def packages_finding(requirements: Path = ROOT / "requirements.txt") -> Finding:
    """Check that the pinned packages are installed in the pinned versions."""
    absent, other, total = [], [], 0
    for name, version, everywhere in _pins(requirements):
        total += 1
        have = _installed(name)
        if have is None and everywhere:
            absent.append(name)
        elif have is not None and have.partition("+")[0] != version:
            other.append(f"{name} {have} instead of {version}")
    if set(absent) - OPTIONAL:
        return Finding("Packages", "missing", f"not installed: {', '.join(absent)}", INSTALL)
    if absent or other:
        other += [f"{name} is not installed, and not needed by most" for name in absent]
        return Finding("Packages", "note", "; ".join(other), INSTALL)
    return Finding("Packages", "ok", f"{total} of requirements.txt, as pinned")


def _pins(requirements: Path) -> Iterator[tuple[str, str, bool]]:
    """Yield (name, version, whether it is needed on every machine)."""
    for line in requirements.read_text(encoding="utf-8").splitlines():
        match = _PIN.match(line.strip())
        if match:
            yield match["name"], match["version"], ";" not in match["rest"]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def disk_finding(settings: Settings) -> Finding:
    """Check that uploads can be written, and the free space of the disks."""
    trouble = no_uploads_because(settings)
    if trouble:
        return Finding("Disk", "missing", trouble, "name another folder: --work-dir FOLDER")
    free = {
        what: shutil.disk_usage(_existing(folder)).free / 1e9
        for what, folder in (("uploads", settings.work_dir), ("weights", weights_folder()))
    }
    found = ", ".join(f"{gb:,.0f} GB free for {what}" for what, gb in free.items())
    if free["weights"] < 2:
        mend = "models are downloaded to HF_HOME: let it name a folder on a larger disk"
        return Finding("Disk", "note", found, mend)
    return Finding("Disk", "ok", found)


def weights_folder() -> Path:
    """Return the folder that weights are downloaded to."""
    if find_spec("huggingface_hub") is None:
        return Path.home()
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def images_finding() -> Finding:
    """Check that an image can be decoded; list the formats."""
    from PIL import features

    from pipelines.media.images import open_image

    picture = ROOT / "assets" / "examples" / "red-circle.png"
    if not picture.is_file():
        return Finding("Images", "missing", "the example pictures are gone", "git checkout assets")
    size = open_image(picture).size
    optional = [name for name in ("webp", "avif") if features.check(name)]
    formats = ", ".join(["PNG, JPEG, GIF, BMP, TIFF", *(name.upper() for name in optional)])
    return Finding("Images", "ok", f"{formats}; one of {size[0]} x {size[1]} pixels was decoded")


def videos_finding() -> Finding:
    """Check that a video can be decoded; list the codecs."""
    import av

    from pipelines.media.video.open import open_video

    file = ROOT / "assets" / "examples" / "circle-moves-left.mp4"
    if not file.is_file():
        return Finding("Videos", "missing", "the example videos are gone", "git checkout assets")
    with open_video(file) as reader:
        frames = reader.frames_at([0, 1])
    codecs = [name for name in CODECS if _decodes(name)]
    fallback = "with" if find_spec("decord") else "without"
    found = (
        f"PyAV {av.__version__} reads {', '.join(codecs)}; {len(frames.pixels)} frames were "
        f"decoded; {fallback} decord as the second decoder"
    )
    lacking = [name for name in CODECS if name not in codecs]
    if lacking:
        return Finding("Videos", "note", f"{found}; not: {', '.join(lacking)}", INSTALL)
    return Finding("Videos", "ok", found)


def opencv_finding() -> Finding:
    """Check that OpenCV and the system libraries that it is linked against can be loaded."""
    try:
        import cv2
    except ImportError as error:
        if find_spec("cv2") is None:
            raise
        libraries = (ROOT / "packages.txt").read_text("utf-8").split()
        return Finding("OpenCV", "missing", str(error), f"apt-get install {' '.join(libraries)}")
    return Finding("OpenCV", "ok", f"{cv2.__version__}, for frames of videos and heat maps")


def _decodes(codec: str) -> bool:
    import av

    try:
        av.codec.Codec(codec, "r")
    except ValueError:  # PyAV's UnknownCodecError is one
        return False
    return True


def port_finding(settings: Settings) -> Finding:
    """Check that the port is free."""
    where = f"{settings.host}:{settings.port}"
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((settings.host, settings.port))
    except OSError as error:
        reason = (error.strerror or "no such address").lower()
        mend = "--port 0 takes a free one; --host 127.0.0.1 is always there"
        return Finding("Address", "note", f"{where}: {reason}; SeeSay may run already", mend)
    return Finding("Address", "ok", f"{where} is free")


def extras_finding(settings: Settings) -> Finding:
    """Return which optional packages are there; one that a setting asks for is needed."""
    wanted = {
        "bitsandbytes": settings.quantization != "none",
        "accelerate": settings.quantization != "none",
        "modelscope": settings.source == "modelscope",
    }
    absent = [name for name in wanted if find_spec(name) is None]
    needed = [name for name in absent if wanted[name]]
    if needed:
        found = f"asked for, but not installed: {', '.join(needed)}"
        return Finding("Extras", "missing", found, f"pip install {' '.join(needed)}")
    there = [name for name in wanted if name not in absent]
    return Finding("Extras", "ok", f"{', '.join(there) or 'none'} (none is needed)")


#: Remedies for an unreachable hub.
HUB_MENDS = (
    "HTTPS_PROXY names a proxy, HF_ENDPOINT a mirror, --models-dir a folder with weights; "
    "without any, --models bundled"
)

#: Tokens that the model reads in one usual request of a task: an image and a few labels; an
#: image to describe; 8 frames of a video; 64 frames in the language model.
TOKENS_READ = {"image-text": 250, "caption": 300, "video-text": 2_000, "video-chat": 1_100}

#: Tokens that it writes.
TOKENS_WRITTEN = {"image-text": 0, "caption": 15, "video-text": 0, "video-chat": 60}

#: Operations of a video-chat model's vision tower over 64 frames: 0.3e9 weights, 1024 patches.
VISION_FLOPS = 2 * 0.3e9 * 64 * 1024


def device_finding(store: PipelineStore) -> Finding:
    """Report the device, its precision and the reason; runs the self-test."""
    try:
        device = store.device
    except PipelineError as error:
        return Finding("Device", "missing", error.message, "--device auto")
    kind = {"cpu": "CPU", "cuda": "NVIDIA GPU", "mps": "Apple GPU"}[device.kind]
    return Finding("Device", "ok", f"{kind}, {device.dtype}: {device.reason}")


def memory_finding(store: PipelineStore) -> Finding:
    """Report the memory of the machine and the budget of models."""
    total, budget = machine_memory_bytes() / 1e9, store.budget_gb()
    free = free_memory_gb()
    memory = f"{total:,.1f} GB" + ("" if free is None else f", {free:,.1f} GB of it free")
    found = f"{memory}; models may take {budget:,.1f} GB"
    smallest = min(store.need_gb(spec) for spec in MODELS if not spec.demo)
    if budget < min(store.need_gb(spec) for spec in MODELS):
        return Finding("Memory", "missing", f"{found}, less than any model needs", "--memory-gb 1")
    if budget < smallest:
        return Finding("Memory", "note", f"{found}: the demo models only", "--memory-gb takes more")
    return Finding("Memory", "ok", found)


def free_memory_gb() -> float | None:
    """Return the available memory in GB, None where the system does not report it."""
    file = Path("/proc/meminfo")
    if not file.is_file():
        return None
    for line in file.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / 1e9
    return None


def hub_finding(store: PipelineStore, settings: Settings) -> Finding:
    """Check that weights can be downloaded, if a setting needs that."""
    defaults = [HUB_DEFAULTS[task][0] for task in HUB_DEFAULTS]
    here = all(store.sources.locate(spec) is not None for spec in defaults)
    needed = settings.models == "hub" and not here
    bad: Status = "missing" if needed else "note"
    if settings.offline:
        return Finding("Hub", bad, "forbidden by HF_HUB_OFFLINE", "unset HF_HUB_OFFLINE")
    endpoint, start = source_endpoint(settings), time.monotonic()
    probe = Probe(endpoint, PROBE_TIMEOUT_S)
    if probe.result(PROBE_TIMEOUT_S + 0.5):
        return Finding("Hub", "ok", f"{endpoint} answers in {time.monotonic() - start:.1f} s")
    reason = probe.reason or f"no answer within {PROBE_TIMEOUT_S:g} s"
    return Finding("Hub", bad, f"{endpoint} cannot be reached ({reason})", HUB_MENDS)


def demo_finding(bundle: Path = BUNDLE) -> Finding:
    """Check that the bundled checkpoints are complete."""
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


def outlooks(store: PipelineStore, rates: DeviceSpeed | None, hub_answers: bool) -> list[Outlook]:
    """Return the forecast for each model, in the order of the catalogue."""
    return [_outlook(store, spec, rates, hub_answers) for spec in MODELS]


def _outlook(
    store: PipelineStore, spec: ModelSpec, rates: DeviceSpeed | None, hub_answers: bool
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


def seconds_of(spec: ModelSpec, need_gb: float, rates: DeviceSpeed) -> float:
    """Estimate the seconds of a usual request once the model, of `need_gb`, is loaded.

    Reading costs two operations per weight and token, writing one pass over all weights per
    token. Decoding of the file, caches and batches are left out.
    """
    num_weights = spec.memory_gb * 1e9 / 4  # the catalogue gives the size in float32
    flops = 2 * num_weights * TOKENS_READ[spec.task]
    if spec.task == "video-chat" and not spec.demo:
        flops += VISION_FLOPS
    return flops / rates.flops + TOKENS_WRITTEN[spec.task] * need_gb * 1e9 / rates.read_bytes
