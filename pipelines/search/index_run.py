"""Run that adds files to an index; it can be ended at any moment and continued later."""

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Literal

import numpy as np

from pipelines.compute.background import stream_work
from pipelines.compute.lru import FileDigests
from pipelines.core.cancel import CancelToken
from pipelines.core.errors import InputError, MediaError
from pipelines.core.messages import Message
from pipelines.core.results import Embeddings, FileKind
from pipelines.core.text import replace_surrogates
from pipelines.media.images import NamedImage
from pipelines.media.inputs import touch
from pipelines.media.thumbnails import thumbnail
from pipelines.models.notes import VIDEO_LOST, lost_frames_notes
from pipelines.models.search_query import FileVectors, WindowBatch
from pipelines.search.indexes import MOST_VECTORS, Indexes
from pipelines.search.kinds import SearchKind, kind_of
from pipelines.search.results import FileOutcome, IndexedFile, Outcome
from pipelines.search.tables import IndexUnavailable, VectorTables
from pipelines.serving.store import PipelineStore

#: Pictures of a turn at the device, and seconds of a turn for a video.
PICTURES_A_TURN = 8
TURN_S = 4.0


@dataclass
class Encoder:
    """Encoding of files by the models of an index, in short turns at the device.

    `report` receives the current stage, for people; `cancel` ends the work with `Cancelled`.
    """

    store: PipelineStore
    cancel: CancelToken
    report: Callable[[str], None]
    fetched: set[str] = field(default_factory=set)

    def pictures(self, kind: SearchKind, files: Sequence[NamedImage]) -> list[FileVectors | str]:
        """Return the vector of each picture, or its error.

        Raises `Cancelled`, or what `PipelineStore.use` raises if the model is not available.
        """
        self._fetch(kind)
        with self._turn(kind) as clip:
            try:
                return _each(clip.embed_images(files))
            except MediaError as error:
                if len(files) == 1:
                    return [error.message]
        return [one for file in files for one in self.pictures(kind, [file])]

    def video(self, kind: SearchKind, file: NamedImage) -> FileVectors | str:
        """Return the vectors of a video's windows, or its error; see `pictures`."""
        self._fetch(kind)
        got: list[WindowBatch] = []
        try:
            while not got or got[-1].done < got[-1].total:
                self._windows_of_a_turn(kind, file, got)
            return _whole(got)
        except (MediaError, InputError) as error:
            return error.message

    def _windows_of_a_turn(
        self, kind: SearchKind, file: NamedImage, got: list[WindowBatch]
    ) -> None:
        """Add the windows of one turn to `got`.

        They are kept here, not with the model, which may be unloaded before the next turn.
        """
        first = got[-1].done if got else 0
        with self._turn(kind) as viclip, closing(viclip.windows(file.path, first)) as steps:
            until = monotonic() + TURN_S
            for step in steps:
                if got and step.total != got[0].total:
                    raise MediaError("The file was changed while it was read. Add it again.")
                got.append(step)
                self.cancel.check()
                self.report(
                    Message(
                        "{name}: {done:,} of {total:,} parts",
                        name=file.name,
                        done=step.done,
                        total=step.total,
                    )
                )
                if monotonic() > until:
                    break

    def _turn(self, kind: SearchKind) -> AbstractContextManager[Any]:
        return self.store.use_for_batch(kind.spec, self.cancel)

    def _fetch(self, kind: SearchKind) -> None:
        if kind.spec.key in self.fetched:
            return
        for stage in self.store.fetch_stages(kind.spec, self.cancel):
            self.report(stage)
        self.fetched.add(kind.spec.key)


