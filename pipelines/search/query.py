"""From a query to the files that fit it, of both kinds. Torch-free."""

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
from pipelines.search.kinds import TASKS, SearchKind, model_of, side_of
from pipelines.search.results import FoundFile, IndexedFile, IndexSummary, SearchResult
from pipelines.search.tables import Nearest, VectorTables
from pipelines.serving.store import PipelineStore

#: Share of the index whose similarity to the query counts as the rest that a result must beat:
#: up to this quantile. Low, so that it is no match of a query that fits much of the index.
BACKGROUND = 0.25

#: How far above the rest a result must be, as a share of the way to the best one. Chosen on drawn
#: scenes (NOTES.md); what the model is calibrated to call a match is shown in any case.
EDGE = 0.85

#: Cosine from which on two results are taken for the same: the same picture in another size or
#: file format, windows of a video in which nothing changes.
ALIKE = 0.99

#: Windows of one video that are shown at most, so that a long one does not fill the page.
MOST_OF_A_VIDEO = 3


def strengths(cosines: NDArray[np.float32], sample: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far each similarity stands out: 1 for the best, 0 for the rest of the index.

    A cosine of 0.25 means nothing by itself, and a fixed threshold would show all of one index
    and nothing of another. So the rest of the index is the measure: its low quantile is 0.

    Args:
        cosines: (N,) of the nearest with the query.
        sample: (M,) of vectors drawn from the whole index.

    Returns:
        (N,); all 1 where the index is all alike to the query.
    """
    if not len(cosines):
        return np.zeros(0)
    best = float(cosines.max())
    rest = float(np.quantile(sample, BACKGROUND)) if len(sample) else best
    if best - rest < 1e-4:
        return np.ones(len(cosines))
    return (cosines.astype(np.float64) - rest) / (best - rest)


def apart_in_time(
    contents: Sequence[str], starts_s: Sequence[float], ends_s: Sequence[float]
) -> list[int]:
    """Return the positions to keep, of parts best first: none overlaps a better one of its video.

    Args:
        contents: of N parts, which file each is of.
        starts_s: where each starts; a picture starts and ends at 0.
        ends_s: where it ends.
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
    """Group near-duplicates.

    Args:
        vectors: (N, D) of length 1, best first.
        alike: cosine from which on one joins the first group whose head it is so near to.

    Returns:
        Groups of positions; the first of each stands for the others.
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

#: Characters of a query that are read.
MOST_CHARS = 2000

#: Told where results have no verdict.
_NO_VERDICT = (
    "A text together with an image, and an image with videos, have no verdict: these results stand "
    "out from the rest of the index, but whether they fit is not known."
)

#: How verdicts are ordered among each other; none says as little as "unsure".
_ORDER: dict[Verdict | None, int] = {"match": 0, "unsure": 1, None: 1, "no match": 2}


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is looked for.

    Attributes:
        text: what should be seen or happen, or "".
        image: an image file like which it should look, or None; one of the two is given.
        text_weight: share of the text where both are given, 0..1.
        top_k: most results.

    Raises:
        InputError: nothing is asked for, or a value is out of its range.
    """

    text: str = ""
    image: Path | None = None
    text_weight: float = 0.5
    top_k: int = 20

    def __post_init__(self) -> None:
        """Check that something is asked for, and the ranges."""
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
    """What was found among the pictures, or the videos.

    Attributes:
        found: best first, near-duplicates folded.
        holding: how much was searched.
        notes: what a person should know, one sentence each.
    """

    found: tuple[FoundFile, ...] = ()
    holding: IndexSummary = IndexSummary()
    notes: tuple[str, ...] = ()


def sides_to_search(
    store: PipelineStore, indexes: Indexes, owner: str, models: Mapping[FileKind, str]
) -> list[SearchKind]:
    """Return the sides in which an owner has files.

    Args:
        store: knows the models.
        indexes: the indexes of all owners.
        owner: whose.
        models: key of the model for each kind; "" for the default, or where nothing was indexed
            with it for the one with which something was.

    Raises:
        InputError: in none, or unknown key; the message says of which models there are any.
    """
    there = indexes.spaces(owner)
    sides = [_side_with_files(store, kind, model, there) for kind, model in models.items()]
    found = [side for side in sides if side is not None]
    if found:
        return found
    if there:
        made_with = " and ".join(sorted({model_of(space) for space in there}))
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


def _side_with_files(
    store: PipelineStore, kind: FileKind, model: str, there: Sequence[str]
) -> SearchKind | None:
    side = side_of(store, kind, model)
    if side.space in there:
        return side
    if model:
        return None
    known = {spec.key for spec in MODELS if spec.task == TASKS[kind]}
    for key in sorted({model_of(space) for space in there} & known):
        other = side_of(store, kind, key)
        if other.space in there:
            return other
    return None


def look_in(
    pipeline: Any, library: Indexes, owner: str, side: SearchKind, query: Query
) -> KindResults:
    """Look for a query among an owner's pictures, or videos.

    Args:
        pipeline: the live model of the side.
        library: holds the indexes.
        owner: whose.
        side: which.
        query: what is looked for.

    Raises:
        MediaError: the image of the query cannot be read.
        IndexUnavailable: the index cannot be read.
    """
    library.note(owner, side.space)
    shelf = library.shelf(owner, side.space)
    aim: QueryVector = pipeline.aim(query.text.strip(), query.image, float(query.text_weight))
    files, near = nearest_in(shelf, aim.vector, query.top_k)
    holding = shelf.holding()
    if not len(near.vectors):
        return KindResults(holding=holding, notes=aim.notes)
    found = _chosen(pipeline, shelf, files, near, aim)
    return KindResults(found=tuple(found), holding=holding, notes=aim.notes)


def nearest_in(
    shelf: VectorTables, vector: Vectors, num_files: int
) -> tuple[dict[str, IndexedFile], Nearest]:
    """Return the files nearest to a unit vector (D,), by content, and their nearest parts.

    One long video may fill all places though few of its moments are shown: then more are asked
    for, until there are `num_files` files or no more.
    """
    limit = CANDIDATES
    while True:
        nearest = shelf.nearest(vector, limit)
        files = shelf.some(nearest.contents)
        near = _in_files(nearest, files)
        enough = len(set(near.contents)) >= num_files or len(nearest.contents) < limit
        if enough or limit >= MOST_CANDIDATES:
            return files, near
        limit *= 5


def merged(sides: Sequence[KindResults], query: Query) -> SearchResult:
    """Put what was found among pictures and videos into one order.

    Cosines of two models cannot be compared, so it goes by verdict, then by how far each stands
    out among its kind. Where something fits, what clearly does not is left out; what has no
    verdict is no such thing, and is told of.
    """
    every = [one for side in sides for one in side.found]
    every.sort(key=lambda one: (_ORDER[one.verdict], -one.strength))
    notes = [note for side in sides for note in side.notes]
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
        searched=IndexSummary(
            pictures=sum(side.holding.pictures for side in sides),
            videos=sum(side.holding.videos for side in sides),
            vectors=sum(side.holding.vectors for side in sides),
        ),
        notes=tuple(dict.fromkeys(notes)),
    )


