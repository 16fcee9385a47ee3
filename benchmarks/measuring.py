"""What the benchmarks share: CPU time, alternating runs, lines of a table, and the machine."""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Return the CPU time of one call, over all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def highest_mb() -> float:
    """Return the highest resident memory of this process since it was last forgotten, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status does not say VmHWM: this is measured on Linux only.")


def forget_highest_mb() -> None:
    """Let the highest memory be counted anew from here."""
    Path("/proc/self/clear_refs").write_text("5")


def compare(ours: Callable[[], Any], theirs: Callable[[], Any], times: int) -> tuple[float, float]:
    """Return the best CPU time of each, run in turns after one warm-up of each."""
    ours(), theirs()
    pairs = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(times)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def row(what: str, ours_s: float, theirs_s: float, goal: float, **more: Any) -> Row:
    """Return one line of the table."""
    ratio = ours_s / theirs_s
    return {"what": what, "ours_s": round(ours_s, 5), "theirs_s": round(theirs_s, 5),
            "ratio": _told(ratio), "value": round(ratio, 5), "goal": f"≤ {_told(goal)}",
            "met": ratio <= goal, **more}  # fmt: skip


def _told(ratio: float) -> str:
    return f"1/{1 / ratio:.1f}" if ratio <= 1 else f"{ratio:.1f}"


def machine(weights: str) -> str:
    """Return what this machine is, and what the `weights` are, in one line."""
    import torch

    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    has = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f" {name}" in text]
    return (
        f"Measured on {os.cpu_count()} cores ({', '.join(has) or 'unknown'}), torch "
        f"{torch.__version__}, {weights}; CPU time of all threads."
    )


def report(
    script: str, rows: Sequence[Row], args: argparse.Namespace, weights: str, **more: Any
) -> None:
    """Print the table and, as the last line, JSON; keep it beside the script with `--write`.

    Args:
        script: the benchmark's own file.
        rows: lines of the table.
        args: with `quick` and `write`.
        weights: what was measured with, in words.
        more: what the JSON holds besides.
    """
    for each in rows:
        print(f"{each['what']:<100} {each['ratio']:>9}  goal {each['goal']}")
    facts = {"machine": machine(weights), "quick": args.quick, "rows": list(rows), **more}
    if args.write:
        target = Path(script).with_suffix(".json")
        target.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(facts, ensure_ascii=False))
