"""A run that brings files into an index; ended at any moment, it goes on there. Torch-free."""

import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import inf
from time import monotonic
from typing import Any

import numpy as np

from pipelines.compute.background import stream_work
from pipelines.compute.lru import FileDigests
from pipelines.core.cancel import CancelToken
from pipelines.core.errors import InputError, MediaError
from pipelines.core.messages import Message
from pipelines.core.results import Embeddings, FileKind
from pipelines.core.text import replace_surrogates
from pipelines.media.images import NamedImage
from pipelines.media.thumbnails import thumbnail
from pipelines.models.notes import VIDEO_LOST, lost_frames_notes
from pipelines.models.search_query import FileVectors, WindowBatch
from pipelines.search.indexes import MOST_VECTORS, Indexes
from pipelines.search.kinds import SearchKind, kind_of
from pipelines.search.results import FileOutcome, IndexedFile
from pipelines.search.tables import IndexUnavailable, VectorTables
from pipelines.serving.store import PipelineStore

#: Pictures that a turn at the device is taken for, and seconds of one over a video.
PICTURES_A_TURN = 8
TURN_S = 4.0


class Encoder:
    """Lends the models of an index's sides, for one turn at a time: visitors come first."""

    def __init__(
        self,
        store: PipelineStore,
        cancel: CancelToken,
        tell: Callable[[str], None] = lambda stage: None,
    ) -> None:
        """Take models from `store`.

        Args:
            store: lends them.
            cancel: ends the work with `Cancelled`.
            tell: told what is done just now, for people.
        """
        self._store = store
        self._cancel = cancel
        self._tell = tell
        self._fetched: set[str] = set()

    def pictures(self, side: SearchKind, files: Sequence[NamedImage]) -> list[FileVectors | str]:
        """Return the vector of each picture, or what is wrong with it.

        Raises:
            Cancelled: `cancel` is cancelled.
            WeightsError, MemoryLimitError: there is no model to be had.
        """
        self._fetch(side)
        with self._turn(side) as clip:
            try:
                return _each(clip.embed_images(files))
            except MediaError as error:
                if len(files) == 1:
                    return [error.message]
        return [one for file in files for one in self.pictures(side, [file])]

    def video(self, side: SearchKind, file: NamedImage) -> FileVectors | str:
        """Return the vectors of a video's windows, or what is wrong with it; see `pictures`."""
        self._fetch(side)
        got: list[WindowBatch] = []
        try:
            while not got or got[-1].done < got[-1].total:
                self._windows_of_a_turn(side, file, got)
            return _whole(got)
        except (MediaError, InputError) as error:
            return error.message

    def _windows_of_a_turn(
        self, side: SearchKind, file: NamedImage, got: list[WindowBatch]
    ) -> None:
        """Add to the windows of a video what one turn gives.

        They are kept here, not with the model, which may be gone in the next turn: displaced by
        another one, or living in a process that ends with the turn.
        """
        first = got[-1].done if got else 0
        with self._turn(side) as viclip, closing(viclip.windows(file.path, first)) as steps:
            until = monotonic() + TURN_S
            for step in steps:
                if got and step.total != got[0].total:
                    raise MediaError("The file was changed while it was read. Add it again.")
                got.append(step)
                self._cancel.check()
                self._tell(
                    Message(
                        "{name}: {done:,} of {total:,} parts",
                        name=file.name,
                        done=step.done,
                        total=step.total,
                    )
                )
                if monotonic() > until:
                    break

    @contextmanager
    def _turn(self, side: SearchKind) -> Iterator[Any]:
        with (
            self._store.queue.batch(self._cancel),
            self._store.use(side.spec.key, side.task, self._cancel, inf) as pipeline,
        ):
            yield pipeline

    def _fetch(self, side: SearchKind) -> None:
        """Download the weights where they are not on disk."""
        if side.spec.key in self._fetched:
            return
        for step in self._store.fetch(side.spec.key, side.task):
            self._tell(step.message(side.spec.title))
            self._cancel.check()
        self._fetched.add(side.spec.key)


