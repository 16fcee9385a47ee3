"""An owner's files as one model sees them: names, thumbnails and vectors. Torch-free."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipelines.core.errors import PipelineError
from pipelines.models.search_query import FileVectors, Vectors
from pipelines.search.results import IndexedFile, IndexSummary

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


#: Vectors up to which every one is compared with a query; beyond, only those of the nearest cells.
MOST_EXACT = 100_000

#: Share of the cells of a large index that a query looks into.
CELLS_ASKED = 0.25

#: Vectors drawn from an index to tell what the rest of it is like.
SAMPLE = 1000

_NONE: Vectors = np.zeros((0, 0), np.float32)

#: Files that are renamed at once.
_RENAMED = 500

#: Columns of a file that a list of files needs.
_FACTS = ("content", "name", "kind", "path", "num_parts")


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearest:
    """The vectors nearest to a query, nearest first.

    Attributes:
        contents: which file each is of.
        starts_s: where in it each starts.
        ends_s: where it ends.
        vectors: (N, D) float32, of length 1.
    """

    contents: tuple[str, ...]
    starts_s: tuple[float, ...]
    ends_s: tuple[float, ...]
    vectors: Vectors


class VectorTables:
    """The files of one owner in the space of one model's vectors.

    Vectors are written before the file that they belong to: what a killed run leaves behind is
    vectors of no file, which no search shows and the next run writes anew.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._files, self._parts = f"{name}.files", f"{name}.parts"

    def files(self) -> dict[str, IndexedFile]:
        """Return all files by content, without thumbnails."""
        rows = self._database.rows(self._files, _FACTS)
        return {row["content"]: IndexedFile(**row) for row in rows}

    def some(self, contents: Iterable[str], *, thumbnails: bool = False) -> dict[str, IndexedFile]:
        """Return those files of some contents that there are, with or without thumbnails."""
        asked = list(dict.fromkeys(contents))
        if not asked:
            return {}
        columns = (*_FACTS, "thumbnail") if thumbnails else _FACTS
        rows = self._database.rows(self._files, columns, _of(asked))
        return {row["content"]: IndexedFile(**row) for row in rows}

    def holding(self) -> IndexSummary:
        """Return how much there is."""
        return IndexSummary(
            pictures=self._database.count(self._files, "kind = 'picture'"),
            videos=self._database.count(self._files, "kind = 'video'"),
            vectors=self._database.count(self._parts),
        )

    def add(self, files: Sequence[tuple[IndexedFile, FileVectors]]) -> None:
        """Add files with their vectors; what there was of the same content is replaced."""
        if not files:
            return
        self._database.delete(self._parts, _of(file.content for file, _ in files))
        dim = files[0][1].vectors.shape[1]
        schema = _parts_schema(dim)
        self._database.put(self._parts, schema, _parts_table(files, schema, dim))
        whole = _files_schema()
        rows = _files_table([file for file, _ in files], whole)
        self._database.put(self._files, whole, rows, key="content")

    def rename(self, files: Sequence[IndexedFile]) -> None:
        """Write the names and places of files anew."""
        for start in range(0, len(files), _RENAMED):
            some = {file.content: file for file in files[start : start + _RENAMED]}
            there = self.some(some, thumbnails=True)
            rows = [
                replace(file, name=some[content].name, path=some[content].path)
                for content, file in there.items()
            ]
            whole = _files_schema()
            self._database.put(self._files, whole, _files_table(rows, whole), key="content")

    def delete(self, contents: Iterable[str]) -> None:
        """Delete files with their vectors."""
        which = list(contents)
        if which:
            self._database.delete(self._files, _of(which))
            self._database.delete(self._parts, _of(which))

    def purge(self, contents: Iterable[str]) -> None:
        """Delete files so that a few minutes later nothing of them is on the disk."""
        self.delete(contents)
        for name in (self._files, self._parts):
            self._database.rewrite(name)
        self.tidy()

    def drop(self) -> None:
        """Delete everything."""
        self._database.drop(self._files)
        self._database.drop(self._parts)

    def tidy(self, most_exact: int = MOST_EXACT) -> None:
        """Join small pieces, delete old versions for good, and keep a large index quick.

        Args:
            most_exact: vectors up to which no search structure is built.
        """
        for name in (self._files, self._parts):
            self._database.tidy(name)
        if self._database.count(self._parts) > most_exact:
            self._database.index_vectors(self._parts)

    def nearest(self, vector: Vectors, limit: int) -> Nearest:
        """Return the vectors nearest to a unit vector (D,), at most `limit`."""

        def ask(table: Any) -> Any:
            asked = table.search(vector, vector_column_name="vector").distance_type("cosine")
            cells = self._database.num_cells(table)
            if cells:
                asked = asked.nprobes(max(1, round(cells * CELLS_ASKED)))
            columns = ["content", "start_s", "end_s", "vector", "_distance"]
            return asked.select(columns).limit(limit).to_arrow()

        found = self._database.ask(self._parts, ask, None)
        if found is None or not found.num_rows:
            return Nearest(contents=(), starts_s=(), ends_s=(), vectors=_NONE)
        return Nearest(
            contents=tuple(found["content"].to_pylist()),
            starts_s=tuple(found["start_s"].to_pylist()),
            ends_s=tuple(found["end_s"].to_pylist()),
            vectors=_matrix(found["vector"]),
        )

    def sample(self, size: int = SAMPLE) -> Vectors:
        """Return vectors drawn from all, the same each time for the same index; (N, D)."""

        def ask(table: Any) -> Vectors:
            total = int(table.count_rows())
            if not total:
                return _NONE
            drawn = random.Random(total).sample(range(total), min(size, total))
            rows = table.take_offsets(sorted(drawn)).select(["vector"]).to_arrow()
            return _matrix(rows["vector"])

        return self._database.ask(self._parts, ask, _NONE)


def _of(contents: Iterable[str]) -> str:
    return f"content IN ({', '.join(quoted(list(contents)))})"


def _matrix(column: Any) -> Vectors:
    """Return a column of N vectors as an array (N, D)."""
    joined = column.combine_chunks()
    return np.asarray(joined.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(
        len(joined), -1
    )


def _files_schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("content", pa.string()),
            ("name", pa.string()),
            ("kind", pa.string()),
            ("path", pa.string()),
            ("num_parts", pa.int32()),
            ("thumbnail", pa.binary()),
        ]
    )


def _files_table(files: Sequence[IndexedFile], schema: Any) -> Any:
    import pyarrow as pa

    names = [field.name for field in schema]
    rows = [{name: getattr(file, name) for name in names} for file in files]
    return pa.Table.from_pylist(rows, schema=schema)


def _parts_schema(dim: int) -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("content", pa.string()),
            ("start_s", pa.float64()),
            ("end_s", pa.float64()),
            ("vector", pa.list_(pa.float32(), dim)),
        ]
    )


def _parts_table(files: Sequence[tuple[IndexedFile, FileVectors]], schema: Any, dim: int) -> Any:
    import pyarrow as pa

    contents = [file.content for file, parts in files for _ in parts.vectors]
    vectors = np.concatenate([parts.vectors for _, parts in files]).astype(np.float32)
    return pa.table(
        {
            "content": contents,
            "start_s": np.concatenate([parts.starts_s for _, parts in files]),
            "end_s": np.concatenate([parts.ends_s for _, parts in files]),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
        },
        schema=schema,
    )
