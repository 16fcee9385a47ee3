"""Weights from ModelScope through its library, which is optional."""

import os
from pathlib import Path

from pipelines.core.errors import WeightsError
from pipelines.core.spec import ModelSpec
from pipelines.weights.files import choose_files
from pipelines.weights.progress import DownloadMeter

#: Downloaded branch; the commits of the catalogue are those of the Hugging Face hub.
BRANCH = "master"

#: Hugging Face name -> ModelScope name, if they differ.
NAMES = {
    "openai/clip-vit-base-patch32": "openai-mirror/clip-vit-base-patch32",
    "openai/clip-vit-large-patch14": "AI-ModelScope/clip-vit-large-patch14",
    "OFA-Sys/chinese-clip-vit-base-patch16": "AI-ModelScope/chinese-clip-vit-base-patch16",
}


def modelscope_endpoint() -> str:
    """Return the address that the library uses."""
    named = os.environ.get("MODELSCOPE_ENDPOINT") or os.environ.get("MODELSCOPE_DOMAIN")
    address = (named or "modelscope.cn").rstrip("/")
    return address if "://" in address else f"https://{address}"


def modelscope_folders(spec: ModelSpec) -> list[Path]:
    """Return possible folders of a model in the caches of this and older library versions."""
    cache = os.environ.get("MODELSCOPE_CACHE")
    root = Path(cache).expanduser() if cache else Path.home() / ".cache" / "modelscope"
    owner, _, name = NAMES.get(spec.repo, spec.repo).partition("/")
    return [
        root / "models" / f"{owner}--{name}" / "snapshots" / BRANCH,
        *(
            root / old / name.replace(".", dot)
            for old in (f"models/{owner}", f"hub/models/{owner}", owner, f"hub/{owner}")
            for dot in ("___", ".")
        ),
    ]


def check_installed() -> None:
    """Raise `WeightsError` if the library is missing."""
    try:
        import modelscope  # noqa: F401
    except ImportError as error:
        raise WeightsError(
            "ModelScope was asked for (--source modelscope) but its library is not installed. "
            "Run `pip install modelscope`, or leave --source out to use the Hugging Face hub."
        ) from error


def fetch_from_modelscope(spec: ModelSpec, meter: DownloadMeter) -> None:
    """Download a checkpoint into ModelScope's cache; its library resumes partial files."""
    from modelscope import snapshot_download
    from modelscope.hub.api import HubApi
    from modelscope.hub.callback import ProgressCallback

    class Feed(ProgressCallback):
        """Adds received bytes to the meter; the library creates one for each file."""

        def update(self, size: int) -> None:
            meter.add(size)

    repo = NAMES.get(spec.repo, spec.repo)
    listed = HubApi().get_model_files(repo, revision=BRANCH)
    sizes = {str(entry["Path"]): int(entry.get("Size") or 0) for entry in listed}
    names = choose_files(sizes)
    meter.expect(sum(sizes[name] for name in names))
    snapshot_download(repo, revision=BRANCH, allow_patterns=names, progress_callbacks=[Feed])