def _whole(got: Sequence[WindowBatch]) -> FileVectors:
    """Return all windows of a video that came one after the other.

    Raises:
        MediaError: not one of them can be read.
    """
    seen = [step.parts for step in got if len(step.parts.vectors)]
    if not seen:
        raise MediaError(VIDEO_LOST)
    lost = frozenset().union(*(step.lost for step in got))
    return FileVectors(
        starts_s=np.concatenate([parts.starts_s for parts in seen]),
        ends_s=np.concatenate([parts.ends_s for parts in seen]),
        vectors=np.concatenate([parts.vectors for parts in seen]),
        notes=tuple(lost_frames_notes(len(lost), got[-1].num_frames)),
    )


def _each(embedded: Embeddings) -> list[FileVectors | str]:
    reasons = iter(reason for _, reason in embedded.errors)
    return [
        next(reasons)
        if vector is None
        else FileVectors(
            starts_s=np.zeros(1),
            ends_s=np.zeros(1),
            vectors=np.asarray([vector], np.float32),
        )
        for vector in embedded.vectors
    ]


log = logging.getLogger(__name__)

#: Files, vectors and seconds after which what was encoded is written down together.
WRITE_FILES = 64
WRITE_VECTORS = 2000
WRITE_S = 5.0

#: Seconds between two signs that uploads are still in use; sweeping waits an hour.
_KEEP_EVERY_S = 300.0


@dataclass(frozen=True, kw_only=True)
class IndexRequest:
    """What is to be indexed.

    Attributes:
        files: with the names that their owner knows them by.
        owner: whose index it is.
        sides: the models for pictures and for videos.
        thumbnails: whether small copies are kept.
        kept: whether the index is never deleted by age.
        most_vectors: that the owner's index may hold.
    """

    files: Sequence[NamedImage]
    owner: str
    sides: dict[FileKind, SearchKind]
    thumbnails: bool = True
    kept: bool = False
    most_vectors: int = MOST_VECTORS


@dataclass(frozen=True, kw_only=True)
class IndexProgress:
    """A run at one moment.

    Attributes:
        stage: what it is doing, for people.
        done: files that were looked at.
        total: files.
        new: position and outcome of files since the last look; what is told is written down.
    """

    stage: str
    done: int
    total: int
    new: tuple[tuple[int, FileOutcome], ...] = ()


@dataclass(frozen=True)
class _Fresh:
    """A file that is encoded and not written yet."""

    index: int
    entry: IndexedFile
    parts: FileVectors


@dataclass
class _Open:
    """A side while files are brought in."""

    side: SearchKind
    shelf: VectorTables
    known: dict[str, IndexedFile]
    fresh: list[_Fresh] = field(default_factory=list)
    changed: list[IndexedFile] = field(default_factory=list)


@dataclass(frozen=True)
class _Waiting:
    """A picture that waits for its turn."""

    index: int
    file: NamedImage
    content: str


def add_files(
    store: PipelineStore, library: Indexes, order: IndexRequest
) -> Generator[IndexProgress, None, None]:
    """Bring files into an index; yields how far it is a few times a second.

    A file whose content is there is not encoded again: only its name and place are written anew.
    One that cannot be read stops no other. Closing the iterator ends the run; what was encoded by
    then and not yet written is at most of a few seconds.

    Raises:
        PipelineError: there is no model to be had, or the index cannot be written.
    """

    def work(emit: Callable[[IndexProgress], None], cancel: CancelToken) -> None:
        run = _Run(store, library, order, emit, cancel)
        run.say("Waiting for others' batches")
        with store.queue.place(cancel):
            run.work()

    last = IndexProgress(stage="", done=0, total=len(order.files))
    with closing(stream_work(work)) as looks:
        for look in looks:
            last = replace(last, new=()) if look is None else look
            yield last


