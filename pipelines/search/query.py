"""From a query to the files that fit it, of both kinds. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.core.errors import InputError, kind_of, shown
from pipelines.core.results import Verdict
from pipelines.models.catalogue import MODELS
from pipelines.search.indexes import Library
from pipelines.search.kinds import TASKS, Side, model_of, side_of
from pipelines.search.ranking import EDGE, apart_in_time, fold, strengths
from pipelines.search.results import (
    Aim,
    FileKind,
    Found,
    Holding,
    IndexedFile,
    Search,
    Vectors,
)
from pipelines.search.tables import Nearest, Shelf
from pipelines.serving.store import PipelineStore

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
            raise InputError(f"query_text must be text but got {kind_of(self.text)}.")
        if not self.text.strip() and self.image is None:
            raise InputError("The query is empty. Write what to look for, or give an image.")
        if len(self.text) > MOST_CHARS:
            raise InputError(
                f"The query has {len(self.text):,} characters; the limit is {MOST_CHARS:,}. "
                "Say it in one sentence."
            )
        if not _is_within(self.text_weight, 0.0, 1.0):
            raise InputError(f"text_weight must be within 0..1 but got {shown(self.text_weight)}.")
        if not _is_within(self.top_k, 1, MOST_FOUND) or self.top_k != int(self.top_k):
            raise InputError(
                f"top_k must be a whole number within 1..{MOST_FOUND} but got {shown(self.top_k)}."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class SideFound:
    """What was found among the pictures, or the videos.

    Attributes:
        found: best first, near-duplicates folded.
        holding: how much was searched.
        notes: what a person should know, one sentence each.
    """

    found: tuple[Found, ...] = ()
    holding: Holding = Holding()
    notes: tuple[str, ...] = ()


def sides_to_search(store: PipelineStore, owner: str, models: Mapping[FileKind, str]) -> list[Side]:
    """Return the sides in which an owner has files.

    Args:
        store: knows the models and holds the indexes.
        owner: whose.
        models: key of the model for each kind; "" for the default, or where nothing was indexed
            with it for the one with which something was.

    Raises:
        InputError: in none, or unknown key; the message says of which models there are any.
    """
    there = store.library.spaces(owner)
    sides = [_side_with_files(store, kind, model, there) for kind, model in models.items()]
    found = [side for side in sides if side is not None]
    if found:
        return found
    if there:
        made_with = " and ".join(sorted({model_of(space) for space in there}))
        raise InputError(
            f"Nothing was indexed with these models. The index was made with {made_with}: choose "
            "that, or index the files again.",
            title="Another model",
        )
    raise InputError(
        "Nothing is indexed here yet, or it was deleted because nobody used it. Add some files "
        "first; a script sends the index_key that it got back for them.",
        title="No index",
    )


def _side_with_files(
    store: PipelineStore, kind: FileKind, model: str, there: Sequence[str]
) -> Side | None:
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


def look_in(pipeline: Any, library: Library, owner: str, side: Side, query: Query) -> SideFound:
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
    aim: Aim = pipeline.aim(query.text.strip(), query.image, float(query.text_weight))
    files, near = nearest_in(shelf, aim.vector, query.top_k)
    holding = shelf.holding()
    if not len(near.vectors):
        return SideFound(holding=holding, notes=aim.notes)
    found = _chosen(pipeline, shelf, files, near, aim)
    return SideFound(found=tuple(found), holding=holding, notes=aim.notes)


def nearest_in(
    shelf: Shelf, vector: Vectors, num_files: int
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


def merged(sides: Sequence[SideFound], query: Query) -> Search:
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
        notes.append(f"The best {query.top_k} of {len(every)} are shown.")
    return Search(
        found=tuple(every[: int(query.top_k)]),
        searched=Holding(
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
    pipeline: Any, shelf: Shelf, files: dict[str, IndexedFile], near: Nearest, aim: Aim
) -> list[Found]:
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
        Found(
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
    library: Library, owner: str, names: Sequence[str], wait_s: float | None = None
) -> list[str]:
    """Delete files from all indexes of an owner.

    Args:
        library: holds the indexes.
        owner: whose.
        names: of the files; all files of such a name go.
        wait_s: seconds to wait for who writes; see `Library.changing`.

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
