"""The indexes of all owners: who owns which, how long they are kept, how large they may grow."""

import hashlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import InputError, type_name
from pipelines.search.results import IndexSummary
from pipelines.search.tables import Database, IndexUnavailable, VectorTables, unavailable
from pipelines.serving.locks import WriterLocks

log = logging.getLogger(__name__)

#: Fewest and most characters of a key: shorter ones could be guessed.
LEAST_KEY, MOST_KEY = 16, 200

#: Most vectors of one owner, and of all indexes that may expire; beyond, the index that was used
#: longest ago is deleted.
MOST_VECTORS = 100_000
MOST_VECTORS_OF_ALL = 2_000_000

#: Seconds between two records that an index is in use, and between two sweeps of unused ones.
RECORD_EVERY_S = 300.0
EXPIRE_EVERY_S = 600.0

#: Seconds that a deletion, and a sweep of unused indexes, waits for a writer.
DELETE_WAIT_S = 5.0
EXPIRE_WAIT_S = 1.0

#: Folder of the locks in the folder of an index; LanceDB's tables are folders that end in .lance.
_LOCK_FOLDER = "locks"

#: The table of all indexes.
_REGISTER = "seesay-indexes"

_COLUMNS = ("owner", "space", "used_at", "kept", "vectors")


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """One index in the register.

    Attributes:
        owner: hash of its owner's key.
        space: name of its vectors.
        used_at: time of its last use, Unix time.
        kept: whether it is never deleted by age.
        vectors: approximate number of its vectors.
    """

    owner: str
    space: str
    used_at: float
    kept: bool
    vectors: int


def owner_of(key: str) -> str:
    """Return the owner that a secret key stands for; the key itself is stored nowhere.

    Raises:
        InputError: it is no text, or could be guessed.
    """
    if not isinstance(key, str):
        raise InputError("index_key must be text but got {given}.", given=type_name(key))
    if not LEAST_KEY <= len(key) <= MOST_KEY:
        raise InputError(
            "index_key must be a random text of {least} to {most} characters but got {count}. "
            "Leave it out when you index files for the first time, and a new one comes back.",
            least=LEAST_KEY,
            most=MOST_KEY,
            count=len(key),
        )
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:32]


