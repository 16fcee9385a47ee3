"""Visitors who all ask at once: `python benchmarks/bench_visitors.py [--minutes 5]`.

Starts the app with the bundled models twice. The first one is asked every request of every
visitor alone, one after the other. The second one is asked by all visitors at the same time, for
`--minutes`, each with pictures and videos of their own over every endpoint; each answer must be
the one that was given alone. Errors are counted by kind; only the clear message of a full queue
is allowed. The resident memory of the app's processes, libraries aside, is measured after one
visitor has asked everything once, at its highest, when all have left, and, before and after the
rush, once nobody has asked for `--idle-minutes` of the app, here two: then nothing is kept by
design. The rush is repeated (`--rushes`): what one more adds then is lost, and would be added by
every other. The last line is JSON; the exit status is 1 if an answer was wrong or a request failed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.app_process import (  # noqa: E402
    MemoryWatch,
    OwnApp,
    own_app,
    own_resident_mb,
    resident_mb,
    settled_mb,
    tree_of,
)
from benchmarks.visitor_requests import (  # noqa: E402
    Ask,
    draw_media,
    endpoints_of,
    num_distinct,
    requests_of,
    same,
    shuffled,
)

#: What a visitor may be told besides an answer.
ALLOWED = ("queue is full",)

#: Seconds that memory may take to be given back.
SETTLE_S = 180.0

#: Minutes after which the app gives up what nobody uses, and seconds that it takes to.
IDLE_MINUTES, GIVING_UP_S = 2.0, 60.0

KEPT = (
    "Kept by design when all have left, until --idle-minutes: the loaded models, up to 256 MB of "
    "encoded pictures and 256 MB of text vectors a model, 128 MB of video vectors, for a minute up "
    "to 4 decoders that wait; uploads and results stay on disk for an hour."
)

Requests = list[dict[str, Ask]]


@dataclass
class Tally:
    """What all visitors together have seen.

    Attributes:
        seconds: for each endpoint how long the answers took.
        wrong: for each endpoint what was wrong with answers.
        errors: endpoint and message -> how often.
        refused: how often the queue was full.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, name: str, took_s: float, fault: str) -> None:
        """Note an answer; `fault` is "" for a right one."""
        with self.lock:
            self.seconds.setdefault(name, []).append(took_s)
            if fault:
                self.wrong.append((name, fault))

    def failed(self, name: str, error: Exception) -> None:
        """Note a request without an answer."""
        message = f"{type(error).__name__}: {error}"
        with self.lock:
            if any(allowed in message.lower() for allowed in ALLOWED):
                self.refused += 1
            else:
                self.errors[name, message] += 1


def connect(url: str, folder: Path) -> Any:
    """Return a visitor's own client."""
    from gradio_client import Client  # type: ignore[import-untyped]

    return Client(url, ssl_verify=False, verbose=False, download_files=folder)


def ask_alone(app: OwnApp, requests: Requests, folder: Path) -> list[dict[str, Any]]:
    """Return the answers of each visitor, asked one after the other."""
    client = connect(app.url, folder)
    return [{name: ask(client, 0) for name, ask in own.items()} for own in requests]


def fault_of(visitor: int, name: str, answer: Any, expected: list[dict[str, Any]]) -> str:
    """Say what is wrong with an answer, "" if it is right."""
    if same(answer, expected[visitor][name]):
        return ""
    others = [index for index, own in enumerate(expected) if same(answer, own[name])]
    if others:
        return f"visitor {visitor} got the answer of visitor {others[0]}"
    return f"visitor {visitor}: {_short(answer)} in place of {_short(expected[visitor][name])}"


def _short(answer: Any) -> str:
    return json.dumps(answer, ensure_ascii=False)[:300]


def visit(
    client: Any, visitor: int, own: dict[str, Ask], expected: list[dict[str, Any]],
    end: float, tally: Tally,
) -> None:  # fmt: skip
    """Ask until `end`, and wait for the last answer."""
    for turn, name, ask in shuffled(own, visitor):
        if time.monotonic() > end:
            return
        start = time.monotonic()
        try:
            answer = ask(client, turn)
        except Exception as error:
            tally.failed(name, error)
            continue
        took_s = time.monotonic() - start
        tally.answered(name, took_s, fault_of(visitor, name, answer, expected))


