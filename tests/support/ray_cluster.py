"""A Ray cluster of two nodes on this machine, on which the command runs; one node can be killed.

`python -m tests.support.ray_cluster KILL FOLDER FLAGS…`: with KILL 1, the second node is
killed once both have captions in their ledgers. Prints how many there were then.
"""

import os
import sys
import threading
import time
from pathlib import Path

from pipelines.batch.ray_run import FOLDER
from pipelines.caption_folder import main


def num_captions(shard: Path) -> int:
    try:
        return sum(b'"caption"' in line for line in shard.read_bytes().splitlines())
    except OSError:
        return 0


def kill_when_both_work(cluster: object, node: object, output: Path) -> None:
    while True:
        at_work = [num for num in map(num_captions, (output / FOLDER).glob("*.jsonl")) if num]
        if len(at_work) > 1:
            break
        time.sleep(0.05)
    print(f"killed after {sum(at_work)} captions of {len(at_work)} workers", flush=True)
    cluster.remove_node(node, allow_graceful=False)  # type: ignore[attr-defined]


def run(kill: bool, argv: list[str]) -> int:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from ray.cluster_utils import Cluster

    room = {
        "num_cpus": 1,
        "memory": 3_000_000_000,
        "object_store_memory": 100_000_000,
        "include_dashboard": False,
    }
    cluster = Cluster(initialize_head=True, head_node_args=room)
    second = cluster.add_node(**room)
    cluster.wait_for_nodes()
    if kill:
        output = Path(next(flag for flag in argv if flag.startswith("--output=")).split("=")[1])
        threading.Thread(
            target=kill_when_both_work, args=(cluster, second, output), daemon=True
        ).start()
    try:
        return main([*argv, "--engine=ray", f"--ray-address={cluster.address}"])
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1] == "1", sys.argv[2:]))
