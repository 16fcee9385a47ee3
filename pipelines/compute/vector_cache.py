"""Cache of vectors in memory and in an SQLite file, by model and content, bounded in bytes.

The file keeps the vectors of texts over a restart and over the unloading of an unused model.
"""

import hashlib
import json
import logging
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
import transformers

from pipelines.compute.device import Device
from pipelines.compute.lru import LruCache, first_positions

log = logging.getLogger(__name__)

MEMORY_BYTES = 256_000_000
DISK_BYTES = 1_000_000_000

#: Errors of a file that is damaged, locked or on a full disk; the message of a damaged one may
#: itself not be decodable.
_UNUSABLE = (sqlite3.Error, OSError, UnicodeDecodeError)

#: Connections that a forked process inherited and must not close.
_INHERITED: list[sqlite3.Connection] = []


class VectorCache:
    """Cache of vectors by text keys, of which only hashes are stored.

    The memory holds the most recently used vectors. The file survives a restart; where it cannot
    be written, the memory alone serves.
    """

    def __init__(
        self,
        file: Path,
        model: str,
        *,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        """Open the cache of `model` (a fingerprint of its weights)."""
        self._model = model
        self._memory: LruCache[bytes, torch.Tensor] = LruCache(
            memory_bytes, lambda vector: vector.nbytes
        )
        self._file = _VectorFile(file, disk_bytes)

    def get(
        self, keys: Sequence[str], compute: Callable[[list[int]], torch.Tensor]
    ) -> torch.Tensor:
        """Return the vectors of N keys, (N, D) float32 on the CPU.

        `compute` is called with the positions of the missing keys and returns their (M, D) float32.
        """
        digests = [self._digest(key) for key in keys]
        found = self._find(digests)
        missing = first_positions(digests, found)
        if missing:
            fresh = dict(zip(missing, compute([*missing.values()]), strict=True))
            self.update(fresh)
            found.update(fresh)
        return torch.stack([found[digest] for digest in digests])

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Return the first position of each key that is not cached."""
        digests = [self._digest(key) for key in keys]
        return list(first_positions(digests, self._find(digests)).values())

    def snapshot(self) -> dict[bytes, torch.Tensor]:
        """Return the vectors in memory by digest."""
        return self._memory.snapshot()

    def update(self, values: Mapping[bytes, torch.Tensor]) -> None:
        """Put vectors by their digests into memory and file."""
        self._keep(values)
        self._file.write(values)

    def enter_worker(self, kind: str) -> None:
        """Leave the file to the process that opened it: a forked one must not touch it."""
        self._file.leave_to_parent()

    def close(self) -> None:
        """Close the file; the cache in memory remains."""
        self._file.close()

    def _digest(self, key: str) -> bytes:
        text = f"{self._model}\0{key}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=20).digest()

    def _find(self, digests: Sequence[bytes]) -> dict[bytes, torch.Tensor]:
        found = self._memory.find(digests)
        if absent := first_positions(digests, found):
            loaded = self._file.read([*absent])
            self._keep(loaded)
            found.update(loaded)
        return found

    def _keep(self, vectors: Mapping[bytes, torch.Tensor]) -> None:
        for digest, vector in vectors.items():
            self._memory.put(digest, vector.clone())  # a row would keep its whole matrix


class _VectorFile:
    """SQLite file of vectors, bounded in bytes; after a failure it stays closed."""

    def __init__(self, file: Path, max_bytes: int) -> None:
        self._disk = _open(file)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._opened_by = os.getpid()

    def read(self, digests: Sequence[bytes]) -> dict[bytes, torch.Tensor]:
        """Return the vectors that are in the file, by their digests."""
        loaded: dict[bytes, torch.Tensor] = {}
        with self._lock:
            if self._disk is None:
                return loaded
            try:
                for start in range(0, len(digests), 500):
                    part = digests[start : start + 500]
                    marks = ",".join("?" * len(part))
                    rows: Iterable[tuple[bytes, object]] = self._disk.execute(
                        f"SELECT digest, vector FROM vectors WHERE digest IN ({marks})", part
                    )
                    for key, blob in rows:
                        if _is_whole(blob):
                            values = np.frombuffer(blob, "<f4", offset=4)
                            loaded[key] = torch.from_numpy(values.copy())
            except _UNUSABLE as error:
                self._give_up(error)
        return loaded

    def write(self, vectors: Mapping[bytes, torch.Tensor]) -> None:
        """Write vectors by their digests; where the file grows too large its older half goes."""
        rows = [(digest, _blob(vector)) for digest, vector in vectors.items()]
        with self._lock:
            if self._disk is None:
                return
            try:
                with self._disk:
                    self._disk.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
                    if _size_bytes(self._disk) > self._max_bytes:
                        self._disk.execute(
                            "DELETE FROM vectors WHERE rowid IN (SELECT rowid FROM vectors "
                            "ORDER BY rowid LIMIT (SELECT COUNT(*) / 2 FROM vectors))"
                        )
            except _UNUSABLE as error:
                self._give_up(error)

    def leave_to_parent(self) -> None:
        if self._disk is not None and self._opened_by != os.getpid():
            _INHERITED.append(self._disk)  # closing it would close the parent's connection
            self._disk = None

    def close(self) -> None:
        with self._lock:
            if self._disk is not None:
                self._disk.close()
                self._disk = None

    def _give_up(self, error: Exception) -> None:
        log.warning("The cache of text vectors is not usable, going on without: %s", error)
        if self._disk is not None:
            self._disk.close()
        self._disk = None


def _size_bytes(disk: sqlite3.Connection) -> int:
    """Return the size of the pages in use; adding up the rows would read the whole file."""
    pages, free, size = (
        int(disk.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _blob(vector: torch.Tensor) -> bytes:
    """Return the stored form of a vector: its checksum, then its values."""
    values = vector.numpy().astype("<f4").tobytes()
    return zlib.crc32(values).to_bytes(4, "little") + values


def _is_whole(blob: object) -> TypeGuard[bytes]:
    return isinstance(blob, bytes) and zlib.crc32(blob[4:]).to_bytes(4, "little") == blob[:4]


def _open(file: Path) -> sqlite3.Connection | None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        disk = sqlite3.connect(file, check_same_thread=False, timeout=5)
        disk.execute("PRAGMA journal_mode=WAL")
        disk.execute("PRAGMA synchronous=NORMAL")
        disk.execute("CREATE TABLE IF NOT EXISTS vectors (digest BLOB UNIQUE, vector BLOB)")
    except _UNUSABLE as error:
        log.warning("The cache of text vectors, %s, is not usable, delete it: %s", file, error)
        return None
    return disk


def fingerprint(folder: Path, device: Device, *how: object) -> str:
    """Return a hash of a model's files, device and `how`, other values that vectors depend on."""
    parts = []
    for file in sorted(folder.iterdir()):
        if file.suffix in {".json", ".safetensors", ".bin", ".pth", ".txt"}:
            stat = file.stat()
            parts.append((file.name, file.resolve().name, stat.st_size, stat.st_mtime_ns))
    text = json.dumps([parts, device.kind, device.dtype, transformers.__version__, *how])
    return hashlib.sha256(text.encode()).hexdigest()
