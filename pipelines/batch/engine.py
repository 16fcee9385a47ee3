"""Engine of a run: images decoded ahead of the model, batches halved when memory is short."""

import gc
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace

from PIL import Image

from pipelines.batch.export import BatchResult, Captioned, Existing, Origin, joined
from pipelines.batch.ledger import Ledger, LedgerEntry
from pipelines.batch.progress import RateMeter, RunProgress
from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import (
    InputError,
    MediaError,
    MemoryLimitError,
    NotBegunError,
    PipelineError,
)
from pipelines.media.images import MAX_PIXELS, decode_image
from pipelines.media.inputs import BatchInput

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An input, read and decoded as far as possible.

    Attributes:
        hash: SHA-256 of its bytes in hexadecimal digits, or "" if they were not read.
        image: the image, if it needs the model.
        existing: text of the caption file beside it, or "".
        kept: whether that text is the result, so that no caption is needed.
        error: why there is no image, or "".
    """

    index: int
    hash: str = ""
    image: Image.Image | None = None
    existing: str = ""
    kept: bool = False
    error: str = ""

    @property
    def num_pixels(self) -> int:
        """Pixels in memory."""
        return self.image.width * self.image.height if self.image else 0


def prepare(index: int, item: BatchInput, ledger: Ledger, options: "EngineOptions") -> Prepared:
    """Open one input; any problem with it is in `error`.

    The ledger knows which contents need no image, and the captions of runs with other settings.
    """
    content = existing = ""
    try:
        existing = item.existing_caption() if options.existing != "overwrite" else ""
        keep = existing and options.existing == "skip"
        if keep and not ledger.may_be_other(existing):
            return Prepared(index=index, existing=existing, kept=True)
        data = item.source.read()
        content = hashlib.sha256(data).hexdigest()
        if keep and not ledger.is_other(existing, content):
            return Prepared(index=index, existing=existing, kept=True)
        if ledger.caption(content) is not None:
            return Prepared(index=index, hash=content, existing=existing)
        image = decode_image(data, item.name, max_pixels=options.max_pixels)
        return Prepared(index=index, hash=content, image=image, existing=existing)
    except MediaError as error:
        problem: str = error.message
    except MemoryError:
        problem = "There is not enough memory to open it. Shrink it and start again."
    except Exception:  # one file must not stop thousands
        log.exception("An input could not be opened")
        problem = "It could not be opened for a reason that was not foreseen."
    return Prepared(index=index, hash=content, error=problem)


def _pixels(waiting: deque[Future[Prepared]]) -> int:
    return sum(future.result().num_pixels for future in waiting if future.done())


#: The model as a function; a plain text is a caption without notes.
CaptionBatch = Callable[[list[Image.Image]], Sequence[str | Captioned]]

#: Consecutive failures on single images after which a run stops: then the model is at fault.
MAX_FAILURES = 5

#: Most results that wait together for the model, so that known ones do not wait for long.
MAX_GROUP = 256


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Options of a run; none of them changes a caption.

    Attributes:
        batch_size: images of a batch, at least 1.
        num_workers: threads that read and decode, at least 1.
        max_pixels: most pixels of one image; one with more gets an error.
        max_pixels_held: approximate limit of pixels (3 bytes each) that wait for the model; a
            single image may exceed it.
        existing: treatment of caption files beside images: "skip" keeps them, unless the ledger
            knows them from a run with other settings; see `joined` for the others.
        separator: between the two texts of "append" and "prepend".
    """

    batch_size: int = 8
    num_workers: int = 2
    max_pixels: int = MAX_PIXELS
    max_pixels_held: int = 200_000_000
    existing: Existing = "skip"
    separator: str = ", "

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_workers", "max_pixels", "max_pixels_held"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 but got {getattr(self, name)}")


#: Errors that no other image and no smaller batch would change.
_FATAL = (InputError, NotBegunError)

#: Errors that call for a smaller batch.
_MEMORY_SHORT = (MemoryLimitError, MemoryError)


