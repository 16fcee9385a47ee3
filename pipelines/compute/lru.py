"""LRU cache bounded by weight, and the caches of files and models that are built on it."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

#: Files whose digests are cached.
NUM_DIGESTS = 64


class LruCache(Generic[Key, Value]):
    """LRU cache bounded by weight; any number of threads may use it.

    Attributes:
        weight: sum of the weights of the values.
    """

    def __init__(self, size: int, weigh: Callable[[Value], int] = lambda value: 1) -> None:
        """Create an empty cache; `size` is the largest weight of all values together."""
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._size = size
        self._weigh = weigh
        self._lock = threading.Lock()
        self.weight = 0

    def get(self, key: Key) -> Value | None:
        """Return the value of `key` as the most recently used one, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def get_or_compute(self, key: Key, compute: Callable[[], Value]) -> Value:
        """Return the value of `key`; put the result of `compute` where there is none."""
        found = self.get(key)
        if found is None:
            found = compute()
            self.put(key, found)
        return found

    def get_many(
        self,
        keys: Sequence[Key],
        compute: Callable[[list[int]], Sequence[Value]],
        *,
        keep: bool = True,
    ) -> list[Value]:
        """Return the values of N keys; computed ones are put into the cache if `keep`.

        `compute` is called with the first position of each missing key, if there are any, and
        returns their values.
        """
        found = self.find(keys)
        if missing := first_positions(keys, found):
            fresh = dict(zip(missing, compute([*missing.values()]), strict=True))
            found |= fresh
            if keep:
                self.update(fresh)
        return [found[key] for key in keys]

    def missing(self, keys: Sequence[Key]) -> list[int]:
        """Return the first position of each key that is not cached."""
        return [*first_positions(keys, self.find(keys)).values()]

    def find(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """Return the values of the keys that are cached."""
        return {key: value for key in keys if (value := self.get(key)) is not None}

    def put(self, key: Key, value: Value) -> None:
        """Store a value and drop the least recently used ones; one over the size is not stored."""
        weight = self._weigh(value)
        with self._lock:
            self._drop(key)
            if weight > self._size:
                return
            self._values[key] = value
            self.weight += weight
            while self.weight > self._size:
                self._drop(next(iter(self._values)))

    def pop(self, key: Key) -> Value | None:
        """Remove a key and return its value, or None."""
        with self._lock:
            return self._drop(key)

    def snapshot(self) -> dict[Key, Value]:
        """Return the values by their keys, the least recently used first."""
        with self._lock:
            return dict(self._values)

    def update(self, values: Mapping[Key, Value]) -> None:
        """Put values by their keys."""
        for key, value in values.items():
            self.put(key, value)

    def enter_worker(self, kind: str) -> None:
        """Do nothing: the values are valid in any process."""

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            self._values.clear()
            self.weight = 0

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self._values)

    def _drop(self, key: Key) -> Value | None:
        value = self._values.pop(key, None)
        if value is not None:
            self.weight -= self._weigh(value)
        return value


def first_positions(keys: Sequence[Key], found: Mapping[Key, Any]) -> dict[Key, int]:
    """Return the keys that are not found, each with its first position."""
    missing: dict[Key, int] = {}
    for index, key in enumerate(keys):
        if key not in found:
            missing.setdefault(key, index)
    return missing


class FileDigests:
    """Digests of the contents of files; an unchanged file is read once."""

    def __init__(self, size: int = NUM_DIGESTS) -> None:
        """Cache the digests of `size` files."""
        self._known: LruCache[tuple[Path, int, int], str] = LruCache(size)

    def of(self, path: Path) -> str:
        """Return the BLAKE2b digest of a file's content as 40 hexadecimal digits."""
        status = path.stat()

        def read() -> str:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "blake2b").hexdigest()[:40]

        return self._known.get_or_compute((path, status.st_size, status.st_mtime_ns), read)


class SharedCache(Protocol):
    """Cache of a model whose values are copied between processes."""

    def snapshot(self) -> dict[Any, Any]:
        """Return the values, on the CPU, by their keys."""

    def update(self, values: Mapping[Any, Any]) -> None:
        """Put values that another process has computed."""

    def enter_worker(self, kind: str) -> None:
        """Prepare for work in a forked process, on a device of a kind."""
