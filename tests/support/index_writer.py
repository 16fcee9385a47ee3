"""A process that adds files to an index and deletes some, while others do the same.

`python -m tests.support.index_writer FOLDER FIRST COUNT HOW`: FIRST is the number of its first
file, COUNT how many batches of three it adds; of each, the second file is deleted. HOW is
"library", as the app does it, or "tables", without the lock of a folder, as on object storage.
"""

import sys

import numpy as np

from pipelines.models.search_query import FileVectors
from pipelines.search.indexes import Indexes
from pipelines.search.query import delete_files
from pipelines.search.results import IndexedFile

OWNER, SPACE, DIM = "owner", "picture.m.1", 16


def entry(number: int) -> tuple[IndexedFile, FileVectors]:
    draw = np.random.default_rng(number)
    vector = draw.normal(size=(1, DIM)).astype(np.float32)
    file = IndexedFile(
        content=f"{number:040x}",
        name=f"{number}.png",
        kind="picture",
        path=f"/there/{number}.png",
        num_parts=1,
        thumbnail=b"JPEG",
    )
    return file, FileVectors(starts_s=np.zeros(1), ends_s=np.zeros(1), vectors=vector)


def main(folder: str, first: int, count: int, how: str) -> None:
    indexes = Indexes(folder)
    tables = indexes.tables(OWNER, SPACE)
    for number in range(first, first + 3 * count, 3):
        entries = [entry(number + offset) for offset in range(3)]
        if how == "tables":
            tables.add(entries)
            tables.purge([f"{number + 1:040x}"])
            continue
        with indexes.locked(OWNER):
            indexes.record_use(OWNER, SPACE, vectors=0)
            tables.add(entries)
        assert delete_files(indexes, OWNER, [f"{number + 1}.png"]) == [f"{number + 1}.png"]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
