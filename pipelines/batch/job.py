"""Run for a watcher: in its own thread, with progress, ended within a moment."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.batch.captioner import make_captioner
from pipelines.batch.engine import BatchRun, EngineOptions
from pipelines.batch.export import BatchResult, Exports
from pipelines.batch.ledger import Ledger, LedgerEntry, LedgerFolder
from pipelines.batch.progress import RunProgress
from pipelines.compute.background import stream_work
from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import PipelineError
from pipelines.core.options import GenerationOptions
from pipelines.core.spec import ModelSpec
from pipelines.media.archive import open_inputs
from pipelines.media.inputs import Inputs, Skipped, touch
from pipelines.media.thumbnails import input_thumbnail
from pipelines.serving.store import PipelineStore

#: Seconds between two updates of the gallery, and the longest side of its images in pixels.
_EVERY_S = 1.0
_SIDE_PX = 240


@dataclass(frozen=True)
class GalleryImage:
    """A small JPEG of an image, with its caption."""

    file: str
    caption: str
    jpeg: bytes


class Gallery:
    """Small copies of the last images, made once each, at intervals; `inputs` must stay open."""

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
        """Return the images of these results, the newest first."""
        self._made = {r.index: self._made.get(r.index) or self._small(r.index) for r in results}
        self._next = time.monotonic() + _EVERY_S
        return tuple(
            GalleryImage(r.file, r.caption, self._made[r.index]) for r in reversed(results)
        )

    def _small(self, index: int) -> bytes:
        return input_thumbnail(self._items[index], _SIDE_PX, max_pixels=self._max_pixels)


#: Seconds between two signs that the files of a run are still in use; the sweep waits an hour.
_KEEP_EVERY_S = 300.0

#: Results of earlier runs that are written again together.
_NUM_ADOPTED = 256

#: Formats of the results, and their files in the order of the page.
_FORMATS = ("zip", "csv", "jsonl", "metadata")
_FILES = ("captions.zip", "captions.csv", "captions.jsonl", "metadata.jsonl")


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """Request of a run.

    Attributes:
        paths: the uploaded images in order, or one zip.
        names: the visitor's names of them.
        prompt: beginning of every caption.
        folder: for the files of results; not shared.
        ledgers: of the visitor.
        pictures: whether small copies of the last images are made.
    """

    paths: Sequence[Path]
    names: Sequence[str]
    spec: ModelSpec
    prompt: str
    options: GenerationOptions
    folder: Path
    ledgers: LedgerFolder
    pictures: bool = False


@dataclass(frozen=True, kw_only=True)
class BatchProgress:
    """Progress of a run.

    Attributes:
        stage: current stage before the run begins, for people.
        progress: None before the run begins.
        new: results since the last report, in request.
        pictures: the last few with a caption, the newest first.
        skipped: files of an archive that are no images.
        files: files of results, in the last report only; none if the run did not begin.
        known: images with a caption of an earlier run of the same visitor; repetitions within the
            run do not count.
        over: whether this is the last report.
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
        """Return whether there is a result for every image."""
        return self.progress is not None and self.progress.done == self.progress.total


@dataclass
class _Board:
    stage: str = "Waiting"
    run: BatchRun | None = None
    new: deque[BatchResult] = field(default_factory=deque)
    pictures: tuple[GalleryImage, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    files: tuple[Path, ...] = ()
    known: int = 0
    failure: BaseException | None = None


class BatchJob:
    """One run: `follow` does it, `end` ends it early."""

    def __init__(self, store: PipelineStore, request: BatchRequest) -> None:
        self._store = store
        self._request = request
        self._board = _Board()
        self._cancel = CancelToken()

    def end(self) -> None:
        """End within a token, from any thread; finished results are kept and written."""
        self._cancel.cancel()

    @property
    def ended(self) -> bool:
        """Return whether `end` was called."""
        return self._cancel.is_cancelled

    def follow(self) -> Iterator[BatchProgress]:
        """Do the run; yield its progress several times a second, and the files at last.

        Closing the iterator ends the run.

        Raises:
            PipelineError: it cannot be done, or not to its end.
            Exception: any other error of the thread.
        """
        kept_at = -_KEEP_EVERY_S
        with closing(stream_work(self._work)) as signs:
            try:
                for _ in signs:
                    if time.monotonic() - kept_at > _KEEP_EVERY_S:
                        self._keep_files()
                        kept_at = time.monotonic()
                    yield self._progress()
            finally:  # also on GeneratorExit: the watcher has left
                self._cancel.cancel()
        yield self._progress(over=True)
        if self._board.failure is not None:
            raise self._board.failure

    def _progress(self, *, over: bool = False) -> BatchProgress:
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
        """Touch the files, so that the sweep of old files spares them."""
        touch(self._request.paths)
        with suppress(OSError):  # the run makes and removes folders meanwhile
            touch(self._request.folder.rglob("*"))

    def _work(self, emit: Callable[[None], None], cancel: CancelToken) -> None:
        emit(None)  # the first report comes at once
        try:
            with suppress(Cancelled):
                self._board.stage = "Waiting for others' batches"
                with self._store.queue.run_slot(self._cancel):
                    self._board.stage = "Reading the files"
                    self._run()
        except BaseException as error:
            self._board.failure = error

    def _run(self) -> None:
        request, board = self._request, self._board
        with ExitStack() as stack:
            inputs = stack.enter_context(open_inputs(request.paths, request.names))
            board.skipped = inputs.skipped
            self._fetch()
            captioner = make_captioner(
                self._store, request.spec, request.prompt, request.options, self._cancel
            )
            ledger = stack.enter_context(request.ledgers.open(captioner.settings))
            exports = stack.enter_context(
                Exports(request.folder, inputs.items, _FORMATS, "captions")
            )
            board.run = BatchRun(inputs.items, captioner.caption_batch, ledger, self._engine())
            failure = self._take_results(board.run, inputs, ledger, exports)
        board.files = tuple(request.folder / name for name in _FILES)
        if failure is not None:
            raise failure

    def _fetch(self) -> None:
        for stage in self._store.fetch_stages(self._request.spec, self._cancel):
            self._board.stage = stage
        self._board.stage = "Loading the model"

    def _engine(self) -> EngineOptions:
        remote = self._request.spec.remote
        return EngineOptions(
            batch_size=EngineOptions.batch_size if remote is None else remote.concurrency,
            max_pixels=int(self._store.settings.max_pixels_mp * 1e6),
            max_pixels_held=60_000_000,  # several runs share the memory
            existing="overwrite",  # caption files of an upload are not trusted
        )

    def _take_results(
        self, run: BatchRun, inputs: Inputs, ledger: Ledger, exports: Exports
    ) -> Exception | None:
        """Write and report each result; return the error that ended the run, if any."""
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
                    if self._request.pictures and gallery.is_due():
                        self._board.pictures = gallery.show(shown)
                    if self.ended:
                        break
        except PipelineError as error:
            failure = error
        ledger.add(adopted)
        if self._request.pictures:
            self._board.pictures = gallery.show(shown)
        return failure
