"""Files of a checkpoint: selection, completeness and revision."""

import hashlib
import json
import re
from collections.abc import Iterable, Set
from functools import lru_cache
from pathlib import Path

from pipelines.core.spec import ModelSpec, StockFile

#: Configuration, processor and tokenizer; InstructBLIP has a second tokenizer in a folder.
_SMALL = re.compile(r"(qformer_tokenizer/)?[^/]+\.(json|txt|jinja|model)")

#: Formats of weights, in one file or in numbered parts, the preferred one first.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")

#: Alternative rows of files; a checkpoint needs one row of each kind.
_STOCK_FILES: dict[StockFile, tuple[tuple[str, ...], ...]] = {
    "image processor": (("preprocessor_config.json",), ("processor_config.json",)),
    "tokenizer": (
        ("tokenizer.json",),
        ("vocab.json", "merges.txt"),
        ("vocab.txt",),
        ("tokenizer.model",),
        ("spiece.model",),
    ),
}

#: First bytes of a placeholder of Git LFS.
_LFS_POINTER = b"version https://git-lfs"


def choose_files(names: Iterable[str]) -> list[str]:
    """Return the files of a repository to download, with weights in one format."""
    names = sorted(names)
    small = [name for name in names if _SMALL.fullmatch(name)]
    for kind in _WEIGHTS:
        stem, _, ending = kind.rpartition(".")
        parts = re.compile(rf"{stem}(-\d+-of-\d+)?\.{ending}")
        weights = [name for name in names if parts.fullmatch(name)]
        if weights:
            return small + weights
    return small


def is_complete(
    folder: Path, stock_files: Set[StockFile] = frozenset({"image processor", "tokenizer"})
) -> bool:
    """Return whether a folder has configuration, `stock_files` and complete weights.

    Takes about a millisecond: only the headers of the weights are read.
    """
    if not (folder / "config.json").is_file():
        return False
    for kind in stock_files:
        rows = _STOCK_FILES[kind]
        if not any(all((folder / name).is_file() for name in names) for names in rows):
            return False
    try:
        return any(_has_weights(folder, kind) for kind in _WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # an invalid index or header


def _has_weights(folder: Path, kind: str) -> bool:
    if (folder / kind).is_file():
        return _is_whole(folder / kind)
    index = folder / f"{kind}.index.json"
    if not index.is_file():
        return False
    parts = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    return bool(parts) and all(_is_whole(folder / part) for part in parts)


def _is_whole(weights: Path) -> bool:
    """Return whether a file of weights is complete; a pickle is only checked for a placeholder."""
    if not weights.is_file():
        return False
    with weights.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
        if not start or start == _LFS_POINTER:
            return False
        if weights.suffix != ".safetensors":
            return True
        # eight bytes of length, a header in JSON, then the tensors one after the other
        header_bytes = int.from_bytes(start[:8], "little")
        size = weights.stat().st_size
        if header_bytes + 8 > size:
            return False
        file.seek(8)
        header = json.loads(file.read(header_bytes))
    ends = [value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"]
    return size == 8 + header_bytes + max(ends, default=0)


def weights_revision(spec: ModelSpec, folder: Path | None) -> str:
    """Return an identifier of a model's weights: the commit, or a hash for a bundled model."""
    if not spec.demo or folder is None:
        return spec.revision
    file = folder / "model.safetensors"
    return _digest(file, file.stat().st_mtime_ns)


@lru_cache
def _digest(file: Path, changed_ns: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
