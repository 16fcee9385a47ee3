"""Batch on a Ray cluster, with the same ledger and results as on one machine.

Each worker is an actor with the model and the whole engine, and writes its own ledger before it
returns results. When a machine is lost, Ray Data gives its images to others. Ray is imported at
first use.
"""

import logging
import os
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipelines.batch.engine import EngineOptions
from pipelines.batch.export import BatchResult
from pipelines.batch.ledger import Ledger, LedgerEntry, read_captions
from pipelines.batch.progress import RateMeter, RunProgress
from pipelines.batch.ray_worker import (
    CaptionWorker,
    ClusterWork,
    WorkItem,
    failure_row,
    of_failure,
    of_row,
)
from pipelines.core.cancel import CancelToken
from pipelines.core.errors import InputError, MemoryLimitError, NotBegunError, PipelineError
from pipelines.core.remote import without_keys
from pipelines.media.inputs import BatchInput
from pipelines.serving.store import PipelineStore

#: Most CPU cores of a model; further cores are better used by a second copy.
MOST_CORES = 4

#: Memory of a worker beside its model, in bytes.
BESIDE_MODEL_BYTES = 700_000_000

#: Fewest and most images that a worker receives together.
LEAST_TOGETHER, MOST_TOGETHER = 8, 64

#: Work items for each worker, so that a slow one leaves work to the others.
ITEMS_EACH = 4


@dataclass(frozen=True)
class Node:
    """Resources of a machine of the cluster, free for workers."""

    cores: float
    gpus: float
    memory_bytes: float


