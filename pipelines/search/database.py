"""The vector database: LanceDB, in a folder, on object storage or on a server. Torch-free.

Which one is decided by its URI alone; what works differently there is LanceDB's own matter. A
folder needs no server, is safe to be killed at any moment (each write is a new version of a table,
committed by one small file), is read while it is written, and is searched from the disk, so that
its size is bounded by the disk and not by memory.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pipelines.core.errors import PipelineError

log = logging.getLogger(__name__)

#: How often a read or write is tried: another process may just have changed the table.
TRIES = 4
RETRY_WAIT_S = 0.1

#: Age from which on versions of a table that are no longer current are deleted for good; a search
#: that reads one of them is over by then.
KEEP_VERSIONS = timedelta(seconds=60)

#: Rows of a result that are read at once.
MOST_ROWS = 10_000_000

#: What LanceDB keeps in memory of indexes and of tables; by itself it would take gigabytes.
INDEX_CACHE_BYTES = 512_000_000
METADATA_CACHE_BYTES = 64_000_000

Rows = Sequence[Mapping[str, Any]]
Result = TypeVar("Result")


class IndexUnavailable(PipelineError):
    """The index cannot be read or written."""

    title = "Index not available"


class Database:
    """Tables by name; any number of threads may use it.

    Raises:
        IndexUnavailable: from any method, where the database does not answer.
    """

    def __init__(self, uri: str) -> None:
        """Remember where it is; nothing is opened, and LanceDB not imported, until it is used."""
        self.uri = uri
        self._writing = threading.Lock()
        self._connecting = threading.Lock()
        self._used_s = time.monotonic()

    @property
    def folder(self) -> Path | None:
        """Where it lies; None on object storage or a server."""
        return None if "://" in self.uri else Path(self.uri)

    @cached_property
    def _connection(self) -> Any:
        import lancedb

        if self.folder is not None:  # others of this machine have no business in it
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        session = lancedb.Session(INDEX_CACHE_BYTES, METADATA_CACHE_BYTES)
        # each read sees what was written last, by other processes too
        return lancedb.connect(self.uri, read_consistency_interval=timedelta(0), session=session)

    def rest(self, idle_s: float) -> None:
        """Let go of what LanceDB keeps in memory, if nobody has asked for `idle_s` seconds."""
        if self.uri.startswith("memory:"):  # the tables themselves are
            return
        with self._connecting:
            if time.monotonic() - self._used_s >= idle_s:
                vars(self).pop("_connection", None)  # who reads meanwhile has it still

    def is_missing(self) -> bool:
        """Whether it is a folder that is not there yet."""
        return self.folder is not None and not self.folder.is_dir()

    def rows(self, name: str, columns: Sequence[str], where: str = "") -> list[dict[str, Any]]:
        """Return rows of a table; none where there is no such table."""

        def read() -> list[dict[str, Any]]:
            table = self._open(name)
            if table is None:
                return []
            asked = table.search().select(list(columns)).limit(MOST_ROWS)
            found: list[dict[str, Any]] = (
                (asked.where(where) if where else asked).to_arrow().to_pylist()
            )
            return found

        return self._tried(read)

    def count(self, name: str, where: str | None = None) -> int:
        """Return the number of rows of a table; 0 where there is no such table."""

        def read() -> int:
            table = self._open(name)
            return 0 if table is None else int(table.count_rows(where))

        return self._tried(read)

    def ask(self, name: str, ask: Callable[[Any], Result], default: Result) -> Result:
        """Return what `ask` reads from LanceDB's table, or `default` where there is none."""

        def read() -> Result:
            table = self._open(name)
            return default if table is None else ask(table)

        return self._tried(read)

    def put(self, name: str, schema: Any, rows: Any, *, key: str = "") -> None:
        """Add rows to a table, which is made where it is missing.

        Args:
            name: of the table.
            schema: its pyarrow schema.
            rows: a pyarrow table.
            key: a column; rows whose value of it is there already are replaced.
        """

        def write() -> None:
            table = self._connection.create_table(name, schema=schema, exist_ok=True)
            if key:
                merge = table.merge_insert(key)
                merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
            else:
                table.add(rows)

        with self._writing:
            self._tried(write)

    def delete(self, name: str, where: str) -> None:
        """Delete the rows of a table for which an SQL condition holds."""

        def write() -> None:
            table = self._open(name)
            if table is not None:
                table.delete(where)

        with self._writing:
            self._tried(write)

    def drop(self, name: str) -> None:
        """Delete a table with all of its versions."""
        with self._writing:
            self._tried(lambda: self._connection.drop_table(name, ignore_missing=True))

    def tidy(self, name: str) -> None:
        """Join small pieces, and delete for good what was deleted longer than a minute ago."""

        def write() -> None:
            table = self._open(name)
            if table is not None:
                table.optimize(cleanup_older_than=KEEP_VERSIONS)

        with self._writing:
            self._tried(write)

    def rewrite(self, name: str) -> None:
        """Write a table anew, so that no piece of it holds rows that were deleted.

        LanceDB marks deleted rows, and leaves them in their piece until a tenth of it is gone. The
        pieces of before go when versions of before do; see `tidy`.
        """

        def write() -> None:
            table = self._open(name)
            if table is not None:  # one transaction: rows that others add meanwhile stay
                table.update(values_sql={column: column for column in table.schema.names[:1]})

        with self._writing:
            self._tried(write)

    def index_vectors(self, name: str) -> None:
        """Sort the vectors of a table into cells, of which a search then looks into some."""
        from lancedb.index import IvfFlat

        def write() -> None:
            table = self._open(name)
            if table is not None and not self.num_cells(table):
                cells = max(1, round(math.sqrt(table.count_rows())))
                config = IvfFlat(distance_type="cosine", num_partitions=cells)
                table.create_index("vector", config=config)

        with self._writing:
            self._tried(write)

    def num_cells(self, table: Any) -> int:
        """Return how many cells the vectors of a table are sorted into; 0 where they are not."""
        found = [index for index in table.list_indices() if "vector" in index.columns]
        return round(math.sqrt(found[0].num_indexed_rows)) if found else 0

    def _open(self, name: str) -> Any:
        """Return a table as it is now, or None where there is none."""
        if self.is_missing():
            return None
        with self._connecting:
            connection = self._connection
        try:
            return connection.open_table(name)
        except ValueError:
            if name in self._names(connection):
                raise
            return None

    def _names(self, connection: Any) -> Iterator[str]:
        page = None
        while True:
            listed = connection.list_tables(page_token=page)
            yield from listed.tables
            page = listed.page_token
            if not page:
                return

    def _tried(self, work: Callable[[], Result]) -> Result:
        self._used_s = time.monotonic()
        for number in range(TRIES):
            try:
                return work()
            except (OSError, RuntimeError, ValueError) as error:  # what LanceDB raises
                log.info("The index did not answer: %s", type(error).__name__)
                last = error
            time.sleep(RETRY_WAIT_S * (number + 1))
        log.warning("The index cannot be used: %s", last)
        raise unavailable() from last


def unavailable() -> IndexUnavailable:
    """Return what people are told where the index does not answer."""
    return IndexUnavailable(
        "The index cannot be read or written just now: its disk is full or damaged, another "
        "process keeps writing to it, or its server does not answer. Try again; what was indexed "
        "before is kept."
    )


def quoted(values: Sequence[str]) -> Iterator[str]:
    """Yield texts as SQL literals."""
    for value in values:
        yield "'" + value.replace("'", "''") + "'"