class _Run:
    """The work of one run, in one thread."""

    def __init__(
        self,
        store: PipelineStore,
        library: Indexes,
        order: IndexRequest,
        emit: Callable[[IndexProgress], None],
        cancel: CancelToken,
    ) -> None:
        self._store = store
        self._library = library
        self._order = order
        self._emit = emit
        self._cancel = cancel
        self._encoder = Encoder(store, cancel, self.say)
        self._digests = FileDigests()
        self._open: dict[FileKind, _Open] = {}
        self._seen: dict[tuple[FileKind, str], str] = {}
        self._pictures: list[_Waiting] = []
        self._told: dict[int, FileOutcome] = {}
        self._room = 0
        self._wait_s: float | None = None
        self._done = 0
        self._written_at = self._kept_at = time.monotonic()
        self._max_pixels = int(store.settings.max_pixels_mp * 1e6)

    def say(self, stage: str, new: tuple[tuple[int, FileOutcome], ...] = ()) -> None:
        """Tell how far it is."""
        self._emit(
            IndexProgress(stage=stage, done=self._done, total=len(self._order.files), new=new)
        )

    def work(self) -> None:
        """Do it."""
        order = self._order
        self._room = order.most_vectors - self._library.holding(order.owner).vectors
        try:
            for index, file in enumerate(order.files):
                self._cancel.check()
                self._take(index, file)
                self._keep_uploads()
                if len(self._pictures) >= PICTURES_A_TURN:
                    self._encode_pictures()
                if self._is_due():
                    self._write()
            self._encode_pictures()
        except IndexUnavailable:
            self._wait_s = 0.0  # who waited for minutes does not wait anew
            raise
        finally:
            self._write()
        for opened in self._open.values():
            with self._changing():
                opened.shelf.tidy()

    def _take(self, index: int, file: NamedImage) -> None:
        """Encode a file, let it wait for others, or find that it is there."""
        file = replace(file, name=replace_surrogates(file.name))
        if replace_surrogates(str(file.path)) != str(file.path):
            reason = "Its path is not written in UTF-8, so it cannot be noted. Rename the file."
            self._tell(index, FileOutcome(file=file.name, kind="", outcome="error", error=reason))
            return
        try:
            content = self._digests.of(file.path)
            kind = kind_of(file.path, file.name)
        except OSError:
            reason = "The file cannot be read. Choose it again."
            self._tell(index, FileOutcome(file=file.name, kind="", outcome="error", error=reason))
            return
        if (kind, content) in self._seen:
            same = (Message("It is the same file as {name}.", name=self._seen[kind, content]),)
            self._tell(index, FileOutcome(file=file.name, kind=kind, outcome="same", notes=same))
            return
        self._seen[kind, content] = file.name
        opened = self._side(kind)
        known = opened.known.get(content)
        if known is not None:
            self._greet(index, file, known, opened)
        elif kind == "picture":
            self._pictures.append(_Waiting(index, file, content))
        else:
            self._done = index
            parts = self._encoder.video(opened.side, file)
            self._keep(_Waiting(index, file, content), kind, parts)

    def _greet(self, index: int, file: NamedImage, known: IndexedFile, opened: _Open) -> None:
        """Note the present name and place of a file that is in the index."""
        if known.name != file.name or known.path != str(file.path):
            opened.changed.append(replace(known, name=file.name, path=str(file.path)))
        if known.name == file.name:
            self._tell(index, FileOutcome(file=file.name, kind=known.kind, outcome="known"))
            return
        before = (Message("Until now it was called {name}.", name=known.name),)
        self._tell(
            index, FileOutcome(file=file.name, kind=known.kind, outcome="renamed", notes=before)
        )

    def _encode_pictures(self) -> None:
        waiting, self._pictures = self._pictures, []
        if waiting:
            self._done = waiting[0].index
            self.say("Reading the pictures")
            side = self._side("picture").side
            found = self._encoder.pictures(side, [one.file for one in waiting])
            for one, parts in zip(waiting, found, strict=True):
                self._keep(one, "picture", parts)
            self._done = waiting[-1].index + 1

    def _keep(self, one: _Waiting, kind: FileKind, parts: FileVectors | str) -> None:
        """Put a file among those that are written next."""
        name = one.file.name
        if not isinstance(parts, str) and len(parts.vectors) > self._room:
            parts = self._full
        if isinstance(parts, str):
            self._tell(one.index, FileOutcome(file=name, kind=kind, outcome="error", error=parts))
            return
        self._room -= len(parts.vectors)
        small = b""
        if self._order.thumbnails:
            small = thumbnail(one.file.path, kind, max_pixels=self._max_pixels)
        entry = IndexedFile(
            content=one.content,
            name=name,
            kind=kind,
            path=str(one.file.path),
            num_parts=len(parts.vectors),
            thumbnail=small,
        )
        self._side(kind).fresh.append(_Fresh(one.index, entry, parts))
        self._tell(one.index, FileOutcome(file=name, kind=kind, outcome="added", notes=parts.notes))

    def _tell(self, index: int, outcome: FileOutcome) -> None:
        """Let an outcome be told once it is written down."""
        self._told[index] = outcome

    @property
    def _full(self) -> str:
        """What is told of a file that the index has no room for."""
        return Message(
            "The index is full: it takes {limit:,} pictures and parts of videos. Delete "
            "some files from it.",
            limit=self._order.most_vectors,
        )

    def _side(self, kind: FileKind) -> _Open:
        """Return a side, opened when its first file comes."""
        if kind not in self._open:
            side = self._order.sides[kind]
            shelf = self._library.shelf(self._order.owner, side.space)
            self._open[kind] = _Open(side, shelf, shelf.files())
        return self._open[kind]

    def _is_due(self) -> bool:
        fresh = [one for opened in self._open.values() for one in opened.fresh]
        return (
            len(fresh) >= WRITE_FILES
            or sum(one.entry.num_parts for one in fresh) >= WRITE_VECTORS
            or time.monotonic() - self._written_at >= WRITE_S
        )

    def _write(self) -> None:
        """Write down what is new, then tell it."""
        for opened in self._open.values():
            if not opened.fresh and not opened.changed:
                continue
            owner = self._order.owner
            with self._changing():  # else a deletion in between leaves tables behind
                fresh = self._fitting(opened.fresh)
                held = opened.shelf.holding().vectors + sum(one.entry.num_parts for one in fresh)
                self._library.note(owner, opened.side.space, kept=self._order.kept, vectors=held)
                opened.shelf.add([(one.entry, one.parts) for one in fresh])
                opened.shelf.rename(opened.changed)
            for one in fresh:
                opened.known[one.entry.content] = replace(one.entry, thumbnail=b"")
            opened.fresh, opened.changed = [], []
        told, self._told = tuple(self._told.items()), {}
        self._written_at = time.monotonic()
        self.say("Reading the files", told)

    def _changing(self) -> AbstractContextManager[None]:
        return self._library.changing(self._order.owner, self._cancel, self._wait_s)

    def _fitting(self, fresh: Sequence[_Fresh]) -> list[_Fresh]:
        """Return what there is room for now: another run may have filled the index meanwhile."""
        self._room = self._order.most_vectors - self._library.holding(self._order.owner).vectors
        kept = []
        for one in fresh:
            if one.entry.num_parts <= self._room:
                self._room -= one.entry.num_parts
                kept.append(one)
            else:
                lost = replace(self._told[one.index], outcome="error", error=self._full, notes=())
                self._tell(one.index, lost)
        return kept

    def _keep_uploads(self) -> None:
        """Tell whoever deletes old files that these are in use."""
        if self._order.kept or time.monotonic() - self._kept_at < _KEEP_EVERY_S:
            return
        self._kept_at = time.monotonic()
        for file in self._order.files:
            with suppress(OSError):
                os.utime(file.path)
