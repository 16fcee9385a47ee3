"""Tables of an index in LanceDB: names, thumbnails and vectors of files."""

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

#: Attempts of a read or write: another process may just have changed the table.
TRIES = 4
RETRY_WAIT_S = 0.1

#: Age at which old versions of a table are deleted for good; no search reads them any more.
KEEP_VERSIONS = timedelta(seconds=60)

#: Most rows of a result.
MOST_ROWS = 10_000_000

#: Memory of LanceDB for indexes and for tables; its default is gigabytes.
INDEX_CACHE_BYTES = 512_000_000
METADATA_CACHE_BYTES = 64_000_000

Rows = Sequence[Mapping[str, Any]]
Result = TypeVar("Result")


class IndexUnavailable(PipelineError):
    """The index cannot be read or written."""

    title = "Index not available"


class Database:
    """Tables by name, thread-safe; LanceDB is imported and opened at first use.

    Any method raises `IndexUnavailable` if the database does not answer.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._writing = threading.Lock()
        self._connecting = threading.Lock()
        self._used_s = time.monotonic()

    @property
    def folder(self) -> Path | None:
        """Its folder; None on object storage or a server."""
        return None if "://" in self.uri else Path(self.uri)

    @cached_property
    def _connection(self) -> Any:
        import lancedb

        if self.folder is not None:  # closed to other users
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        session = lancedb.Session(INDEX_CACHE_BYTES, METADATA_CACHE_BYTES)
        # each read sees the latest write of any process
        return lancedb.connect(self.uri, read_consistency_interval=timedelta(0), session=session)

    def release_idle(self, idle_s: float) -> None:
        """Release LanceDB's memory after `idle_s` seconds without use."""
        if self.uri.startswith("memory:"):  # it would lose the tables
            return
        with self._connecting:
            if time.monotonic() - self._used_s >= idle_s:
                vars(self).pop("_connection", None)  # current reads still have it

    def is_missing(self) -> bool:
        """Return whether it is a folder that does not exist yet."""
        return self.folder is not None and not self.folder.is_dir()

    def rows(self, name: str, columns: Sequence[str], where: str = "") -> list[dict[str, Any]]:
        """Return rows of a table; none if there is no such table."""

        def read(table: Any) -> list[dict[str, Any]]:
            query = table.search().select(list(columns)).limit(MOST_ROWS)
            found: list[dict[str, Any]] = (
                (query.where(where) if where else query).to_arrow().to_pylist()
            )
            return found

        return self.read(name, read, [])

    def count(self, name: str, where: str | None = None) -> int:
        """Return the number of rows of a table; 0 if there is no such table."""
        return self.read(name, lambda table: int(table.count_rows(where)), 0)

    def read(self, name: str, read: Callable[[Any], Result], default: Result) -> Result:
        """Return the result of `read` for LanceDB's table, or `default` if there is none."""

        def attempt() -> Result:
            table = self._open(name)
            return default if table is None else read(table)

        return self._tried(attempt)

    def put(self, name: str, rows: Any, *, key: str = "") -> None:
        """Add a pyarrow table to a table, which is created if it is missing.

        `key` is a column: rows with an existing value of it are replaced.
        """

        def write() -> None:
            table = self._connection.create_table(name, schema=rows.schema, exist_ok=True)
            if key:
                merge = table.merge_insert(key)
                merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
            else:
                table.add(rows)

        with self._writing:
            self._tried(write)

    def delete(self, name: str, where: str) -> None:
        """Delete the rows of a table for which an SQL condition holds."""
        self._change(name, lambda table: table.delete(where))

    def drop(self, name: str) -> None:
        """Delete a table with all of its versions."""
        with self._writing:
            self._tried(lambda: self._connection.drop_table(name, ignore_missing=True))

    def compact(self, name: str) -> None:
        """Join small fragments, and delete old versions for good."""
        self._change(name, lambda table: table.optimize(cleanup_older_than=KEEP_VERSIONS))

    def rewrite(self, name: str) -> None:
        """Rewrite a table, so that no fragment of it holds deleted rows.

        LanceDB only marks deleted rows until a tenth of a fragment is deleted. The old fragments
        are deleted with the old versions; see `compact`.
        """

        def write(table: Any) -> None:  # one transaction: concurrent additions stay
            table.update(values_sql={column: column for column in table.schema.names[:1]})

        self._change(name, write)

    def index_vectors(self, name: str) -> None:
        """Cluster the vectors of a table into cells, so that a search reads only some of them."""
        from lancedb.index import IvfFlat

        def write(table: Any) -> None:
            if not self.num_cells(table):
                cells = max(1, round(math.sqrt(table.count_rows())))
                config = IvfFlat(distance_type="cosine", num_partitions=cells)
                table.create_index("vector", config=config)

        self._change(name, write)

    def _change(self, name: str, change: Callable[[Any], object]) -> None:
        with self._writing:
            self.read(name, change, None)

    def num_cells(self, table: Any) -> int:
        """Return the number of cells of a table's vectors; 0 if they are not clustered."""
        found = [index for index in table.list_indices() if "vector" in index.columns]
        return round(math.sqrt(found[0].num_indexed_rows)) if found else 0

    def _open(self, name: str) -> Any:
        """Return the current version of a table, or None if there is none."""
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
                log.info("A request to the index failed: %s", type(error).__name__)
                last = error
            time.sleep(RETRY_WAIT_S * (number + 1))
        log.warning("The index cannot be used: %s", last)
        raise unavailable() from last


