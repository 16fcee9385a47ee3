"""Files -> their vectors, when it is their turn at the device. Torch-free."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from math import inf
from time import monotonic
from typing import Any

import numpy as np

from pipelines.core.errors import InputError, MediaError
from pipelines.core.results import Embeddings
from pipelines.media.named_image import NamedImage
from pipelines.models.notes import VIDEO_LOST, lost_frames_notes
from pipelines.search.kinds import Side
from pipelines.search.results import Parts, SomeWindows
from pipelines.serving.device_queue import BrokenOff
from pipelines.serving.store import PipelineStore

#: Pictures that a turn at the device is taken for, and seconds of one over a video.
PICTURES_A_TURN = 8
TURN_S = 4.0


class Encoder:
    """Lends the models of an index's sides, for one turn at a time: visitors come first."""

    def __init__(
        self,
        store: PipelineStore,
        given_up: Callable[[], bool],
        tell: Callable[[str], None] = lambda stage: None,
    ) -> None:
        """Take models from `store`.

        Args:
            store: lends them.
            given_up: asked a few times a second; once true, the work ends with `BrokenOff`.
            tell: told what is done just now, for people.
        """
        self._store = store
        self._given_up = given_up
        self._tell = tell
        self._fetched: set[str] = set()

    def pictures(self, side: Side, files: Sequence[NamedImage]) -> list[Parts | str]:
        """Return the vector of each picture, or what is wrong with it.

        Raises:
            BrokenOff: given up.
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

    def video(self, side: Side, file: NamedImage) -> Parts | str:
        """Return the vectors of a video's windows, or what is wrong with it; see `pictures`."""
        self._fetch(side)
        got: list[SomeWindows] = []
        try:
            while not got or got[-1].done < got[-1].total:
                self._windows_of_a_turn(side, file, got)
            return _whole(got)
        except (MediaError, InputError) as error:
            return error.message

    def _windows_of_a_turn(self, side: Side, file: NamedImage, got: list[SomeWindows]) -> None:
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
                if self._given_up():
                    raise BrokenOff
                self._tell(f"{file.name}: {step.done:,} of {step.total:,} parts")
                if monotonic() > until:
                    break

    @contextmanager
    def _turn(self, side: Side) -> Iterator[Any]:
        with (
            self._store.turns.batch(self._given_up),
            self._store.use(side.spec.key, side.task, self._given_up, inf) as pipeline,
        ):
            yield pipeline

    def _fetch(self, side: Side) -> None:
        """Download the weights where they are not on disk."""
        if side.spec.key in self._fetched:
            return
        for step in self._store.fetch(side.spec.key, side.task):
            done, total = step.done_bytes / 1e6, step.total_bytes / 1e6
            self._tell(f"Downloading {side.spec.title}: {done:,.0f} of {total:,.0f} MB")
            if self._given_up():
                raise BrokenOff
        self._fetched.add(side.spec.key)


def _whole(got: Sequence[SomeWindows]) -> Parts:
    """Return all windows of a video that came one after the other.

    Raises:
        MediaError: not one of them can be read.
    """
    seen = [step.parts for step in got if len(step.parts.vectors)]
    if not seen:
        raise MediaError(VIDEO_LOST)
    lost = frozenset().union(*(step.lost for step in got))
    return Parts(
        starts_s=np.concatenate([parts.starts_s for parts in seen]),
        ends_s=np.concatenate([parts.ends_s for parts in seen]),
        vectors=np.concatenate([parts.vectors for parts in seen]),
        notes=tuple(lost_frames_notes(len(lost), got[-1].num_frames)),
    )


def _each(embedded: Embeddings) -> list[Parts | str]:
    reasons = iter(reason for _, reason in embedded.errors)
    return [
        next(reasons)
        if vector is None
        else Parts(
            starts_s=np.zeros(1),
            ends_s=np.zeros(1),
            vectors=np.asarray([vector], np.float32),
        )
        for vector in embedded.vectors
    ]