@dataclass(frozen=True)
class ClusterPlan:
    """Layout of the work: the most concurrent workers, each with the model.

    `cores`, `gpus` and `memory_bytes` are those of a worker, which receives `together` images.
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
    """Return the layout of the work.

    A machine with GPUs gets a worker for each, one without as many as its cores and memory allow;
    if some machines have GPUs, the others are not used. `model_gb` is the memory of the model in
    GB, 0.0 for a remote one; `most_workers` is a limit below that of the cluster, or None.

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
    items = -(-num_pictures // LEAST_TOGETHER)
    workers = max(1, min(room, items, most_workers or room))
    share = -(-num_pictures // (workers * ITEMS_EACH))
    together = min(max(share, LEAST_TOGETHER, batch_size), max(MOST_TOGETHER, batch_size))
    return ClusterPlan(workers, cores, int(on_gpu), memory, together)


#: Folder of the workers' ledgers, beside the main ledger.
FOLDER = "seesay-ledger-shards"


def collect_shards(folder: Path, ledger: Ledger) -> int:
    """Add the captions of the workers' ledgers to the main ledger; return how many were new.

    A torn line of a killed worker is left out; its image is captioned again. The workers' ledgers
    are deleted afterwards. Raises `DiskError` if the ledger cannot be written.
    """
    before = len(ledger)
    for path in sorted(folder.glob("*.jsonl")):
        ledger.add(read_captions(path, ledger.settings).values())
    shutil.rmtree(folder, ignore_errors=True)
    return len(ledger) - before


log = logging.getLogger(__name__)

#: Restarts after the cluster lost the work without a further result.
MOST_RESTARTS = 3

#: Share of the machines' memory for models.
_MEMORY_SHARE = 0.9


def check_installed() -> None:
    """Raise `InputError` if Ray is not installed; the message names the file of requirements."""
    if find_spec("ray") is None:
        raise InputError(
            "--engine ray needs packages that are not installed: "
            "pip install -r requirements-ray.txt, on every machine of the cluster.",
            title="Ray is missing",
        )


@contextmanager
def cluster(address: str) -> Iterator[list[Node]]:
    """Join a cluster during the block, or start one of this machine; yield its machines.

    `address` is that of a running cluster, "auto" for that of this machine; "" starts one.

    Raises:
        InputError: there is no cluster at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # the command draws its own progress
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
    """Return the work with one precision for all machines: that of a worker's device."""
    spec, settings = work.spec, work.settings
    if settings.dtype != "auto" or spec.demo or spec.remote is not None:
        return work
    import ray

    gpus = int(any(node.gpus >= 1 for node in nodes))
    without_secrets = replace(settings, remotes=(), auth="")  # no secret leaves this machine

    def dtype() -> str:
        return PipelineStore(without_secrets).device.dtype

    chosen = ray.get(ray.remote(num_gpus=gpus)(dtype).remote())
    return replace(work, settings=replace(settings, dtype=chosen))


class ClusterRun:
    """Captions of inputs on the machines of a cluster; iterate over `results` in one thread.

    Every machine reads the inputs' files at the same place; workers write beside the ledger.

    Raises:
        MemoryLimitError: no machine has room for the model.
    """

    def __init__(
        self,
        items: Sequence[BatchInput],
        work: ClusterWork,
        ledger: Ledger,
        nodes: Sequence[Node],
        engine: EngineOptions,
        cancel: CancelToken,
    ) -> None:
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
        self._shards = (ledger.path.parent / FOLDER).absolute()
        self._cancel = cancel
        self._meter = RateMeter(len(items), engine.batch_size)

    def progress(self) -> RunProgress:
        """Return the current progress; from any thread."""
        return self._meter.snapshot(self._cancel.is_cancelled)

    def results(self) -> Generator[BatchResult, None, None]:
        """Yield one result for each input, in order; ends early once the run is cancelled.

        A result is on disk in the ledger before it is yielded.

        Raises:
            DiskError: the ledger cannot be written.
            InputError, NotBegunError: an error that no other image would change.
        """
        taken = collect_shards(self._shards, self._ledger)
        log.info("Collected %d captions of interrupted workers", taken)
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
                        if self._cancel.is_cancelled:
                            return
            except Exception as error:
                if not _is_of_ray(error):
                    collect_shards(self._shards, self._ledger)
                    raise
                restarts = 0 if done > before else restarts + 1
                if restarts > MOST_RESTARTS:
                    raise NotBegunError(
                        "The cluster lost its workers again and again. Look at `ray status` and "
                        "the logs of Ray, then start again: what is done is kept."
                    ) from error
                log.warning("The cluster lost the work after %d images; it is restarted", done)
            collect_shards(self._shards, self._ledger)

    def _stream(self, first: int) -> Generator[BatchResult, None, None]:
        for block in _blocks(self._item(), self.plan, first, len(self._items)):
            for text in block["failure"]:
                if text:
                    raise of_failure(text)
            made = [of_row(row) for row in block["result"]]
            self._ledger.add(entry for one in made for entry in _entries(one))
            self._meter.batch(sum(one.origin == "model" for one in made))
            yield from made

    def _item(self) -> WorkItem:
        work, (known, other) = self._work, self._ledger.known()
        remotes = tuple(
            replace(one, concurrency=max(1, one.concurrency // self.plan.num_workers))
            for one in without_keys(work.settings.remotes)
        )
        return WorkItem(
            work=replace(
                work,
                settings=replace(work.settings, remotes=remotes, auth=""),
                spec=replace(work.spec, remote=None),
            ),
            key=self._ledger.settings.key,
            engine=self._engine,
            items=self._items,
            known=known,
            other=other,
            shards=self._shards,
        )


def _entries(result: BatchResult) -> Iterator[LedgerEntry]:
    if result.error:
        yield LedgerEntry(result.file, result.hash, "", result.error)
    elif result.origin == "model":
        yield LedgerEntry(result.file, result.hash, result.caption, "", result.notes)


def _is_of_ray(error: BaseException) -> bool:
    """Return whether the cluster failed, and not the work or the ledger."""
    from ray.exceptions import RayError

    return isinstance(error, RayError) and not isinstance(error, PipelineError)


def _blocks(
    item: WorkItem, plan: ClusterPlan, first: int, end: int
) -> Iterator[dict[str, list[Any]]]:
    import json

    import ray

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    held = ray.put(item)

    class Actor:
        def __init__(self) -> None:
            self._failure = ""
            try:
                self._worker = CaptionWorker(ray.get(held))
            except PipelineError as error:
                self._failure = json.dumps(failure_row(error))

        def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
            if self._failure:
                return {"result": [""], "failure": [self._failure]}
            try:
                made = self._worker.results(batch["id"])
            except PipelineError as error:
                return {"result": [""], "failure": [json.dumps(failure_row(error))]}
            rows = [json.dumps(asdict(one)) for one in made]
            return {"result": rows, "failure": [""] * len(rows)}

    # in this process: a reader task would take a core of the workers
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
