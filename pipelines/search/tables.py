"""An owner's files as one model sees them: names, thumbnails and vectors. Torch-free."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines.search.database import Database, quoted
from pipelines.search.results import Holding, IndexedFile, Parts, Vectors

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


class Shelf:
    """The files of one owner in the space of one model's vectors.

    Vectors are written before the file that they belong to: what a killed run leaves behind is
    vectors of no file, which no search shows and the next run writes anew.
    """

    def __init__(self, database: Database, name: str) -> None:
        """Keep two tables whose names begin with `name`."""
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

    def holding(self) -> Holding:
        """Return how much there is."""
        return Holding(
            pictures=self._database.count(self._files, "kind = 'picture'"),
            videos=self._database.count(self._files, "kind = 'video'"),
            vectors=self._database.count(self._parts),
        )

    def add(self, files: Sequence[tuple[IndexedFile, Parts]]) -> None:
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


def _parts_table(files: Sequence[tuple[IndexedFile, Parts]], schema: Any, dim: int) -> Any:
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
