"""How a batch is laid out over what a cluster has: pure arithmetic. Torch-free, Ray-free."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.core.errors import MemoryLimitError

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
class Plan:
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
) -> Plan:
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
    return Plan(workers, cores, int(on_gpu), memory, together)
