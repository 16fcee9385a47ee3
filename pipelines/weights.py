"""What tells the weights of a model from others of the same key. Torch-free."""

import hashlib

from pipelines.catalogue import ModelSpec
from pipelines.sources import Sources


def revision_of(sources: Sources, spec: ModelSpec) -> str:
    """Return the revision of a model, or for a bundled one 16 digits that tell its weights."""
    folder = sources.locate(spec) if spec.demo else None
    if folder is None:
        return spec.revision
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]