def _whole(got: Sequence[WindowBatch]) -> FileVectors:
    """Return all windows of a video, from consecutive batches.

    Raises:
        MediaError: none of them can be read.
    """
    seen = [step.parts for step in got if len(step.parts.vectors)]
    if not seen:
        raise MediaError(VIDEO_LOST)
    lost = frozenset().union(*(step.lost for step in got))
    return FileVectors(
        starts_s=np.concatenate([parts.starts_s for parts in seen]),
        ends_s=np.concatenate([parts.ends_s for parts in seen]),
        vectors=np.concatenate([parts.vectors for parts in seen]),
        notes=(*seen[-1].notes, *lost_frames_notes(len(lost), got[-1].num_frames)),
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

#: Files, vectors and seconds after which encoded files are written together.
WRITE_FILES = 64
WRITE_VECTORS = 2000
WRITE_S = 5.0

#: Seconds between two signs that uploads are still in use; the sweep waits an hour.
_KEEP_EVERY_S = 300.0


@dataclass(frozen=True, kw_only=True)
class IndexRequest:
    """Files to index, with the owner's names of them.

    Attributes:
        thumbnails: whether small copies are kept.
        kept: whether the index is never deleted by age.
        most_vectors: limit of the owner's index.
    """

    files: Sequence[NamedImage]
    owner: str
    kinds: dict[FileKind, SearchKind]
    thumbnails: bool = True
    kept: bool = False
    most_vectors: int = MOST_VECTORS


@dataclass(frozen=True, kw_only=True)
class IndexProgress:
    """Progress of a run: current stage, for people, and the number of files that are done.

    `new` has position and outcome of files since the last report; they are written already.
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
    search_kind: SearchKind
    tables: VectorTables
    known: dict[str, IndexedFile]
    fresh: list[_Fresh] = field(default_factory=list)
    changed: list[IndexedFile] = field(default_factory=list)


@dataclass(frozen=True)
class _Waiting:
    index: int
    file: NamedImage
    content: str


def add_files(
    store: PipelineStore, indexes: Indexes, request: IndexRequest
) -> Generator[IndexProgress, None, None]:
    """Add files to an index; yield the progress a few times a second.

    Of a file whose content is indexed already, only name and place are updated. A file that cannot
    be read stops no other. Closing the iterator ends the run; at most a few seconds of encoded
    files are lost.

    Raises:
        PipelineError: the model is not available, or the index cannot be written.
    """

    def work(emit: Callable[[IndexProgress], None], cancel: CancelToken) -> None:
        run = _Run(store, indexes, request, emit, cancel)
        run.say("Waiting for others' batches")
        with store.queue.run_slot(cancel):
            run.work()

    last = IndexProgress(stage="", done=0, total=len(request.files))
    with closing(stream_work(work)) as steps:
        for step in steps:
            last = replace(last, new=()) if step is None else step
            yield last


class _Run:
    def __init__(
        self,
        store: PipelineStore,
        indexes: Indexes,
        request: IndexRequest,
        emit: Callable[[IndexProgress], None],
        cancel: CancelToken,
    ) -> None:
        self._store = store
        self._indexes = indexes
        self._request = request
        self._emit = emit
        self._cancel = cancel
        self._encoder = Encoder(store, cancel, self.say)
        self._digests = FileDigests()
        self._open: dict[FileKind, _Open] = {}
        self._seen: dict[tuple[FileKind, str], str] = {}
        self._pictures: list[_Waiting] = []
        self._outcomes: dict[int, FileOutcome] = {}
        self._room = 0
        self._wait_s: float | None = None
        self._done = 0
        self._written_at = self._kept_at = time.monotonic()
        self._max_pixels = int(store.settings.max_pixels_mp * 1e6)

    def say(self, stage: str, new: tuple[tuple[int, FileOutcome], ...] = ()) -> None:
        self._emit(
            IndexProgress(stage=stage, done=self._done, total=len(self._request.files), new=new)
        )

    def work(self) -> None:
        request = self._request
        self._room = request.most_vectors - self._indexes.summary(request.owner).vectors
        try:
            for index, file in enumerate(request.files):
                self._cancel.check()
                self._take(index, file)
                self._keep_uploads()
                if len(self._pictures) >= PICTURES_A_TURN:
                    self._encode_pictures()
                if self._is_due():
                    self._write()
            self._encode_pictures()
        except IndexUnavailable:
            self._wait_s = 0.0  # do not wait for minutes once more
            raise
        finally:
            self._write()
        for opened in self._open.values():
            with self._locked():
                opened.tables.compact()

    def _take(self, index: int, file: NamedImage) -> None:
        """Encode a file, put it into the next batch, or find it in the index."""
        file = replace(file, name=replace_surrogates(file.name))
        if replace_surrogates(str(file.path)) != str(file.path):
            reason = "Its path is not written in UTF-8, so it cannot be noted. Rename the file."
            self._set_outcome(index, file, "", "error", error=reason)
            return
        try:
            content = self._digests.of(file.path)
            kind = kind_of(file.path, file.name)
        except OSError:
            reason = "The file cannot be read. Choose it again."
            self._set_outcome(index, file, "", "error", error=reason)
            return
        if (kind, content) in self._seen:
            same = (Message("It is the same file as {name}.", name=self._seen[kind, content]),)
            self._set_outcome(index, file, kind, "same", notes=same)
            return
        self._seen[kind, content] = file.name
        opened = self._opened(kind)
        known = opened.known.get(content)
        if known is not None:
            self._update(index, file, known, opened)
        elif kind == "picture":
            self._pictures.append(_Waiting(index, file, content))
        else:
            self._done = index
            parts = self._encoder.video(opened.search_kind, file)
            self._keep(_Waiting(index, file, content), kind, parts)

    def _update(self, index: int, file: NamedImage, known: IndexedFile, opened: _Open) -> None:
        if known.name != file.name or known.path != str(file.path):
            opened.changed.append(replace(known, name=file.name, path=str(file.path)))
        if known.name == file.name:
            self._set_outcome(index, file, known.kind, "known")
            return
        before = (Message("Until now it was called {name}.", name=known.name),)
        self._set_outcome(index, file, known.kind, "renamed", notes=before)

    def _encode_pictures(self) -> None:
        waiting, self._pictures = self._pictures, []
        if waiting:
            self._done = waiting[0].index
            self.say("Reading the pictures")
            kind = self._opened("picture").search_kind
            found = self._encoder.pictures(kind, [one.file for one in waiting])
            for one, parts in zip(waiting, found, strict=True):
                self._keep(one, "picture", parts)
            self._done = waiting[-1].index + 1

    def _keep(self, one: _Waiting, kind: FileKind, parts: FileVectors | str) -> None:
        if not isinstance(parts, str) and len(parts.vectors) > self._room:
            parts = self._full
        if isinstance(parts, str):
            self._set_outcome(one.index, one.file, kind, "error", error=parts)
            return
        self._room -= len(parts.vectors)
        small = b""
        if self._request.thumbnails:
            small = thumbnail(one.file.path, kind, max_pixels=self._max_pixels)
        entry = IndexedFile(
            content=one.content,
            name=one.file.name,
            kind=kind,
            path=str(one.file.path),
            num_parts=len(parts.vectors),
            thumbnail=small,
        )
        self._opened(kind).fresh.append(_Fresh(one.index, entry, parts))
        self._set_outcome(one.index, one.file, kind, "added", notes=parts.notes)

    def _set_outcome(
        self,
        index: int,
        file: NamedImage,
        kind: FileKind | Literal[""],
        outcome: Outcome,
        **details: Any,
    ) -> None:
        self._outcomes[index] = FileOutcome(file=file.name, kind=kind, outcome=outcome, **details)

    @property
    def _full(self) -> str:
        return Message(
            "The index is full: it takes {limit:,} pictures and parts of videos. Delete "
            "some files from it.",
            limit=self._request.most_vectors,
        )

    def _opened(self, kind: FileKind) -> _Open:
        if kind not in self._open:
            search_kind = self._request.kinds[kind]
            tables = self._indexes.tables(self._request.owner, search_kind.space)
            self._open[kind] = _Open(search_kind, tables, tables.files())
        return self._open[kind]

    def _is_due(self) -> bool:
        fresh = [one for opened in self._open.values() for one in opened.fresh]
        return (
            len(fresh) >= WRITE_FILES
            or sum(one.entry.num_parts for one in fresh) >= WRITE_VECTORS
            or time.monotonic() - self._written_at >= WRITE_S
        )

    def _write(self) -> None:
        """Write what is new, then report it."""
        for opened in self._open.values():
            if not opened.fresh and not opened.changed:
                continue
            owner = self._request.owner
            with self._locked():  # else a deletion in between leaves tables behind
                fresh = self._fitting(opened.fresh)
                held = opened.tables.summary().vectors + sum(one.entry.num_parts for one in fresh)
                space, kept = opened.search_kind.space, self._request.kept
                self._indexes.record_use(owner, space, kept=kept, vectors=held)
                opened.tables.add([(one.entry, one.parts) for one in fresh])
                opened.tables.rename(opened.changed)
            for one in fresh:
                opened.known[one.entry.content] = replace(one.entry, thumbnail=b"")
            opened.fresh, opened.changed = [], []
        new, self._outcomes = tuple(self._outcomes.items()), {}
        self._written_at = time.monotonic()
        self.say("Reading the files", new)

    def _locked(self) -> AbstractContextManager[None]:
        return self._indexes.locked(self._request.owner, self._cancel, self._wait_s)

    def _fitting(self, fresh: Sequence[_Fresh]) -> list[_Fresh]:
        """Return the files that fit now: another run may have filled the index meanwhile."""
        self._room = self._request.most_vectors - self._indexes.summary(self._request.owner).vectors
        kept = []
        for one in fresh:
            if one.entry.num_parts <= self._room:
                self._room -= one.entry.num_parts
                kept.append(one)
            else:
                lost = replace(
                    self._outcomes[one.index], outcome="error", error=self._full, notes=()
                )
                self._outcomes[one.index] = lost
        return kept

    def _keep_uploads(self) -> None:
        """Touch the files, so that the sweep of old files spares them."""
        if self._request.kept or time.monotonic() - self._kept_at < _KEEP_EVERY_S:
            return
        self._kept_at = time.monotonic()
        touch(file.path for file in self._request.files)