class Indexes:
    """The indexes of all owners in one database, which is opened at first use.

    Each index has its own tables, named by a hash of its owner's key and by the model: a search
    needs no filter, and deleting an index touches no other.
    """

    def __init__(self, uri: str) -> None:
        self._database = Database(uri)
        self._recorded: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._locks = WriterLocks(self._database.folder and self._database.folder / _LOCK_FOLDER)

    def release_idle(self, idle_s: float) -> None:
        """Release the memory of the database after `idle_s` seconds without use."""
        self._database.release_idle(idle_s)

    def tables(self, owner: str, space: str) -> VectorTables:
        """Return the tables of an owner's files in a space."""
        return VectorTables(self._database, f"{owner}.{space}")

    @contextmanager
    def locked(
        self, owner: str, cancel: CancelToken = NEVER, wait_s: float | None = None
    ) -> Iterator[None]:
        """Keep others from writing to or deleting an owner's indexes in the block.

        On a folder, that holds for all processes that share it; on object storage or a server, for
        this process: a concurrent write of another process is not lost either, but may survive a
        deletion. The wait for another writer lasts at most `wait_s` seconds, minutes if None.

        Raises:
            Cancelled: `cancel` is cancelled.
            IndexUnavailable: the lock cannot be written, or another writer holds it for longer.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._locks.held(owner, cancel, wait_s))
            except OSError as error:
                raise unavailable() from error
            yield

    def spaces(self, owner: str) -> list[str]:
        """Return the spaces of an owner's indexes."""
        return [entry.space for entry in self._entries(f"owner = '{owner}'")]

    def record_use(self, owner: str, space: str, *, kept: bool = False, vectors: int = -1) -> None:
        """Record that an index is in use; call it before the first write.

        A `kept` index is never deleted by age; `vectors` is its number of vectors, -1 if unchanged.
        """
        now = time.time()
        with self._lock:
            fresh = now - self._recorded.get((owner, space), 0.0) < RECORD_EVERY_S
        if fresh and vectors < 0:
            return
        known = self._entries(f"id = '{owner}.{space}'")
        number = vectors if vectors >= 0 else (known[0].vectors if known else 0)
        entry = IndexEntry(
            owner=owner,
            space=space,
            used_at=now,
            kept=kept or any(one.kept for one in known),
            vectors=number,
        )
        self._write(entry)
        with self._lock:
            self._recorded[owner, space] = now

    def summary(self, owner: str, spaces: Iterable[str] | None = None) -> IndexSummary:
        """Return the size of an owner's indexes together."""
        found = self.spaces(owner) if spaces is None else spaces
        return sum((self.tables(owner, space).summary() for space in found), IndexSummary())

    def names(self, owner: str) -> list[str]:
        """Return the names of an owner's files, each once, sorted."""
        tables = (self.tables(owner, space) for space in self.spaces(owner))
        return sorted({file.name for each in tables for file in each.files().values()})

    def forget(self, owner: str, wait_s: float | None = None) -> int:
        """Delete all indexes of an owner; return the number of files.

        Raises:
            IndexUnavailable: another writer holds the lock for longer than `wait_s`; see `locked`.
        """
        count = 0
        for space in self.spaces(owner):
            count += len(self.tables(owner, space).files())
            self._drop(owner, space, wait_s)
        return count

    def expire(self, keep_s: float, now: float = 0.0, *, most: int = MOST_VECTORS_OF_ALL) -> int:
        """Delete indexes without use for `keep_s` seconds, and the oldest beyond `most` vectors.

        Returns how many. 0.0 deletes none by age; `now` is Unix time, if not the present.
        """
        if self._database.is_missing():
            return 0
        at = now or time.time()
        with self._lock:
            self._recorded = {one: when for one, when in self._recorded.items() if at - when < 3600}
        entries = sorted(
            (one for one in self._entries() if not one.kept), key=lambda one: one.used_at
        )
        total = sum(entry.vectors for entry in entries)
        deleted = 0
        for entry in entries:
            try:
                if (keep_s and at - entry.used_at > keep_s) or total > most:
                    self._drop(entry.owner, entry.space, EXPIRE_WAIT_S)
                    total -= entry.vectors
                    deleted += 1
                elif at - entry.used_at <= 2 * EXPIRE_EVERY_S:  # it was changed a while ago
                    with self.locked(entry.owner, wait_s=EXPIRE_WAIT_S):
                        self.tables(entry.owner, entry.space).compact()
            except IndexUnavailable:  # the next sweep may find it free
                log.info("An index is being written to; the next sweep checks it again")
        if deleted:
            log.info("%d unused indexes were deleted", deleted)
        return deleted

    def _drop(self, owner: str, space: str, wait_s: float | None) -> None:
        with self.locked(owner, wait_s=wait_s):
            self.tables(owner, space).drop()
            self._database.delete(_REGISTER, f"id = '{owner}.{space}'")
            with self._lock:
                self._recorded.pop((owner, space), None)

    def _entries(self, where: str = "") -> list[IndexEntry]:
        rows = self._database.rows(_REGISTER, _COLUMNS, where)
        return [IndexEntry(**row) for row in rows]

    def _write(self, entry: IndexEntry) -> None:
        import pyarrow as pa

        row = {"id": f"{entry.owner}.{entry.space}", **asdict(entry)}
        self._database.put(_REGISTER, pa.Table.from_pylist([row]), key="id")


def start_expiring(indexes: Indexes, keep_s: float) -> None:
    """Delete unused indexes now and every few minutes, in a thread that ends with the process."""

    def work() -> None:
        while True:
            try:
                indexes.expire(keep_s)
            except Exception as error:  # the next sweep may succeed
                log.warning("Unused indexes could not be deleted: %s", error)
            time.sleep(EXPIRE_EVERY_S)

    threading.Thread(target=work, name="expire", daemon=True).start()
