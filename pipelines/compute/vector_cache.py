"""Vectors kept: in memory and on disk, found by model and content, bounded in size."""

import hashlib
import json
import logging
import os
import sqlite3
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers

from pipelines.compute.device import Device

log = logging.getLogger(__name__)

MEMORY_BYTES = 256_000_000
DISK_BYTES = 1_000_000_000


#: What comes of a file that is damaged, locked or on a full disk; the message of a damaged one
#: may itself not be decodable.
_UNUSABLE = (sqlite3.Error, OSError, UnicodeDecodeError)


#: Connections that a forked process was born with.
_LEFT_ALONE: list[sqlite3.Connection] = []


class VectorCache:
    """Keeps vectors by a key; only a hash of the key is stored, never the text.

    The memory holds the most recently used ones. The disk (one SQLite file) survives a restart;
    where it cannot be written, the memory alone serves.
    """

    def __init__(
        self,
        file: Path | None,
        model: str,
        *,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        """Keep vectors of `model` (a fingerprint of its weights) in `file`, or nowhere."""
        self._model = model
        self._memory: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._memory_bytes = memory_bytes
        self._disk_bytes = disk_bytes
        self._held = 0
        self._lock = threading.Lock()
        self._disk = _open(file) if file else None
        self._opened_by = os.getpid()

    def get(
        self, keys: Sequence[str], compute: Callable[[list[int]], torch.Tensor]
    ) -> torch.Tensor:
        """Return the vectors of `keys`, computing only those that are nowhere kept.

        Args:
            keys: N keys.
            compute: called with the positions of the missing keys; returns (M, D) float32.

        Returns:
            (N, D) float32 on the CPU.
        """
        digests = [self._digest(key) for key in keys]
        with self._lock:
            found = {digest: self._touch(digest) for digest in digests if digest in self._memory}
            self._from_disk([digest for digest in digests if digest not in found], found)
        missing: dict[bytes, int] = {}
        for index, digest in enumerate(digests):
            if digest not in found:
                missing.setdefault(digest, index)
        if missing:
            vectors = compute(list(missing.values()))
            fresh = dict(zip(missing, vectors, strict=True))
            with self._lock:
                self._keep(fresh)
                self._to_disk(fresh)
            found.update(fresh)
        return torch.stack([found[digest] for digest in digests])

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Return the positions of the keys that are nowhere kept, each key once."""
        digests = [self._digest(key) for key in keys]
        with self._lock:
            found = {digest: self._touch(digest) for digest in digests if digest in self._memory}
            self._from_disk([digest for digest in digests if digest not in found], found)
        absent: dict[bytes, int] = {}
        for index, digest in enumerate(digests):
            if digest not in found:
                absent.setdefault(digest, index)
        return list(absent.values())

    def held(self) -> dict[bytes, torch.Tensor]:
        """Return what the memory keeps, by digest."""
        with self._lock:
            return dict(self._memory)

    def take(self, values: Mapping[bytes, torch.Tensor]) -> None:
        """Keep vectors that another process has computed; see `pipelines.compute.lru`."""
        fresh = {digest: vector for digest, vector in values.items() if vector.numel()}
        with self._lock:
            self._keep(fresh)
            self._to_disk(fresh)

    def move_in(self, kind: str) -> None:
        """Leave the file to the process that opened it: a forked one must not touch it."""
        if self._disk is not None and self._opened_by != os.getpid():
            _LEFT_ALONE.append(self._disk)  # closing it here would close it there
            self._disk = None

    def close(self) -> None:
        """Close the file; the cache goes on in memory."""
        with self._lock:
            if self._disk is not None:
                self._disk.close()
                self._disk = None

    def _digest(self, key: str) -> bytes:
        text = f"{self._model}\0{key}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=20).digest()

    def _touch(self, digest: bytes) -> torch.Tensor:
        self._memory.move_to_end(digest)
        return self._memory[digest]

    def _keep(self, vectors: dict[bytes, torch.Tensor]) -> None:
        for digest, vector in vectors.items():
            if digest not in self._memory:
                self._held += vector.numel() * 4
            self._memory[digest] = vector.clone()
        while self._held > self._memory_bytes and len(self._memory) > 1:
            _, dropped = self._memory.popitem(last=False)
            self._held -= dropped.numel() * 4

    def _from_disk(self, digests: list[bytes], found: dict[bytes, torch.Tensor]) -> None:
        if self._disk is None or not digests:
            return
        loaded: dict[bytes, torch.Tensor] = {}
        try:
            for start in range(0, len(digests), 500):
                part = digests[start : start + 500]
                marks = ",".join("?" * len(part))
                rows = self._disk.execute(
                    f"SELECT digest, vector FROM vectors WHERE digest IN ({marks})", part
                )
                loaded |= {digest: _vector(blob) for digest, blob in rows if _is_whole(blob)}
        except _UNUSABLE as error:
            self._give_up(error)
        self._keep(loaded)
        found.update(loaded)

    def _to_disk(self, vectors: dict[bytes, torch.Tensor]) -> None:
        if self._disk is None:
            return
        rows = [(digest, _blob(vector)) for digest, vector in vectors.items()]
        try:
            with self._disk:
                self._disk.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
                if self._on_disk_bytes(self._disk) > self._disk_bytes:  # the oldest half goes
                    self._disk.execute(
                        "DELETE FROM vectors WHERE rowid IN (SELECT rowid FROM vectors "
                        "ORDER BY rowid LIMIT (SELECT COUNT(*) / 2 FROM vectors))"
                    )
        except _UNUSABLE as error:
            self._give_up(error)

    def _on_disk_bytes(self, disk: sqlite3.Connection) -> int:
        """Return the size of the pages in use; adding up the rows would read the whole file."""
        pages, free, size = (
            int(disk.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _give_up(self, error: Exception) -> None:
        log.warning("The cache of text vectors is not usable, going on without: %s", error)
        if self._disk is not None:
            self._disk.close()
        self._disk = None


def _blob(vector: torch.Tensor) -> bytes:
    """Return what is stored of a vector: its checksum, then its values."""
    values = vector.numpy().astype("<f4").tobytes()
    return zlib.crc32(values).to_bytes(4, "little") + values


def _is_whole(blob: object) -> bool:
    return isinstance(blob, bytes) and zlib.crc32(blob[4:]).to_bytes(4, "little") == blob[:4]


def _vector(blob: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(blob, "<f4", offset=4).copy())


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
    """Return a name for a model's weights and the way to its vectors; it changes with either.

    Args:
        folder: where the checkpoint lies.
        device: what computes the vectors.
        how: whatever else they depend on, of plain values.
    """
    parts = []
    for file in sorted(folder.iterdir()):
        if file.suffix in {".json", ".safetensors", ".bin", ".pth", ".txt"}:
            stat = file.stat()
            parts.append((file.name, file.resolve().name, stat.st_size, stat.st_mtime_ns))
    text = json.dumps([parts, device.kind, device.dtype, transformers.__version__, *how])
    return hashlib.sha256(text.encode()).hexdigest()
