"""Python, packages, disk, decoders, port: what does not depend on a model. Torch-free."""

import platform
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from pipelines.core.settings import Settings
from pipelines.doctor.report import Finding
from pipelines.upload_room import no_uploads_because

ROOT = Path(__file__).parent.parent.parent

#: Packages that SeeSay runs without: agents, and the second decoder of videos.
OPTIONAL = frozenset({"mcp", "decord"})

#: The command that installs what is pinned.
INSTALL = "pip install -r requirements.txt"

#: Video codecs that most files are in, by the names that FFmpeg gives their decoders.
CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4")

_PIN = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)==(?P<version>[^;\s]+)(?P<rest>.*)")


def python_finding(version: tuple[int, ...] = sys.version_info[:2]) -> Finding:
    """Return whether this Python is new enough."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if version < (3, 11):
        return Finding("Python", "missing", found, "install Python 3.11 or newer")
    return Finding("Python", "ok", found)


def packages_finding(requirements: Path = ROOT / "requirements.txt") -> Finding:
    """Return whether what is pinned is installed, in the pinned versions."""
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
    """Yield name, version, and whether it is needed on every machine."""
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
    """Return whether uploads can be written, and how much room the disks have."""
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
    """Return the folder itself, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def images_finding() -> Finding:
    """Return whether a picture can be decoded, and which formats can."""
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
    """Return whether a video can be decoded, and which codecs can."""
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


def _decodes(codec: str) -> bool:
    import av

    try:
        av.codec.Codec(codec, "r")
    except ValueError:  # PyAV's UnknownCodecError is one
        return False
    return True


def port_finding(settings: Settings) -> Finding:
    """Return whether the port can be listened to."""
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
