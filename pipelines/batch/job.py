"""A run for somebody who watches: in a thread of its own, ended within a moment when asked."""

import io
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from pipelines.batch.captioner import TASK, make_captioner
from pipelines.batch.control import RunProgress
from pipelines.batch.engine import BatchRun, EngineOptions
from pipelines.batch.export import Exports
from pipelines.batch.ledger import Ledger, LedgerEntry, LedgerFolder
from pipelines.batch.results import BatchResult
from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import PipelineError
from pipelines.core.options import GenerationOptions
from pipelines.core.spec import ModelSpec
from pipelines.media.archive import open_inputs
from pipelines.media.images import decode_image
from pipelines.media.inputs import Inputs, Skipped
from pipelines.serving.store import PipelineStore

#: Seconds between two rounds of new pictures, and their longest side.
_EVERY_S = 1.0
_SIDE_PX = 240


@dataclass(frozen=True)
class GalleryImage:
    """A small copy of a picture with its caption; `jpeg` is a whole file."""

    file: str
    caption: str
    jpeg: bytes


class Gallery:
    """Makes small copies of pictures, each once, now and then."""

    num_pictures = 6

    def __init__(self, inputs: Inputs, max_pixels: int) -> None:
        self._items = inputs.items
        self._max_pixels = max_pixels
        self._made: dict[int, bytes] = {}
        self._next = 0.0

    def is_due(self) -> bool:
        """Return whether it is time for new ones."""
        return time.monotonic() >= self._next

    def show(self, results: Sequence[BatchResult]) -> tuple[GalleryImage, ...]:
        """Return the pictures of these results, the newest first."""
        self._made = {r.index: self._made.get(r.index) or self._small(r.index) for r in results}
        self._next = time.monotonic() + _EVERY_S
        return tuple(
            GalleryImage(r.file, r.caption, self._made[r.index]) for r in reversed(results)
        )

    def _small(self, index: int) -> bytes:
        item = self._items[index]
        try:
            image = decode_image(
                item.source.read(), item.name, max_pixels=self._max_pixels, draft_px=_SIDE_PX
            )
        except (PipelineError, MemoryError):
            return b""  # it was there a moment ago; its caption stands all the same
        image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80)
        return buffer.getvalue()


#: Seconds between two looks at a run: how fast it ends when whoever watches has gone.
LOOK_S = 0.25

#: Seconds between two signs that the files of a run are still in use; sweeping waits an hour.
_KEEP_EVERY_S = 300.0

#: Results of earlier runs that are written anew together.
_NUM_ADOPTED = 256

#: Formats of the results, and their files in the order in which they are offered.
_FORMATS = ("zip", "csv", "jsonl", "metadata")
_FILES = ("captions.zip", "captions.csv", "captions.jsonl", "metadata.jsonl")


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """What is wanted of a run.

    Attributes:
        paths: the uploaded pictures in order, or one zip.
        names: what people call them.
        spec: the model.
        prompt: what every caption continues.
        options: how the texts are generated.
        folder: where the files of results go; nobody else's.
        shelf: where what was done is remembered.
        pictures: whether small copies of the last pictures are made.
    """

    paths: Sequence[Path]
    names: Sequence[str]
    spec: ModelSpec
    prompt: str
    options: GenerationOptions
    folder: Path
    shelf: LedgerFolder
    pictures: bool = False