@dataclass
class _Group:
    """Results that are ready or wait for the model together, in order of the inputs.

    Images are kept in `pending` only, so that repeated contents are held once.
    """

    members: list[Prepared] = field(default_factory=list)
    pending: dict[str, Prepared] = field(default_factory=dict)
    num_pixels: int = 0

    def add(self, prepared: Prepared, needs_model: bool) -> None:
        if needs_model and prepared.hash not in self.pending:
            self.pending[prepared.hash] = prepared
            self.num_pixels += prepared.num_pixels
        self.members.append(replace(prepared, image=None))


class BatchRun:
    """Captions of inputs; iterate over `results`, in one thread at a time.

    `caption_batch` is the model: RGB images to as many captions, in order. `cancel` ends the run
    after the current batch.
    """

    def __init__(
        self,
        items: Sequence[BatchInput],
        caption_batch: CaptionBatch,
        ledger: Ledger,
        options: EngineOptions | None = None,
        *,
        cancel: CancelToken = NEVER,
    ) -> None:
        self._items = items
        self._caption_batch = caption_batch
        self._ledger = ledger
        self._options = options or EngineOptions()
        self._cancel = cancel
        self._meter = RateMeter(len(items), self._options.batch_size)
        self._num_failures = 0
        self._fatal: Exception | None = None

    def progress(self) -> RunProgress:
        """Return the current progress; from any thread."""
        return self._meter.snapshot(self._cancel.is_cancelled)

    def results(self) -> Generator[BatchResult, None, None]:
        """Yield one result for each input, in order; ends early once the run is cancelled.

        A result is on disk in the ledger before it is yielded. Closing the iterator ends the run.

        Raises:
            DiskError: the ledger cannot be written.
            InputError: invalid settings.
            NotBegunError: the model is not available.
            Exception: that of the model, once it failed on `MAX_FAILURES` images in a row.
        """
        self._meter.start()
        with closing(self._prepared()) as ahead:
            group = _Group()
            for prepared in ahead:
                if self._cancel.is_cancelled:
                    return
                group.add(prepared, self._needs_model(prepared))
                del prepared  # release its image before waiting for the next
                if self._is_full(group):
                    yield from self._finish(group)
                    group = _Group()
            if group.members:
                yield from self._finish(group)

    def _prepared(self) -> Generator[Prepared, None, None]:
        """Yield each input prepared, in order, while threads prepare those that follow.

        None is started while the finished ones hold half of `max_pixels_held`. Closing the iterator
        waits for those in preparation.
        """
        options = self._options
        num_ahead = 2 * options.batch_size + options.num_workers
        waiting: deque[Future[Prepared]] = deque()
        todo = iter(enumerate(self._items))
        pool = ThreadPoolExecutor(options.num_workers, thread_name_prefix="prepare")
        try:
            while True:
                while len(waiting) < num_ahead and _pixels(waiting) < options.max_pixels_held / 2:
                    following = next(todo, None)
                    if following is None:
                        break
                    waiting.append(pool.submit(prepare, *following, self._ledger, options))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _needs_model(self, prepared: Prepared) -> bool:
        return prepared.image is not None and self._ledger.caption(prepared.hash) is None

    def _is_full(self, group: _Group) -> bool:
        return (
            not group.pending
            or len(group.pending) >= self._meter.batch_size
            or len(group.members) >= MAX_GROUP
            or group.num_pixels >= self._options.max_pixels_held // 2
        )

    def _finish(self, group: _Group) -> Iterator[BatchResult]:
        """Caption a group, write the captions, then yield its results."""
        if self._cancel.is_cancelled:
            return
        answers = self._ask(list(group.pending.values()))
        asked = set(group.pending)
        group.pending.clear()  # release the images
        self._ledger.add(self._entries(group, answers))
        if self._fatal is not None:
            raise self._fatal
        for prepared in group.members:
            result = self._result(prepared, answers, asked=prepared.hash in asked)
            asked.discard(prepared.hash)  # later ones of this content are repetitions
            self._meter.result(result.file, result.error or result.caption, bool(result.error))
            yield result

    def _entries(self, group: _Group, answers: dict[str, Captioned]) -> list[LedgerEntry]:
        entries = []
        for prepared in group.members:
            name, content = self._items[prepared.index].name, prepared.hash
            if prepared.error:
                entries.append(LedgerEntry(name, content, "", prepared.error))
            elif content in answers:
                one = answers[content]
                entries.append(LedgerEntry(name, content, one.text, one.error, one.notes))
        return entries

    def _result(
        self, prepared: Prepared, answers: dict[str, Captioned], *, asked: bool
    ) -> BatchResult:
        name, options = self._items[prepared.index].name, self._options
        answer = answers.get(prepared.hash, Captioned(""))
        error = prepared.error or answer.error
        caption = self._ledger.caption(prepared.hash) or ""
        notes = self._ledger.notes(prepared.hash)
        origin: Origin = "model" if asked else "known"
        if prepared.kept:
            caption, notes, origin = prepared.existing, (), "existing"
        elif error:
            caption, notes, origin = "", (), "none"
        text = joined(prepared.existing, caption, options.existing, options.separator)
        return BatchResult(
            index=prepared.index,
            file=name,
            caption=caption,
            text="" if error else text,
            error=error,
            hash=prepared.hash,
            origin=origin,
            notes=notes,
        )

    def _ask(self, pending: list[Prepared]) -> dict[str, Captioned]:
        """Return the model's answers by content; a part that fails is halved until it works."""
        answers: dict[str, Captioned] = {}
        parts = deque([pending] if pending else [])
        while parts and self._fatal is None:
            part = parts.popleft()
            size = self._meter.batch_size
            if len(part) > size:
                parts.extendleft([part[size:], part[:size]])
                continue
            captions, failure = self._call([prepared.image for prepared in part if prepared.image])
            if failure is None:
                answers.update(self._answers(part, captions))
            elif isinstance(failure, _FATAL):
                self._fatal = failure
            elif len(part) == 1:
                answers[part[0].hash] = Captioned("", error=_reason(failure))
                self._num_failures += 1
                self._fatal = failure if self._num_failures >= MAX_FAILURES else None
            else:
                half = (len(part) + 1) // 2
                if isinstance(failure, _MEMORY_SHORT):
                    self._meter.batch_size = half
                    log.warning(
                        "Memory was short for %d images: batches of %d now", len(part), half
                    )
                parts.extendleft([part[half:], part[:half]])
        return answers

    def _answers(self, part: list[Prepared], captions: list[Captioned]) -> dict[str, Captioned]:
        """Return the answers of a part; too many errors in a row end the run."""
        for one in captions:
            self._num_failures = self._num_failures + 1 if one.error else 0
        if self._num_failures >= MAX_FAILURES:
            self._fatal = NotBegunError(captions[-1].error)
        hashes = (prepared.hash for prepared in part)
        return dict(zip(hashes, captions, strict=True))

    def _call(self, images: list[Image.Image]) -> tuple[list[Captioned], Exception | None]:
        try:
            captions = _checked(self._caption_batch(images), len(images))
        except Exception as error:
            if not isinstance(error, (*_MEMORY_SHORT, *_FATAL)):
                log.exception("The model failed on %d images", len(images))
            failure: Exception = error
        else:
            self._meter.batch(len(images))
            return captions, None
        _forget_frames(failure)
        gc.collect()
        return [], failure


def _checked(answers: Sequence[str | Captioned], number: int) -> list[Captioned]:
    if len(answers) != number:
        raise ValueError(f"expected {number} captions but got {len(answers)}")
    captions = [Captioned(one) if isinstance(one, str) else one for one in answers]
    if wrong := [one for one in captions if not isinstance(one, Captioned)]:
        raise TypeError(f"a caption must be a text but got {type(wrong[0]).__name__}")
    return captions


def _reason(failure: Exception) -> str:
    if isinstance(failure, PipelineError):
        return failure.message
    if isinstance(failure, MemoryError):
        return "There was not enough memory to caption it. Close other programs and start again."
    return "The model failed on this picture. Start again to try it once more."


def _forget_frames(failure: BaseException) -> None:
    """Release the variables of the failed call, above all its tensors."""
    todo: list[BaseException | None] = [failure]
    while todo:
        error = todo.pop()
        if error is not None and error.__traceback__ is not None:
            error.__traceback__ = None
            todo += [error.__cause__, error.__context__]
