"""From an input to what the model needs: read, hash and decode, ahead of the model, in threads."""

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from pipelines.batch.ledger import Ledger
from pipelines.core.errors import MediaError
from pipelines.media.images import decode_image
from pipelines.media.inputs import BatchInput

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An input, opened as far as it can be.

    Attributes:
        index: position of the input in the run.
        hash: SHA-256 of its bytes in hexadecimal digits, or "" where they were not read.
        image: the picture, if it has to go through the model.
        existing: text of the caption file beside it, or "".
        kept: whether that text stands, so that no caption is needed.
        error: why there is no picture, or "".
    """

    index: int
    hash: str = ""
    image: Image.Image | None = None
    existing: str = ""
    kept: bool = False
    error: str = ""

    @property
    def num_pixels(self) -> int:
        """Pixels that are held in memory."""
        return self.image.width * self.image.height if self.image else 0


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How inputs are opened.

    Attributes:
        max_pixels: most pixels of one picture.
        draft_px: as in `images.decode_image`.
        read_existing: whether caption files beside the pictures are read.
        keep_existing: whether a caption file with text in it stands, unless an earlier run with
            other settings wrote it.
    """

    max_pixels: int
    draft_px: int
    read_existing: bool
    keep_existing: bool

    def __call__(self, index: int, item: BatchInput, ledger: Ledger) -> Prepared:
        """Open one input; whatever is wrong with it is in `error`.

        Args:
            index: its position.
            item: the input.
            ledger: knows which contents need no picture, and which caption files an earlier run
                with other settings has written: those do not stand.
        """
        content = existing = ""
        try:
            existing = item.existing_caption() if self.read_existing else ""
            if existing and self.keep_existing and not ledger.may_be_other(existing):
                return Prepared(index=index, existing=existing, kept=True)
            data = item.source.read()
            content = hashlib.sha256(data).hexdigest()
            if existing and self.keep_existing and not ledger.is_other(existing, content):
                return Prepared(index=index, existing=existing, kept=True)
            if ledger.caption(content) is not None:
                return Prepared(index=index, hash=content, existing=existing)
            image = decode_image(
                data, item.name, max_pixels=self.max_pixels, draft_px=self.draft_px
            )
        except MediaError as error:
            return Prepared(index=index, hash=content, error=error.message)
        except MemoryError:
            error_text = "There is not enough memory to open it. Shrink it and start again."
            return Prepared(index=index, hash=content, error=error_text)
        except Exception:  # one file must not stop thousands
            log.exception("An input could not be opened")
            error_text = "It could not be opened for a reason that was not foreseen."
            return Prepared(index=index, hash=content, error=error_text)
        return Prepared(index=index, hash=content, image=image, existing=existing)


def prepare_all(
    items: Sequence[BatchInput],
    prepare: Callable[[int, BatchInput], Prepared],
    *,
    num_workers: int,
    num_ahead: int,
    max_pixels_ahead: int,
) -> Generator[Prepared, None, None]:
    """Yield each input prepared, in order, while threads prepare those that follow.

    No more than `num_ahead` are prepared or being prepared, and none is begun while the ready ones
    hold `max_pixels_ahead` pixels. Closing the iterator waits for those that were begun.
    """
    waiting: deque[Future[Prepared]] = deque()
    todo = iter(enumerate(items))
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="prepare")
    try:
        while True:
            while len(waiting) < num_ahead and _pixels(waiting) < max_pixels_ahead:
                following = next(todo, None)
                if following is None:
                    break
                waiting.append(pool.submit(prepare, *following))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pixels(waiting: deque[Future[Prepared]]) -> int:
    return sum(future.result().num_pixels for future in waiting if future.done())
