"""Whose index is whose, how long it is kept, how large it may grow. Torch-free."""

import hashlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import InputError, type_name
from pipelines.search.results import IndexSummary
from pipelines.search.tables import Database, IndexUnavailable, VectorTables, unavailable
from pipelines.serving.locks import WriterLocks

log = logging.getLogger(__name__)

#: Letters and digits that a key must have: shorter ones could be guessed.
LEAST_KEY, MOST_KEY = 16, 200

#: Most vectors of one owner, and of all whose indexes are not kept for good; beyond, the index
#: that was used longest ago goes.
MOST_VECTORS = 100_000
MOST_VECTORS_OF_ALL = 2_000_000

#: Seconds between two notes that an index is in use, and between two looks for unused ones.
NOTE_EVERY_S = 300.0
EXPIRE_EVERY_S = 600.0

#: Seconds that somebody who deletes waits for who writes, and that a look for unused indexes does.
DELETE_WAIT_S = 5.0
EXPIRE_WAIT_S = 1.0

#: Where the locks of an index in a folder lie; LanceDB's tables are folders that end in .lance.
_LOCK_FOLDER = "locks"

#: The table that knows which indexes there are.
_REGISTER = "seesay-indexes"

_COLUMNS = ("id", "owner", "space", "used_at", "kept", "vectors")


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """One index in the register.

    Attributes:
        owner: hash of its owner's key.
        space: which model's vectors it holds.
        used_at: when it was used last, Unix time.
        kept: whether it is never deleted by age.
        vectors: how many it holds, about.
    """

    owner: str
    space: str
    used_at: float
    kept: bool
    vectors: int


def owner_of(key: str) -> str:
    """Return the owner that a secret key stands for; the key itself is stored nowhere.

    Raises:
        InputError: it is no text, or one that could be guessed.
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
    """The indexes of all owners in one database.

    Each index is tables of its own, named by a hash of its owner's key and by the model. So no
    filter can be forgotten in a search, and deleting one touches no other.
    """

    def __init__(self, uri: str) -> None:
        """Remember where; nothing is opened until it is used."""
        self._database = Database(uri)
        self._noted: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._locks = WriterLocks(self._database.folder and self._database.folder / _LOCK_FOLDER)

    def rest(self, idle_s: float) -> None:
        """Let go of what is kept in memory, if nobody has asked for `idle_s` seconds."""
        self._database.rest(idle_s)

    def shelf(self, owner: str, space: str) -> VectorTables:
        """Return an owner's files as one model sees them."""
        return VectorTables(self._database, f"{owner}.{space}")

    @contextmanager
    def changing(
        self,
        owner: str,
        cancel: CancelToken = NEVER,
        wait_s: float | None = None,
    ) -> Iterator[None]:
        """Let nobody else write to or delete an owner's indexes in the block.

        That holds for all processes that share a folder; on object storage or a server, for this
        process, where what another one writes at once is not lost either, but may be left behind
        by a deletion.

        Args:
            owner: whose.
            cancel: checked a few times a second while somebody else writes.
            wait_s: seconds to wait for that, minutes where not given.

        Raises:
            Cancelled: `cancel` is cancelled.
            IndexUnavailable: the lock cannot be written, or somebody else writes for longer.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._locks.held(owner, cancel, wait_s))
            except OSError as error:
                raise unavailable() from error
            yield

    def spaces(self, owner: str) -> list[str]:
        """Return the spaces that an owner has an index in."""
        return [entry.space for entry in self._entries(f"owner = '{owner}'")]

    def note(self, owner: str, space: str, *, kept: bool = False, vectors: int = -1) -> None:
        """Note that an index is in use, before it is written to for the first time.

        Args:
            owner: whose it is.
            space: which.
            kept: whether it is never deleted by age.
            vectors: how many it holds now; -1 where that did not change.
        """
        now = time.time()
        with self._lock:
            fresh = now - self._noted.get((owner, space), 0.0) < NOTE_EVERY_S
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
            self._noted[owner, space] = now

    def holding(self, owner: str, spaces: Iterable[str] | None = None) -> IndexSummary:
        """Return how much an owner's indexes hold together."""
        found = self.spaces(owner) if spaces is None else spaces
        each = [self.shelf(owner, space).holding() for space in found]
        return IndexSummary(
            pictures=sum(one.pictures for one in each),
            videos=sum(one.videos for one in each),
            vectors=sum(one.vectors for one in each),
        )

    def names(self, owner: str) -> list[str]:
        """Return the names of an owner's files, each once, sorted."""
        every = {
            file.name
            for space in self.spaces(owner)
            for file in self.shelf(owner, space).files().values()
        }
        return sorted(every)

    def forget(self, owner: str, wait_s: float | None = None) -> int:
        """Delete everything of an owner; return how many files there were.

        Raises:
            IndexUnavailable: somebody else writes to it for longer than `wait_s`; see `changing`.
        """
        count = 0
        for space in self.spaces(owner):
            count += len(self.shelf(owner, space).files())
            self._drop(owner, space, wait_s)
        return count

    def expire(self, keep_s: float, now: float = 0.0, *, most: int = MOST_VECTORS_OF_ALL) -> int:
        """Delete indexes that were not used for `keep_s` seconds, and the oldest beyond a size.

        Args:
            keep_s: 0.0 to delete none by age.
            now: the time, as `time.time` gives it, if not the present.
            most: vectors that all indexes together may hold.

        Returns:
            How many indexes were deleted.
        """
        if self._database.is_missing():
            return 0
        at = now or time.time()
        with self._lock:
            self._noted = {one: when for one, when in self._noted.items() if at - when < 3600}
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
                    with self.changing(entry.owner, wait_s=EXPIRE_WAIT_S):
                        self.shelf(entry.owner, entry.space).tidy()
            except IndexUnavailable:  # the next look may find it free; the others wait for none
                log.info("An index is being written to; it is looked at again later")
        if deleted:
            log.info("%d indexes that nobody used were deleted", deleted)
        return deleted

    def _drop(self, owner: str, space: str, wait_s: float | None) -> None:
        with self.changing(owner, wait_s=wait_s):
            self.shelf(owner, space).drop()
            self._database.delete(_REGISTER, f"id = '{owner}.{space}'")
            with self._lock:
                self._noted.pop((owner, space), None)

    def _entries(self, where: str = "") -> list[IndexEntry]:
        rows = self._database.rows(_REGISTER, _COLUMNS[1:], where)
        return [IndexEntry(**row) for row in rows]

    def _write(self, entry: IndexEntry) -> None:
        import pyarrow as pa

        kinds: dict[str, Any] = {
            "id": pa.string(),
            "owner": pa.string(),
            "space": pa.string(),
            "used_at": pa.float64(),
            "kept": pa.bool_(),
            "vectors": pa.int64(),
        }
        schema = pa.schema(list(kinds.items()))
        row = {"id": f"{entry.owner}.{entry.space}", **entry.__dict__}
        self._database.put(_REGISTER, schema, pa.Table.from_pylist([row], schema=schema), key="id")


def start_expiring(library: Indexes, keep_s: float) -> None:
    """Delete unused indexes now and every few minutes, in a thread that ends with the process."""

    def work() -> None:
        while True:
            try:
                library.expire(keep_s)
            except Exception as error:  # the next round may fare better
                log.warning("Unused indexes could not be looked for: %s", error)
            time.sleep(EXPIRE_EVERY_S)

    threading.Thread(target=work, name="expire", daemon=True).start()
