"""What tells the weights of a model from others of the same key. Torch-free."""

import hashlib
from functools import lru_cache
from pathlib import Path

from pipelines.core.spec import ModelSpec
from pipelines.weights.locate import Sources


def weights_revision(spec: ModelSpec, folder: Path | None) -> str:
    """Return what tells these weights from others of the same key: a commit, or a hash of them.

    Args:
        spec: the model.
        folder: of its files; of a bundled model they are read.
    """
    if not spec.demo or folder is None:
        return spec.revision
    file = folder / "model.safetensors"
    return _digest(file, file.stat().st_mtime_ns)


def revision_of(sources: Sources, spec: ModelSpec) -> str:
    """Return what tells the weights that `sources` has of a model from others of its key."""
    return weights_revision(spec, sources.locate(spec))


@lru_cache
def _digest(file: Path, changed_ns: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