def unavailable() -> IndexUnavailable:
    """Return the error of a database that does not answer."""
    return IndexUnavailable(
        "The index cannot be read or written just now: its disk is full or damaged, another "
        "process keeps writing to it, or its server does not answer. Try again; what was indexed "
        "before is kept."
    )


def quoted(values: Sequence[str]) -> Iterator[str]:
    """Yield texts as SQL literals."""
    for value in values:
        yield "'" + value.replace("'", "''") + "'"


#: Most vectors that are all compared with a query; beyond, only those of the nearest cells.
MOST_EXACT = 100_000

#: Share of the cells of a large index that a query reads.
CELLS_READ = 0.25

#: Vectors drawn from an index as a sample of it.
SAMPLE = 1000

_NONE: Vectors = np.zeros((0, 0), np.float32)

#: Files that are renamed together.
_RENAMED = 500

#: Columns of a file without its thumbnail.
_COLUMNS = ("content", "name", "kind", "path", "num_parts")


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearest:
    """The vectors nearest to a query, nearest first.

    Each has its file and its start and end in it, in seconds; `vectors` are (N, D) float32, unit
    length.
    """

    contents: tuple[str, ...]
    starts_s: tuple[float, ...]
    ends_s: tuple[float, ...]
    vectors: Vectors


