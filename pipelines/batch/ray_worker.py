"""One worker of a cluster: the engine of a batch over a few pictures at a time. Ray-free."""

import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.batch.captioner import make_captioner
from pipelines.batch.engine import BatchRun, EngineOptions
from pipelines.batch.ledger import Ledger, LedgerEntry
from pipelines.batch.results import BatchResult
from pipelines.core.errors import InputError, NotBegunError, PipelineError
from pipelines.core.options import GenerationOptions
from pipelines.core.remote import with_keys
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.media import isolation
from pipelines.media.inputs import BatchInput
from pipelines.serving.store import PipelineStore


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """What every worker is told; holds no key.

    Attributes:
        settings: of the run, with the precision that all machines compute in.
        spec: the model.
        prompt: what every caption continues.
        options: how the texts are generated.
        key: of the settings that captions depend on, as the one who asks has them.
        engine: how pictures are opened and given to the model.
        items: all inputs.
        known: captions by content.
        other: captions under other settings, with their contents.
        shards: folder of the workers' own ledgers.
    """

    settings: Settings
    spec: ModelSpec
    prompt: str
    options: GenerationOptions
    key: str
    engine: EngineOptions
    items: tuple[BatchInput, ...]
    known: Mapping[str, LedgerEntry]
    other: Mapping[str, set[str]]
    shards: Path


class CaptionWorker:
    """Captions inputs by their numbers; what it did is in a ledger of its own first."""

    def __init__(self, errand: WorkItem) -> None:
        """Get ready; the model is loaded with the first pictures.

        Raises:
            NotBegunError: this machine would make other captions, or has not got the model.
        """
        self._errand = errand
        settings = replace(errand.settings, remotes=with_keys(errand.settings.remotes, os.environ))
        if settings.decoders == "apart":
            isolation.enable()
        store = PipelineStore(settings)
        spec = store.resolve(errand.spec.key, errand.spec.task)
        for _ in store.fetch(spec.key, spec.task):
            pass
        captioner = make_captioner(store, spec, errand.prompt, errand.options)
        if captioner.settings.key != errand.key:
            raise NotBegunError(
                "A machine of the cluster has another checkpoint or server of this model, or "
                "computes in another precision. Set it up as this one; --dtype sets the precision."
            )
        self._caption_batch = captioner.caption_batch
        name = f"{secrets.token_hex(8)}.jsonl"
        self._ledger = Ledger(errand.shards / name, captioner.settings, errand.known, errand.other)

    def results(self, numbers: Iterable[int]) -> list[BatchResult]:
        """Return the result of each input, in order.

        Raises:
            PipelineError: what no other picture would mend.
        """
        places = [int(number) for number in numbers]
        run = BatchRun(
            [self._errand.items[place] for place in places],
            self._caption_batch,
            self._ledger,
            self._errand.engine,
        )
        with closing(run.results()) as results:
            made = list(results)
        return [replace(one, index=places[one.index]) for one in made]


def as_row(result: BatchResult) -> dict[str, Any]:
    """Return a result as plain values that travel."""
    return asdict(result)


def of_row(row: Mapping[str, Any]) -> BatchResult:
    """Return the result that `as_row` made a row of."""
    return BatchResult(**{**row, "notes": tuple(row["notes"])})


def failure_row(error: PipelineError) -> dict[str, str]:
    """Return what ends a run as plain values."""
    kind = "input" if isinstance(error, InputError) else "model"
    return {"kind": kind, "message": error.message, "title": error.title}


def of_failure(row: Mapping[str, str]) -> PipelineError:
    """Return the error that `failure_row` made a row of."""
    made = InputError if row["kind"] == "input" else NotBegunError
    return made(row["message"], title=row["title"])