def _in_files(near: Nearest, files: dict[str, IndexedFile]) -> Nearest:
    """Leave out vectors of no file, and windows that overlap a nearer one of their video."""
    there = [index for index, content in enumerate(near.contents) if content in files]
    kept = apart_in_time(
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
    shelf: VectorTables,
    files: dict[str, IndexedFile],
    near: Nearest,
    aim: QueryVector,
) -> list[FoundFile]:
    """Return what stands out among the nearest, near-duplicates folded, with thumbnails."""
    cosines: NDArray[np.float32] = near.vectors @ aim.vector
    strong = strengths(cosines, shelf.sample() @ aim.vector)
    judged = pipeline.judge_found(aim, near.vectors)
    verdicts = [None if one is None else one.verdict for one in judged]
    rows = [row for row in range(len(cosines)) if strong[row] >= EDGE or verdicts[row] == "match"]
    groups = [[rows[index] for index in group] for group in fold(near.vectors[rows])]
    groups = groups[:MOST_FOUND]
    thumbed = shelf.some([near.contents[group[0]] for group in groups], thumbnails=True)
    return [
        FoundFile(
            file=thumbed.get(near.contents[head], files[near.contents[head]]),
            start_s=near.starts_s[head],
            end_s=near.ends_s[head],
            cosine=float(np.clip(cosines[head], -1.0, 1.0)),
            strength=float(np.clip(strong[head], 0.0, 1.0)),
            verdict=verdicts[head],
            alike=tuple(_called(files, near, row) for row in others),
        )
        for head, *others in groups
    ]


def _called(files: dict[str, IndexedFile], near: Nearest, row: int) -> str:
    """Return what a picture, or a part of a video, is called among those that are alike."""
    file = files[near.contents[row]]
    if file.kind == "picture":
        return file.name
    minutes, seconds = divmod(near.starts_s[row], 60)
    return f"{file.name} {int(minutes)}:{seconds:04.1f}"


def _is_within(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and low <= value <= high  # what is no number at all is within nothing


def delete_files(
    library: Indexes, owner: str, names: Sequence[str], wait_s: float | None = None
) -> list[str]:
    """Delete files from all indexes of an owner.

    Args:
        library: holds the indexes.
        owner: whose.
        names: of the files; all files of such a name go.
        wait_s: seconds to wait for who writes; see `Indexes.changing`.

    Returns:
        The names that were found, in order.
    """
    wanted, found = set(names), set()
    for space in library.spaces(owner):
        shelf = library.shelf(owner, space)
        with library.changing(owner, wait_s=wait_s):
            gone = [file for file in shelf.files().values() if file.name in wanted]
            if gone:
                shelf.purge([file.content for file in gone])
                library.note(owner, space, vectors=shelf.holding().vectors)
        found |= {file.name for file in gone}
    return [name for name in dict.fromkeys(names) if name in found]