class VectorTables:
    """The files of one owner in the space of one model's vectors: two tables, named after `name`.

    Vectors are written before their file: a killed run leaves vectors of no file, which no search
    shows and the next run replaces.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._files, self._parts = f"{name}.files", f"{name}.parts"

    def files(self) -> dict[str, IndexedFile]:
        """Return all files by content, without thumbnails."""
        return self._rows(_COLUMNS)

    def find(self, contents: Iterable[str], *, thumbnails: bool = False) -> dict[str, IndexedFile]:
        """Return the files with some contents, with or without thumbnails."""
        asked = list(dict.fromkeys(contents))
        if not asked:
            return {}
        columns = (*_COLUMNS, "thumbnail") if thumbnails else _COLUMNS
        return self._rows(columns, _of(asked))

    def _rows(self, columns: Sequence[str], where: str = "") -> dict[str, IndexedFile]:
        rows = self._database.rows(self._files, columns, where)
        return {row["content"]: IndexedFile(**row) for row in rows}

    def summary(self) -> IndexSummary:
        """Return the size of the index."""
        return IndexSummary(
            pictures=self._database.count(self._files, "kind = 'picture'"),
            videos=self._database.count(self._files, "kind = 'video'"),
            vectors=self._database.count(self._parts),
        )

    def add(self, files: Sequence[tuple[IndexedFile, FileVectors]]) -> None:
        """Add files with their vectors; files of the same content are replaced."""
        if not files:
            return
        self._database.delete(self._parts, _of(file.content for file, _ in files))
        dim = files[0][1].vectors.shape[1]
        self._database.put(self._parts, _parts_table(files, dim))
        rows = _files_table([file for file, _ in files])
        self._database.put(self._files, rows, key="content")

    def rename(self, files: Sequence[IndexedFile]) -> None:
        """Update the names and places of files."""
        for start in range(0, len(files), _RENAMED):
            some = {file.content: file for file in files[start : start + _RENAMED]}
            there = self.find(some, thumbnails=True)
            rows = [
                replace(file, name=some[content].name, path=some[content].path)
                for content, file in there.items()
            ]
            self._database.put(self._files, _files_table(rows), key="content")

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
        self.compact()

    def drop(self) -> None:
        """Delete everything."""
        self._database.drop(self._files)
        self._database.drop(self._parts)

    def compact(self, most_exact: int = MOST_EXACT) -> None:
        """Join small fragments, delete old versions, and index more than `most_exact` vectors."""
        for name in (self._files, self._parts):
            self._database.compact(name)
        if self._database.count(self._parts) > most_exact:
            self._database.index_vectors(self._parts)

    def nearest(self, vector: Vectors, limit: int) -> Nearest:
        """Return the vectors nearest to a unit vector (D,), at most `limit`."""

        def read(table: Any) -> Any:
            asked = table.search(vector, vector_column_name="vector").distance_type("cosine")
            cells = self._database.num_cells(table)
            if cells:
                asked = asked.nprobes(max(1, round(cells * CELLS_READ)))
            columns = ["content", "start_s", "end_s", "vector", "_distance"]
            return asked.select(columns).limit(limit).to_arrow()

        found = self._database.read(self._parts, read, None)
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

        def read(table: Any) -> Vectors:
            total = int(table.count_rows())
            if not total:
                return _NONE
            drawn = random.Random(total).sample(range(total), min(size, total))
            rows = table.take_offsets(sorted(drawn)).select(["vector"]).to_arrow()
            return _matrix(rows["vector"])

        return self._database.read(self._parts, read, _NONE)


def _of(contents: Iterable[str]) -> str:
    return f"content IN ({', '.join(quoted(list(contents)))})"


def _matrix(column: Any) -> Vectors:
    joined = column.combine_chunks()
    return np.asarray(joined.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(
        len(joined), -1
    )


def _files_table(files: Sequence[IndexedFile]) -> Any:
    import pyarrow as pa

    schema = pa.schema(
        [
            ("content", pa.string()),
            ("name", pa.string()),
            ("kind", pa.string()),
            ("path", pa.string()),
            ("num_parts", pa.int32()),
            ("thumbnail", pa.binary()),
        ]
    )
    rows = [{name: getattr(file, name) for name in schema.names} for file in files]
    return pa.Table.from_pylist(rows, schema=schema)


def _parts_table(files: Sequence[tuple[IndexedFile, FileVectors]], dim: int) -> Any:
    import pyarrow as pa

    schema = pa.schema(
        [
            ("content", pa.string()),
            ("start_s", pa.float64()),
            ("end_s", pa.float64()),
            ("vector", pa.list_(pa.float32(), dim)),
        ]
    )
    vectors = np.concatenate([parts.vectors for _, parts in files]).astype(np.float32)
    return pa.table(
        {
            "content": [file.content for file, parts in files for _ in parts.vectors],
            "start_s": np.concatenate([parts.starts_s for _, parts in files]),
            "end_s": np.concatenate([parts.ends_s for _, parts in files]),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
        },
        schema=schema,
    )
