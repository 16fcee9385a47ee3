"""What was used last, as much of it as fits; found by content. Torch-free."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

#: Digests of files that are remembered.
DIGESTS_KEPT = 64


class LruCache(Generic[Key, Value]):
    """The values that were used last; any number of threads may call it."""

    def __init__(self, size: int, weigh: Callable[[Value], int] = lambda value: 1) -> None:
        """Keep values that weigh at most `size` together; each weighs one unless told."""
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._size = size
        self._weigh = weigh
        self._lock = threading.Lock()
        self.weight = 0

    def get(self, key: Key, compute: Callable[[], Value]) -> Value:
        """Return what is kept under `key`, else what `compute` gives, which then is."""
        found = self.find(key)
        if found is None:
            found = compute()
            self.keep(key, found)
        return found

    def find(self, key: Key) -> Value | None:
        """Return what is kept under `key`, which thereby is used, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def keep(self, key: Key, value: Value) -> None:
        """Keep a value; those that were used longest ago go where there is no room."""
        with self._lock:
            self._drop(key)
            self._values[key] = value
            self.weight += self._weigh(value)
            while self.weight > self._size:
                self._drop(next(iter(self._values)))

    def values(self) -> dict[Key, Value]:
        """Return everything that is kept, by its key, the least recently used first."""
        with self._lock:
            return dict(self._values)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
            self.weight = 0

    def __len__(self) -> int:
        """Return how many values are kept."""
        return len(self._values)

    def _drop(self, key: Key) -> None:
        if key in self._values:
            self.weight -= self._weigh(self._values.pop(key))


class FileDigests:
    """Hashes of files' contents; a file that has not changed is read once."""

    def __init__(self, size: int = DIGESTS_KEPT) -> None:
        """Know no file yet; remember `size` of them."""
        self._known: LruCache[tuple[Path, int, int], str] = LruCache(size)

    def of(self, path: Path) -> str:
        """Return 40 hexadecimal digits that tell the content of a file."""
        status = path.stat()

        def read() -> str:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "blake2b").hexdigest()[:40]

        return self._known.get((path, status.st_size, status.st_mtime_ns), read)


class Kept(Protocol):
    """A cache whose contents can travel."""

    def held(self) -> dict[Any, Any]:
        """Return what is kept, on the CPU, by its key."""
        ...

    def take(self, values: Mapping[Any, Any]) -> None:
        """Keep values that another process has computed."""
        ...

    def move_in(self, kind: str) -> None:
        """Get ready for work in a forked process, on a device of a kind."""
        ...
