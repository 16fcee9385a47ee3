"""The index of the Search tab beside brute force: `python benchmarks/bench_search.py [--quick]`.

Fills an index with vectors in clusters, as those of pictures are, and asks it for the ten nearest
of new ones: how many of the true ten it gives, and its CPU time beside that of brute force, one
product of a matrix that is kept in memory, which an index on disk is not. Once with every vector
compared, as up to 100,000 of them are, once in cells, as beyond. The last line is JSON; `--write`
also keeps it beside this script.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from benchmarks.measuring import Row, compare, report  # noqa: E402
from pipelines.models.search_query import FileVectors  # noqa: E402
from pipelines.search.indexes import Indexes  # noqa: E402
from pipelines.search.results import IndexedFile  # noqa: E402
from pipelines.search.tables import VectorTables  # noqa: E402

DIM = 512
CLUSTERS = 1000
NEAREST = 10
WRITTEN_AT_ONCE = 5000

Vectors = NDArray[np.float32]


def clustered(count: int, seed: int) -> Vectors:
    """Return (count, DIM) unit vectors about common centres."""
    centres = np.random.default_rng(0).normal(size=(CLUSTERS, DIM))
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, DIM))
    found = centres[rng.integers(0, CLUSTERS, count)] + 0.8 * noise
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def fill(tables: VectorTables, vectors: Vectors) -> float:
    """Write vectors into an index, one a file; return how many a second."""
    start = time.perf_counter()
    zero = np.zeros(1)
    for first in range(0, len(vectors), WRITTEN_AT_ONCE):
        tables.add(
            [
                (
                    IndexedFile(
                        content=f"{number:040x}",
                        name=f"{number}.jpg",
                        kind="picture",
                        path="",
                        num_parts=1,
                    ),
                    FileVectors(starts_s=zero, ends_s=zero, vectors=vectors[number : number + 1]),
                )
                for number in range(first, min(first + WRITTEN_AT_ONCE, len(vectors)))
            ]
        )
    tables.compact(most_exact=len(vectors))
    return len(vectors) / (time.perf_counter() - start)


def true_nearest(vectors: Vectors, query: Vectors) -> list[int]:
    """Return the positions of the nearest by brute force."""
    cosines = vectors @ query
    few = np.argpartition(-cosines, NEAREST)[:NEAREST]
    return [int(index) for index in few[np.argsort(-cosines[few])]]


def nearest(tables: VectorTables, query: Vectors) -> list[int]:
    """Return the positions of the nearest by the index."""
    return [int(content, 16) for content in tables.nearest(query, NEAREST).contents]


def beside_brute_force(
    tables: VectorTables, vectors: Vectors, queries: Vectors, times: int, what: str
) -> Row:
    """Return a line of the table."""
    hits = sum(
        len(set(true_nearest(vectors, query)) & set(nearest(tables, query))) for query in queries
    )
    recall = hits / (NEAREST * len(queries))
    turns: Iterator[Vectors] = cycle(queries)
    ask: Callable[[], object] = lambda: nearest(tables, next(turns))  # noqa: E731
    ours_s, theirs_s = compare(ask, lambda: true_nearest(vectors, next(turns)), times)
    return {
        "what": f"{what}: recall at {NEAREST} is {recall:.4f}, {ours_s * 1e3:.1f} ms a query",
        "ratio": f"{ours_s / theirs_s:.1f}x",
        "goal": "recall ≥ 0.99",
        "recall": recall,
        "ours_s": round(ours_s, 5),
        "theirs_s": round(theirs_s, 5),
        "met": recall >= 0.99,
    }


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20,000 vectors only")
    parser.add_argument("--write", action="store_true", help="keep the figures beside this script")
    args = parser.parse_args()
    rows = []
    for count in (20_000,) if args.quick else (20_000, 200_000):
        with TemporaryDirectory() as folder:
            tables = Indexes(folder).tables("bench", "picture.bench.1")
            vectors, queries = clustered(count, 1), clustered(100, 2)
            print(f"{count:,} vectors written, {fill(tables, vectors):,.0f} a second")
            times = 30
            every = f"{count:,} vectors, every one compared"
            rows.append(beside_brute_force(tables, vectors, queries, times, every))
            tables.compact(most_exact=0)
            cells = f"{count:,} vectors in cells"
            rows.append(beside_brute_force(tables, vectors, queries, times, cells))
    report(__file__, rows, args, f"vectors of {DIM} numbers on disk, brute force in memory")


if __name__ == "__main__":
    main()
