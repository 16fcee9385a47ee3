"""Search of an index: from a query to the files that fit it, of both kinds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.core.errors import InputError, shown, type_name
from pipelines.core.messages import Message
from pipelines.core.results import FileKind, Verdict
from pipelines.models.catalogue import MODELS
from pipelines.models.search_query import QueryVector, Vectors
from pipelines.search.indexes import Indexes
from pipelines.search.kinds import TASKS, SearchKind, model_of, resolve_kind
from pipelines.search.results import FoundFile, IndexedFile, IndexSummary, SearchResult
from pipelines.search.tables import Nearest, VectorTables
from pipelines.serving.store import PipelineStore

#: Quantile of the similarities of the index that counts as the level of the rest. Low, so that it
#: is no match of a query that fits much of the index.
BACKGROUND = 0.25

#: Least strength of a result. Chosen on drawn scenes (NOTES.md); a calibrated match is shown in any
#: case.
EDGE = 0.85

#: Least cosine of near-duplicates: the same picture in another size or file format, windows of a
#: video in which nothing changes.
ALIKE = 0.99

#: Most windows of one video among the results.
MOST_OF_A_VIDEO = 3


def strengths(cosines: NDArray[np.float32], sample: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far each similarity stands out: 1 for the best, 0 for the rest of the index.

    A cosine means nothing by itself: a fixed threshold would show all of one index and nothing of
    another. So the low quantile of the index itself is 0.

    The (N,) `cosines` are those of the nearest with the query, the (M,) `sample` those of vectors
    drawn from the whole index. Where the index is all alike to the query, all strengths are 1.
    """
    if not len(cosines):
        return np.zeros(0)
    best = float(cosines.max())
    rest = float(np.quantile(sample, BACKGROUND)) if len(sample) else best
    if best - rest < 1e-4:
        return np.ones(len(cosines))
    return (cosines.astype(np.float64) - rest) / (best - rest)


def without_overlaps(
    contents: Sequence[str], starts_s: Sequence[float], ends_s: Sequence[float]
) -> list[int]:
    """Return the positions, of N parts best first, that overlap no better part of their video.

    Each has the hash of its file, a start and an end in seconds; a picture starts and ends at 0.
    """
    kept: list[int] = []
    taken: dict[str, list[int]] = {}
    for index, content in enumerate(contents):
        others = taken.setdefault(content, [])
        if len(others) >= MOST_OF_A_VIDEO:
            continue
        overlaps = any(
            starts_s[index] == starts_s[other]
            or (starts_s[index] < ends_s[other] and starts_s[other] < ends_s[index])
            for other in others
        )
        if not overlaps:
            others.append(index)
            kept.append(index)
    return kept


def fold(vectors: Vectors, *, alike: float = ALIKE) -> list[list[int]]:
    """Group near-duplicates among (N, D) unit vectors, best first.

    A vector joins the first group whose first vector has a cosine of at least `alike` with it.
    Returns groups of positions; the first of each stands for the others.
    """
    groups: list[list[int]] = []
    heads: list[int] = []
    for index in range(len(vectors)):
        near = vectors[heads] @ vectors[index] if heads else np.zeros(0)
        if len(near) and float(near.max()) >= alike:
            groups[int((near >= alike).argmax())].append(index)
        else:
            groups.append([index])
            heads.append(index)
    return groups


#: Most results of a search, and the nearest vectors that they are chosen from.
MOST_FOUND = 200
CANDIDATES, MOST_CANDIDATES = 1000, 25_000

#: Most characters of a query.
MOST_CHARS = 2000

#: Note on results without a verdict.
_NO_VERDICT = (
    "A text together with an image, and an image with videos, have no verdict: these results stand "
    "out from the rest of the index, but whether they fit is not known."
)

#: Order of verdicts; none counts like "unsure".
_ORDER: dict[Verdict | None, int] = {"match": 0, "unsure": 1, None: 1, "no match": 2}