def crowd(
    app: OwnApp, requests: Requests, expected: list[dict[str, Any]], minutes: float, folder: Path,
    tally: Tally,
) -> None:  # fmt: skip
    """Let all visitors ask at once."""
    clients = [connect(app.url, folder) for _ in requests]
    end = time.monotonic() + 60 * minutes
    threads = [
        threading.Thread(target=visit, args=(client, number, own, expected, end, tally))
        for number, (client, own) in enumerate(zip(clients, requests, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()


def rows_of(tally: Tally, expected: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a line for each endpoint."""
    rows = []
    for name in expected[0]:
        took = sorted(tally.seconds.get(name, []))
        errors = sum(count for (where, _), count in tally.errors.items() if where == name)
        rows.append({
            "endpoint": name,
            "answers": len(took),
            "wrong": sum(where == name for where, _ in tally.wrong),
            "errors": errors,
            "told_apart": num_distinct([own[name] for own in expected]),
            "median_s": round(took[len(took) // 2], 2) if took else None,
            "slowest_s": round(took[-1], 2) if took else None,
        })  # fmt: skip
    return rows


def report(facts: dict[str, Any], tally: Tally, faults: list[str]) -> None:
    """Print a table, what went wrong, and the line of JSON."""
    columns = ("answers", "wrong", "errors", "told_apart", "median_s", "slowest_s")
    print(f"{'endpoint':<18}" + "".join(f"{column:>12}" for column in columns))
    for row in facts["rows"]:
        print(f"{row['endpoint']:<18}" + "".join(f"{row[column]!s:>12}" for column in columns))
    print(f"queue full: {facts['queue_full']}, faults in the log: {facts['log_faults']}")
    for name, fault in tally.wrong[:20]:
        print(f"WRONG {name} {fault}")
    for (name, message), count in tally.errors.most_common():
        print(f"ERROR {count} x {name} {message}")
    for line in faults[:20]:
        print(f"LOG {line}")
    memory = facts["memory_mb"]
    print("memory in MB:")
    for when, much in memory.items():
        print(f"  {when:<40}{much:>6}")
    print(KEPT)
    print(json.dumps(facts, ensure_ascii=False))


def unused_mb(pid: int) -> float:
    """Return the memory once nobody has used anything for longer than the app keeps it, in MB."""
    time.sleep(60 * IDLE_MINUTES + GIVING_UP_S)
    return settled_mb(pid, GIVING_UP_S)


def memory_after(rush: str, pid: int, highest_mb: float, settle_s: float) -> dict[str, int]:
    """Return what the app's processes hold after a rush, and what was the most, in MB."""
    seen = {f"{rush}, highest": round(highest_mb)}
    seen[f"{rush}, all left"] = round(settled_mb(pid, settle_s))
    seen[f"{rush}, of that the app itself"] = round(own_resident_mb(pid))
    seen[f"{rush}, processes beside it"] = len(tree_of(pid)) - 1
    seen[f"{rush}, nothing in use afterwards"] = round(unused_mb(pid))
    return seen


def measure(args: argparse.Namespace, folder: Path) -> bool:
    """Run both apps and report; returns whether all was well."""
    downloads = folder / "downloads"
    media = []
    for visitor in range(args.visitors):
        (folder / str(visitor)).mkdir()
        media.append(draw_media(visitor, folder / str(visitor)))
    with own_app(folder / "alone") as app:
        offered = endpoints_of(connect(app.url, downloads))
        requests = [requests_of(number, own, offered) for number, own in enumerate(media)]
        start = time.monotonic()
        expected = ask_alone(app, requests, downloads)
        alone_s = time.monotonic() - start
    tally = Tally()
    with own_app(folder / "crowd", "--idle-minutes", str(IDLE_MINUTES)) as app:
        ask_alone(app, requests[:1], downloads)
        memory = {"start": round(resident_mb(app.pid))}
        memory["nothing in use before"] = round(unused_mb(app.pid))
        for number in range(1, args.rushes + 1):
            with MemoryWatch(app.pid) as watch:
                crowd(app, requests, expected, args.minutes, downloads, tally)
            memory |= memory_after(f"rush {number}", app.pid, max(watch.seen_mb), args.settle)
        faults = app.faults()
    facts = {
        "visitors": args.visitors,
        "minutes": args.minutes,
        "rushes": args.rushes,
        "alone_s": round(alone_s, 1),
        "answers": sum(map(len, tally.seconds.values())),
        "wrong": len(tally.wrong),
        "errors": sum(tally.errors.values()),
        "queue_full": tally.refused,
        "log_faults": len(faults),
        "memory_mb": memory,
        "rows": rows_of(tally, expected),
    }
    report(facts, tally, faults)
    return not (tally.wrong or tally.errors or faults) and bool(facts["answers"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=5.0, help="of each rush")
    parser.add_argument("--rushes", type=int, default=2)
    parser.add_argument(
        "--settle", type=float, default=SETTLE_S, help="seconds for memory to be given back"
    )
    args = parser.parse_args()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with TemporaryDirectory() as folder:
        sys.exit(0 if measure(args, Path(folder)) else 1)


if __name__ == "__main__":
    main()