@dataclass(frozen=True, kw_only=True)
class BatchProgress:
    """A run at one moment.

    Attributes:
        stage: what it is doing while there is no progress yet, for people.
        progress: how far it is, or None before it began.
        new: results since the last look, in order.
        pictures: the last few with a caption, the newest first.
        skipped: what of an archive is no picture.
        files: the files of results, in the last look only; none if it ended before it began.
        known: pictures whose caption an earlier run of the same owner made; a picture that comes
            again within the run is none of them.
        over: whether it is the last look.
    """

    stage: str
    progress: RunProgress | None
    new: tuple[BatchResult, ...]
    pictures: tuple[GalleryImage, ...]
    skipped: tuple[Skipped, ...]
    files: tuple[Path, ...] = ()
    known: int = 0
    over: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether there is a result for every picture."""
        return self.progress is not None and self.progress.done == self.progress.total


@dataclass
class _Board:
    """What the thread tells; each attribute is written by the thread only."""

    stage: str = "Waiting"
    run: BatchRun | None = None
    new: deque[BatchResult] = field(default_factory=deque)
    pictures: tuple[GalleryImage, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    files: tuple[Path, ...] = ()
    known: int = 0
    failure: BaseException | None = None


class BatchJob:
    """One run; `follow` does it, `end` ends it early."""

    def __init__(self, store: PipelineStore, order: BatchRequest) -> None:
        self._store = store
        self._order = order
        self._board = _Board()
        self._cancel = CancelToken()
        self._done = threading.Event()

    def end(self) -> None:
        """End within a token, from any thread; what is done by then is kept and written."""
        self._cancel.cancel()

    @property
    def ended(self) -> bool:
        """Whether somebody asked it to end."""
        return self._cancel.is_cancelled

    def follow(self) -> Iterator[BatchProgress]:
        """Do the run; yields how far it is several times a second, and the files at last.

        Closing the iterator ends the run.

        Raises:
            PipelineError: it cannot be done, or not to its end.
            Exception: whatever else the thread raised, in the caller's thread.
        """
        worker = threading.Thread(
            target=copy_context().run, args=(self._work,), name="batch", daemon=True
        )
        kept_at = -_KEEP_EVERY_S
        worker.start()
        try:
            yield self._look()
            while not self._done.wait(LOOK_S):
                if time.monotonic() - kept_at > _KEEP_EVERY_S:
                    self._keep_files()
                    kept_at = time.monotonic()
                yield self._look()
        finally:  # also runs on GeneratorExit: whoever watched has left
            self._cancel.cancel()
            worker.join()
        yield self._look(over=True)
        if self._board.failure is not None:
            raise self._board.failure

    def _look(self, *, over: bool = False) -> BatchProgress:
        board = self._board
        new = [board.new.popleft() for _ in range(len(board.new))]
        return BatchProgress(
            stage=board.stage,
            progress=board.run.progress() if board.run else None,
            new=tuple(new),
            pictures=board.pictures,
            skipped=board.skipped,
            files=board.files,
            known=board.known,
            over=over,
        )

    def _keep_files(self) -> None:
        """Tell whoever deletes old files that these are in use."""
        paths = [*self._order.paths]
        with suppress(OSError):  # the run makes and removes folders meanwhile
            paths += self._order.folder.rglob("*")
        for path in paths:
            with suppress(OSError):
                os.utime(path)

    def _work(self) -> None:
        try:
            with suppress(Cancelled):
                self._board.stage = "Waiting for others' batches"
                with self._store.queue.place(self._cancel):
                    self._board.stage = "Reading the files"
                    self._run()
        except BaseException as error:
            self._board.failure = error
        finally:
            self._done.set()

    def _run(self) -> None:
        order, board = self._order, self._board
        with ExitStack() as stack:
            inputs = stack.enter_context(open_inputs(order.paths, order.names))
            board.skipped = inputs.skipped
            self._fetch()
            captioner = make_captioner(
                self._store, order.spec, order.prompt, order.options, self._cancel
            )
            ledger = stack.enter_context(order.shelf.open(captioner.settings))
            exports = stack.enter_context(Exports(order.folder, inputs.items, _FORMATS, "captions"))
            board.run = BatchRun(inputs.items, captioner.caption_batch, ledger, self._engine())
            failure = self._take_results(board.run, inputs, ledger, exports)
        board.files = tuple(order.folder / name for name in _FILES)
        if failure is not None:
            raise failure

    def _fetch(self) -> None:
        """Download the weights where they are not on disk."""
        for step in self._store.fetch(self._order.spec.key, TASK):
            self._board.stage = step.message(self._order.spec.title)
            self._cancel.check()
        self._board.stage = "Loading the model"

    def _engine(self) -> EngineOptions:
        remote = self._order.spec.remote
        return EngineOptions(
            batch_size=EngineOptions.batch_size if remote is None else remote.concurrency,
            max_pixels=int(self._store.settings.max_pixels_mp * 1e6),
            max_pixels_held=60_000_000,  # several visitors' runs share the memory
            existing="overwrite",  # caption files in a visitor's zip are not ours to trust
        )

    def _take_results(
        self, run: BatchRun, inputs: Inputs, ledger: Ledger, exports: Exports
    ) -> Exception | None:
        """Write down and tell each result; returns what the run failed of, with all else kept."""
        adopted: list[LedgerEntry] = []
        made: set[str] = set()
        shown: deque[BatchResult] = deque(maxlen=Gallery.num_pictures)
        gallery = Gallery(inputs, int(self._store.settings.max_pixels_mp * 1e6))
        failure: Exception | None = None
        try:
            with suppress(Cancelled), closing(run.results()) as results:
                for result in results:
                    exports.add(result)
                    self._board.new.append(result)
                    if result.origin == "model":
                        made.add(result.hash)
                    elif result.origin == "known" and result.hash not in made:
                        self._board.known += 1
                        adopted.append(
                            LedgerEntry(result.file, result.hash, result.caption, "", result.notes)
                        )
                    if len(adopted) >= _NUM_ADOPTED:
                        ledger.add(adopted)
                        adopted.clear()
                    if not result.error:
                        shown.append(result)
                    if self._order.pictures and gallery.is_due():
                        self._board.pictures = gallery.show(shown)
                    if self.ended:
                        break
        except PipelineError as error:
            failure = error
        ledger.add(adopted)
        if self._order.pictures:
            self._board.pictures = gallery.show(shown)
        return failure
