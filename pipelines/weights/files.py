"""Which files make a checkpoint: what is fetched of a repository, what a folder has to hold."""

import json
import re
from collections.abc import Iterable, Set
from pathlib import Path

from pipelines.core.spec import StockFile

#: Configuration, processor and tokenizer; InstructBLIP has a second tokenizer in a folder.
_SMALL = re.compile(r"(qformer_tokenizer/)?[^/]+\.(json|txt|jinja|model)")

#: Weights, in one file or in numbered parts: the kinds there are, the better one first.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


#: Of each kind one row is needed.
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

#: How a file begins that Git LFS left in place of the real one.
_LFS_POINTER = b"version https://git-lfs"


def choose_files(names: Iterable[str]) -> list[str]:
    """Return those files of a repository that are fetched: of the weights one kind only."""
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
    """Whether `folder` holds configuration, `stock_files` and all of its weights.

    Takes about a millisecond: of the weights only the beginning is read.

    Args:
        folder: where a checkpoint may be.
        stock_files: what it must hold beside configuration and weights.
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
        return False  # an index or a header that is no JSON, or not of the expected form


def _has_weights(folder: Path, kind: str) -> bool:
    if (folder / kind).is_file():
        return _is_whole(folder / kind)
    index = folder / f"{kind}.index.json"
    if not index.is_file():
        return False
    parts = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    return bool(parts) and all(_is_whole(folder / part) for part in parts)


def _is_whole(weights: Path) -> bool:
    """Whether a file of weights is there to its end; a pickle shows only that it is no stub."""
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
