"""Worker of a cluster: the engine of a batch over a few images at a time, without Ray."""

import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.batch.captioner import make_captioner
from pipelines.batch.engine import BatchRun, EngineOptions
from pipelines.batch.export import BatchResult
from pipelines.batch.ledger import CaptionSettings, Ledger, LedgerEntry
from pipelines.core.errors import InputError, NotBegunError, PipelineError
from pipelines.core.options import GenerationOptions
from pipelines.core.remote import with_keys
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.media import isolation
from pipelines.media.inputs import BatchInput
from pipelines.serving.store import PipelineStore


@dataclass(frozen=True)
class ClusterWork:
    """Model and options for every image."""

    settings: Settings
    spec: ModelSpec
    prompt: str
    options: GenerationOptions

    def caption_settings(self) -> CaptionSettings:
        """Return the caption settings on this machine."""
        store = PipelineStore(self.settings)
        return make_captioner(store, self.spec, self.prompt, self.options).settings


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """Work of every worker; holds no key.

    Attributes:
        work: of the run, with the precision of all machines.
        key: of the caption settings on the machine of the run.
        known: captions by content.
        other: captions under other settings, with their contents.
        shards: folder of the workers' ledgers.
    """

    work: ClusterWork
    key: str
    engine: EngineOptions
    items: tuple[BatchInput, ...]
    known: Mapping[str, LedgerEntry]
    other: Mapping[str, set[str]]
    shards: Path


class CaptionWorker:
    """Captions of inputs by their numbers, written to the worker's own ledger first.

    The model is loaded with the first images. Raises `NotBegunError` if this machine lacks the
    model, or would make other captions.
    """

    def __init__(self, item: WorkItem) -> None:
        self._item, work = item, item.work
        settings = replace(work.settings, remotes=with_keys(work.settings.remotes, os.environ))
        if settings.decoders == "apart":
            isolation.enable()
        store = PipelineStore(settings)
        spec = store.resolve(work.spec.key, work.spec.task)
        for _ in store.fetch(spec.key, spec.task):
            pass
        captioner = make_captioner(store, spec, work.prompt, work.options)
        if captioner.settings.key != item.key:
            raise NotBegunError(
                "A machine of the cluster has another checkpoint or server of this model, or "
                "computes in another precision. Set it up as this one; --dtype sets the precision."
            )
        self._caption_batch = captioner.caption_batch
        name = f"{secrets.token_hex(8)}.jsonl"
        self._ledger = Ledger(item.shards / name, captioner.settings, item.known, item.other)

    def results(self, numbers: Iterable[int]) -> list[BatchResult]:
        """Return the result of each input, in order.

        Raises:
            PipelineError: an error that no other image would change.
        """
        places = [int(number) for number in numbers]
        run = BatchRun(
            [self._item.items[place] for place in places],
            self._caption_batch,
            self._ledger,
            self._item.engine,
        )
        with closing(run.results()) as results:
            made = list(results)
        return [replace(one, index=places[one.index]) for one in made]


def of_row(row: Mapping[str, Any]) -> BatchResult:
    """Return the result of a row of plain values, made by `asdict`."""
    return BatchResult(**{**row, "notes": tuple(row["notes"])})


def failure_row(error: PipelineError) -> dict[str, str]:
    """Return the error that ends a run as plain values."""
    kind = "input" if isinstance(error, InputError) else "model"
    return {"kind": kind, "message": error.message, "title": error.title}


def of_failure(row: Mapping[str, str]) -> PipelineError:
    """Return the error of a row; see `failure_row`."""
    made = InputError if row["kind"] == "input" else NotBegunError
    return made(row["message"], title=row["title"])
