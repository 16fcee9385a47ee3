"""A batch through Ray Data: the same ledger and results as on one machine. Imports Ray when used.

Each worker is an actor that holds the model and the whole engine, and writes a ledger of its own
before it hands on what it did. Where a machine is lost Ray Data gives its pictures to others.
"""

import logging
import os
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipelines.batch.captioner import make_captioner
from pipelines.batch.control import RateMeter, RunControl, RunProgress
from pipelines.batch.engine import EngineOptions
from pipelines.batch.ledger import CaptionSettings, Ledger, LedgerEntry, read_captions
from pipelines.batch.ray_worker import (
    CaptionWorker,
    WorkItem,
    as_row,
    failure_row,
    of_failure,
    of_row,
)
from pipelines.batch.results import BatchResult
from pipelines.core.errors import InputError, MemoryLimitError, NotBegunError, PipelineError
from pipelines.core.options import GenerationOptions
from pipelines.core.remote import without_keys
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.media.inputs import BatchInput
from pipelines.serving.store import PipelineStore

#: CPU cores that a model uses at most; more of them help a second copy more.
MOST_CORES = 4

#: Memory of a worker beside its model, in bytes.
BESIDE_MODEL_BYTES = 700_000_000

#: Pictures that go to a worker together, at least and at most.
LEAST_TOGETHER, MOST_TOGETHER = 8, 64

#: Errands for each worker, so that a slow one leaves work to the others.
ERRANDS_EACH = 4


@dataclass(frozen=True)
class Node:
    """What a machine of the cluster has.

    Attributes:
        cores: CPU cores.
        gpus: GPUs.
        memory_bytes: memory that workers may take.
    """

    cores: float
    gpus: float
    memory_bytes: float


@dataclass(frozen=True)
class ClusterPlan:
    """How the work is laid out.

    Attributes:
        num_workers: at most so many at once, each with the model.
        cores: CPU cores of each.
        gpus: GPUs of each.
        memory_bytes: memory of each.
        together: pictures that go to one of them together.
    """

    num_workers: int
    cores: int
    gpus: int
    memory_bytes: int
    together: int