@dataclass(frozen=True, kw_only=True)
class Query:
    """A search query.

    Attributes:
        text: what should be seen or happen, or "".
        image: an image file for similar results, or None; text or image must be given.
        text_weight: share of the text where both are given, 0..1.
        top_k: most results.

    Raises:
        InputError: no text and no image, or a value is out of its range.
    """

    text: str = ""
    image: Path | None = None
    text_weight: float = 0.5
    top_k: int = 20

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise InputError("query_text must be text but got {given}.", given=type_name(self.text))
        if not self.text.strip() and self.image is None:
            raise InputError("The query is empty. Write what to look for, or give an image.")
        if len(self.text) > MOST_CHARS:
            raise InputError(
                "The query has {count:,} characters; the limit is {limit:,}. Say it in one "
                "sentence.",
                count=len(self.text),
                limit=MOST_CHARS,
            )
        if not _is_within(self.text_weight, 0.0, 1.0):
            raise InputError(
                "text_weight must be within 0..1 but got {given}.", given=shown(self.text_weight)
            )
        if not _is_within(self.top_k, 1, MOST_FOUND) or self.top_k != int(self.top_k):
            raise InputError(
                "top_k must be a whole number within 1..{limit} but got {given}.",
                limit=MOST_FOUND,
                given=shown(self.top_k),
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class KindResults:
    """Results among the pictures, or among the videos: best first, near-duplicates folded.

    `summary` is the size of the searched index; each note is one sentence.
    """

    found: tuple[FoundFile, ...] = ()
    summary: IndexSummary = IndexSummary()
    notes: tuple[str, ...] = ()


def kinds_to_search(
    store: PipelineStore, indexes: Indexes, owner: str, models: Mapping[FileKind, str]
) -> list[SearchKind]:
    """Return the kinds in which an owner has files.

    `models` has the key of the model for each kind; "" for the default, or if nothing was indexed
    with it for one with which something was.

    Raises:
        InputError: there are none, or an unknown key.
    """
    spaces = indexes.spaces(owner)
    kinds = [_kind_with_files(store, kind, model, spaces) for kind, model in models.items()]
    if found := [kind for kind in kinds if kind is not None]:
        return found
    if spaces:
        made_with = " and ".join(sorted({model_of(space) for space in spaces}))
        raise InputError(
            "Nothing was indexed with these models. The index was made with {models}: choose "
            "that, or index the files again.",
            models=made_with,
            title="Another model",
        )
    raise InputError(
        "Nothing is indexed here yet, or it was deleted because nobody used it. Add some files "
        "first; a script sends the index_key that it got back for them.",
        title="No index",
    )


def _kind_with_files(
    store: PipelineStore, kind: FileKind, model: str, spaces: Sequence[str]
) -> SearchKind | None:
    known = {spec.key for spec in MODELS if spec.task == TASKS[kind]}
    others = sorted({model_of(space) for space in spaces} & known)
    for key in [model] if model else ["", *others]:
        resolved = resolve_kind(store, kind, key)
        if resolved.space in spaces:
            return resolved
    return None


def search_kind(
    pipeline: Any, indexes: Indexes, owner: str, kind: SearchKind, query: Query
) -> KindResults:
    """Search an owner's pictures, or videos, with the live model of the kind.

    Raises:
        MediaError: the image of the query cannot be read.
        IndexUnavailable: the index cannot be read.
    """
    indexes.record_use(owner, kind.space)
    tables = indexes.tables(owner, kind.space)
    text, weight = query.text.strip(), float(query.text_weight)
    wanted: QueryVector = pipeline.query_vector(text, query.image, weight)
    files, near = nearest_in(tables, wanted.vector, query.top_k)
    found = _chosen(pipeline, tables, files, near, wanted) if len(near.vectors) else ()
    return KindResults(found=tuple(found), summary=tables.summary(), notes=wanted.notes)


def nearest_in(
    tables: VectorTables, vector: Vectors, num_files: int
) -> tuple[dict[str, IndexedFile], Nearest]:
    """Return the files nearest to a unit vector (D,), by content, and their nearest parts.

    One long video may fill all places though few of its parts are shown: then more are read, until
    there are `num_files` files or no more.
    """
    limit = CANDIDATES
    while True:
        nearest = tables.nearest(vector, limit)
        files = tables.find(nearest.contents)
        near = _in_files(nearest, files)
        enough = len(set(near.contents)) >= num_files or len(nearest.contents) < limit
        if enough or limit >= MOST_CANDIDATES:
            return files, near
        limit *= 5


def merged(kinds: Sequence[KindResults], query: Query) -> SearchResult:
    """Merge the results among pictures and videos into one order.

    Cosines of two models cannot be compared, so the order is by verdict, then by strength. Clear
    mismatches are left out if something fits; results without a verdict are kept, with a note.
    """
    every = [one for kind in kinds for one in kind.found]
    every.sort(key=lambda one: (_ORDER[one.verdict], -one.strength))
    notes = [note for kind in kinds for note in kind.notes]
    if any(one.verdict in {"match", "unsure"} for one in every):
        every = [one for one in every if one.verdict != "no match"]
    elif any(one.verdict == "no match" for one in every):
        notes.insert(0, "Nothing in the index clearly fits; these come nearest.")
    if any(one.verdict is None for one in every):
        notes.append(_NO_VERDICT)
    if len(every) > query.top_k:
        notes.append(
            Message("The best {shown} of {total} are shown.", shown=query.top_k, total=len(every))
        )
    return SearchResult(
        found=tuple(every[: int(query.top_k)]),
        searched=sum((kind.summary for kind in kinds), IndexSummary()),
        notes=tuple(dict.fromkeys(notes)),
    )


def _in_files(near: Nearest, files: dict[str, IndexedFile]) -> Nearest:
    """Leave out vectors of no file, and windows that overlap a nearer one of their video."""
    there = [index for index, content in enumerate(near.contents) if content in files]
    kept = without_overlaps(
        [near.contents[index] for index in there],
        [near.starts_s[index] for index in there],
        [near.ends_s[index] for index in there],
    )
    rows = [there[index] for index in kept]
    return Nearest(
        contents=tuple(near.contents[row] for row in rows),
        starts_s=tuple(near.starts_s[row] for row in rows),
        ends_s=tuple(near.ends_s[row] for row in rows),
        vectors=near.vectors[rows],
    )


def _chosen(
    pipeline: Any,
    tables: VectorTables,
    files: dict[str, IndexedFile],
    near: Nearest,
    query: QueryVector,
) -> list[FoundFile]:
    """Return what stands out among the nearest, near-duplicates folded, with thumbnails."""
    cosines: NDArray[np.float32] = near.vectors @ query.vector
    strong = strengths(cosines, tables.sample() @ query.vector)
    judged = pipeline.assess(query, near.vectors)
    verdicts = [None if one is None else one.verdict for one in judged]
    rows = [row for row in range(len(cosines)) if strong[row] >= EDGE or verdicts[row] == "match"]
    groups = [[rows[index] for index in group] for group in fold(near.vectors[rows])]
    groups = groups[:MOST_FOUND]
    with_thumbnails = tables.find([near.contents[group[0]] for group in groups], thumbnails=True)
    return [
        FoundFile(
            file=with_thumbnails.get(near.contents[head], files[near.contents[head]]),
            start_s=near.starts_s[head],
            end_s=near.ends_s[head],
            cosine=float(np.clip(cosines[head], -1.0, 1.0)),
            strength=float(np.clip(strong[head], 0.0, 1.0)),
            verdict=verdicts[head],
            alike=tuple(_part_name(files, near, row) for row in others),
        )
        for head, *others in groups
    ]


def _part_name(files: dict[str, IndexedFile], near: Nearest, row: int) -> str:
    file = files[near.contents[row]]
    if file.kind == "picture":
        return file.name
    minutes, seconds = divmod(near.starts_s[row], 60)
    return f"{file.name} {int(minutes)}:{seconds:04.1f}"


def _is_within(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and low <= value <= high  # NaN is not


def delete_files(
    indexes: Indexes, owner: str, names: Sequence[str], wait_s: float | None = None
) -> list[str]:
    """Delete all files with some names from all indexes of an owner.

    Returns the names that were found, in order. `wait_s` is that of `Indexes.locked`.
    """
    wanted, found = set(names), set()
    for space in indexes.spaces(owner):
        tables = indexes.tables(owner, space)
        with indexes.locked(owner, wait_s=wait_s):
            gone = [file for file in tables.files().values() if file.name in wanted]
            if gone:
                tables.purge([file.content for file in gone])
                indexes.record_use(owner, space, vectors=tables.summary().vectors)
        found |= {file.name for file in gone}
    return [name for name in dict.fromkeys(names) if name in found]