def plan_work(
    nodes: Sequence[Node],
    num_pictures: int,
    model_gb: float,
    *,
    batch_size: int,
    most_workers: int | None = None,
) -> ClusterPlan:
    """Return how pictures are laid out.

    A machine with GPUs gets a worker for each, one without as many as its cores and its memory
    allow; where some have GPUs, the others only stand by.

    Args:
        nodes: the machines.
        num_pictures: how many there are.
        model_gb: memory of the model, in GB; 0.0 for a remote one.
        batch_size: pictures that a worker gives its model at once.
        most_workers: fewer than the cluster could hold, or None.

    Raises:
        MemoryLimitError: no machine has room for a worker.
    """
    on_gpu = model_gb > 0.0 and any(node.gpus >= 1 for node in nodes)
    memory = int(model_gb * 1e9) + BESIDE_MODEL_BYTES
    widest = max((int(node.cores) for node in nodes), default=0)
    cores = 1 if on_gpu or model_gb == 0.0 else max(1, min(MOST_CORES, widest))
    room = 0
    for node in nodes:
        by_cores = int(node.gpus) if on_gpu else int(node.cores // cores)
        room += min(by_cores, int(node.memory_bytes // memory))
    if not room:
        raise MemoryLimitError(
            f"No machine of the cluster has {cores} free cores and {memory / 1e9:.1f} GB of "
            "memory for the model. Add machines, or choose a smaller model."
        )
    errands = -(-num_pictures // LEAST_TOGETHER)
    workers = max(1, min(room, errands, most_workers or room))
    share = -(-num_pictures // (workers * ERRANDS_EACH))
    together = min(max(share, LEAST_TOGETHER, batch_size), max(MOST_TOGETHER, batch_size))
    return ClusterPlan(workers, cores, int(on_gpu), memory, together)


#: Folder of the workers' ledgers, beside the one ledger.
FOLDER = "seesay-ledger-shards"


def take_up(folder: Path, ledger: Ledger) -> int:
    """Add to a ledger what workers wrote down, also those that were killed; returns how many.

    A line that was torn when its worker was killed is left out; its picture is done again. The
    workers' ledgers are deleted once all that they hold is in the one.

    Raises:
        DiskError: the ledger cannot be written.
    """
    before = len(ledger)
    for path in sorted(folder.glob("*.jsonl")):
        ledger.add(read_captions(path, ledger.settings).values())
    shutil.rmtree(folder, ignore_errors=True)
    return len(ledger) - before


log = logging.getLogger(__name__)

#: Times that the work is laid out anew after the cluster lost it without one more result.
MOST_RESTARTS = 3

#: What an existing cluster's machines keep free of models.
_MEMORY_SHARE = 0.9


@dataclass(frozen=True)
class ClusterWork:
    """What is to be done with every picture.

    Attributes:
        settings: those of the run.
        spec: the model.
        prompt: what every caption continues.
        options: how the texts are generated.
    """

    settings: Settings
    spec: ModelSpec
    prompt: str
    options: GenerationOptions

    def caption_settings(self) -> CaptionSettings:
        """Return what the captions depend on, as this machine has it."""
        store = PipelineStore(self.settings)
        return make_captioner(store, self.spec, self.prompt, self.options).settings


def check_installed() -> None:
    """Refuse to begin without Ray.

    Raises:
        InputError: it is not installed; the message names the file of requirements.
    """
    if find_spec("ray") is None:
        raise InputError(
            "--engine ray needs packages that are not installed: "
            "pip install -r requirements-ray.txt, on every machine of the cluster.",
            title="Ray is missing",
        )


@contextmanager
def cluster(address: str) -> Iterator[list[Node]]:
    """Join a cluster for the length of the block, or make one of this machine; gives its machines.

    Args:
        address: of a running cluster, "auto" for the one of this machine; "" makes one.

    Raises:
        InputError: there is no cluster at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray calls home unless told not to
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # the command has a line of its own
    import ray
    import ray.data

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    joined = ray.is_initialized()
    if not joined:
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise InputError(
                f"There is no Ray cluster at {address}. Start one with `ray start --head`, or "
                "leave --ray-address out to use this machine alone."
            ) from error
    try:
        yield _nodes(ray.nodes())
    finally:
        if not joined:
            ray.shutdown()


def _nodes(listed: Sequence[Mapping[str, Any]]) -> list[Node]:
    alive = [node["Resources"] for node in listed if node["Alive"]]
    return [
        Node(
            cores=has.get("CPU", 0.0),
            gpus=has.get("GPU", 0.0),
            memory_bytes=has.get("memory", 0.0) * _MEMORY_SHARE,
        )
        for has in alive
    ]


def with_precision(work: ClusterWork, nodes: Sequence[Node]) -> ClusterWork:
    """Return the work with one precision for all machines: what a worker's device would take."""
    spec, settings = work.spec, work.settings
    if settings.dtype != "auto" or spec.demo or spec.remote is not None:
        return work
    import ray

    gpus = int(any(node.gpus >= 1 for node in nodes))
    travelling = replace(settings, remotes=(), auth="")  # no secret leaves this machine

    def dtype() -> str:
        return PipelineStore(travelling).device.dtype

    chosen = ray.get(ray.remote(num_gpus=gpus)(dtype).remote())
    return replace(work, settings=replace(settings, dtype=chosen))


class ClusterRun:
    """Captions inputs once, on the machines of a cluster; iterate over `results` in one thread."""

    def __init__(
        self,
        items: Sequence[BatchInput],
        work: ClusterWork,
        ledger: Ledger,
        nodes: Sequence[Node],
        engine: EngineOptions,
        control: RunControl,
    ) -> None:
        """Lay out the work, within `cluster`.

        Args:
            items: what to caption; their files are read by every machine at the same place.
            work: what is done with each.
            ledger: what is known, and where results are kept; workers write beside it.
            nodes: the machines.
            engine: how a worker goes about its pictures.
            control: cancels the run.

        Raises:
            MemoryLimitError: no machine has room for the model.
        """
        remote = work.spec.remote
        model_gb = 0.0 if remote else PipelineStore(work.settings).need_gb(work.spec)
        self.plan = plan_work(
            nodes,
            len(items),
            model_gb,
            batch_size=engine.batch_size,
            most_workers=min(remote.concurrency, 2 * len(nodes)) if remote else None,
        )
        self._items = tuple(items)
        self._work = work
        self._ledger = ledger
        self._engine = engine
        self._shards = _shards_of(ledger)
        self.control = control
        self._meter = RateMeter(len(items), engine.batch_size)

    def progress(self) -> RunProgress:
        """Return how far the run is; from any thread."""
        return self._meter.snapshot(self.control)

    def results(self) -> Generator[BatchResult, None, None]:
        """Yield one result for each input, in order; ends early once the run is cancelled.

        A result is on disk in the ledger before it is yielded.

        Raises:
            DiskError: the ledger cannot be written.
            InputError, NotBegunError: what no other picture would mend.
        """
        taken = take_up(self._shards, self._ledger)
        log.info("Took up %d captions of workers that were cut off", taken)
        self._meter.start()
        done, restarts = 0, 0
        while done < len(self._items):
            before = done
            try:
                with closing(self._stream(done)) as made:
                    for result in made:
                        done += 1
                        self._meter.result(
                            result.file, result.error or result.caption, bool(result.error)
                        )
                        yield result
                        if self.control.cancelled:
                            return
            except Exception as error:
                if not _is_of_ray(error):
                    take_up(self._shards, self._ledger)
                    raise
                restarts = 0 if done > before else restarts + 1
                if restarts > MOST_RESTARTS:
                    raise NotBegunError(
                        "The cluster lost its workers again and again. Look at `ray status` and "
                        "the logs of Ray, then start again: what is done is kept."
                    ) from error
                log.warning("The cluster lost the work after %d pictures; it goes on", done)
            take_up(self._shards, self._ledger)

    def _stream(self, first: int) -> Generator[BatchResult, None, None]:
        """Yield the results from number `first` on, each kept before."""
        for block in _blocks(self._errand(), self.plan, first, len(self._items)):
            for text in block["failure"]:
                if text:
                    raise of_failure(text)
            made = [of_row(row) for row in block["result"]]
            self._ledger.add(entry for one in made for entry in _entries(one))
            self._meter.batch(sum(one.origin == "model" for one in made))
            yield from made

    def _errand(self) -> WorkItem:
        work, known = self._work, self._ledger.known()
        settings = work.settings
        workers = self.plan.num_workers
        remotes = tuple(
            replace(one, concurrency=max(1, one.concurrency // workers))
            for one in without_keys(settings.remotes)
        )
        spec = work.spec
        return WorkItem(
            settings=replace(settings, remotes=remotes, auth=""),
            spec=spec if spec.remote is None else replace(spec, remote=None),
            prompt=work.prompt,
            options=work.options,
            key=self._ledger.settings.key,
            engine=self._engine,
            items=self._items,
            known=known[0],
            other=known[1],
            shards=self._shards,
        )


def _shards_of(ledger: Ledger) -> Path:
    return (ledger.path.parent / FOLDER).absolute()


def _entries(result: BatchResult) -> Iterator[LedgerEntry]:
    if result.error:
        yield LedgerEntry(result.file, result.hash, "", result.error)
    elif result.origin == "model":
        yield LedgerEntry(result.file, result.hash, result.caption, "", result.notes)


def _is_of_ray(error: BaseException) -> bool:
    """Whether the cluster failed, and not the work or the ledger."""
    from ray.exceptions import RayError

    return isinstance(error, RayError) and not isinstance(error, PipelineError)


def _blocks(
    errand: WorkItem, plan: ClusterPlan, first: int, end: int
) -> Iterator[dict[str, list[Any]]]:
    """Yield what workers hand on, in the order of the inputs."""
    import json

    import ray

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    held = ray.put(errand)

    class Actor:
        def __init__(self) -> None:
            self._trouble = ""
            try:
                self._worker = CaptionWorker(ray.get(held))
            except PipelineError as error:
                self._trouble = json.dumps(failure_row(error))

        def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
            if self._trouble:
                return {"result": [""], "failure": [self._trouble]}
            try:
                made = self._worker.results(batch["id"])
            except PipelineError as error:
                return {"result": [""], "failure": [json.dumps(failure_row(error))]}
            rows = [json.dumps(as_row(one)) for one in made]
            return {"result": rows, "failure": [""] * len(rows)}

    # held by this process: to read them would take a core of those that the workers need
    numbers = [{"id": number} for number in range(first, end)]
    blocks = -(-len(numbers) // plan.together)
    dataset = ray.data.from_items(numbers, override_num_blocks=blocks).map_batches(
        Actor,
        batch_size=plan.together,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=plan.num_workers),
        num_cpus=plan.cores,
        num_gpus=plan.gpus or None,
        memory=plan.memory_bytes,
    )
    for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        rows = block.to_pydict()
        yield {
            "result": [json.loads(text) for text in rows["result"] if text],
            "failure": [json.loads(text) if text else None for text in rows["failure"]],
        }
