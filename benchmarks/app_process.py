"""An app of its own for a benchmark, and the memory of its processes. Linux."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Seconds after which a start of the app counts as hung.
START_LIMIT_S = 180.0


@dataclass(frozen=True)
class OwnApp:
    """A running app.

    Attributes:
        url: where it answers.
        pid: its first process.
        log_file: what it says.
    """

    url: str
    pid: int
    log_file: Path

    def faults(self) -> list[str]:
        """Return what it has logged as errors."""
        text = self.log_file.read_text(encoding="utf-8", errors="replace")
        return [line for line in text.splitlines() if line.startswith(("ERROR", "CRITICAL"))]


@contextmanager
def own_app(folder: Path, *flags: str) -> Iterator[OwnApp]:
    """Run the app with the bundled models and files of its own for the length of the block.

    Args:
        folder: for its files; made.
        flags: of the app, beside those.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    folder.mkdir(parents=True)
    log_file = folder / "app.log"
    command = [sys.executable, "-u", "app.py", "--models", "bundled", "--port", "0"]
    command += ["--work-dir", str(folder / "work"), "--cache-dir", str(folder / "cache")]
    command += flags
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    with (
        log_file.open("wb") as output,
        subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield OwnApp(_await_url(process, log_file), process.pid, log_file)
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def _await_url(process: subprocess.Popen[bytes], log_file: Path) -> str:
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log_file.read_text("utf-8", "replace"))
        if found:
            try:
                with urllib.request.urlopen(f"{found[0]}/config", timeout=10):
                    return found[0]
            except OSError:
                logging.debug("not yet")
        time.sleep(0.2)
    raise RuntimeError("app.py ended or did not answer; run it alone to see why.")


def tree_of(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2]
        except OSError:  # ended meanwhile
            continue
        parents[int(folder.name)] = int(after_name.split()[1])
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its descendants, in MB (1e6 bytes).

    What several of them share counts once, each having its part of it. Pages of files, such as
    libraries, do not count: other programs share them, and the system takes them back.
    """
    return sum(own_resident_mb(each) for each in tree_of(pid))


def own_resident_mb(pid: int) -> float:
    """Return a process's part of the memory that is resident, in MB; 0 if it has ended."""
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", told, re.MULTILINE)
    return sum(map(int, found)) * 1024 / 1e6


@dataclass
class MemoryWatch:
    """The memory of an app's processes while the block ran, looked at twice a second.

    Attributes:
        pid: the app's first process.
        seen_mb: what was seen, in order.
    """

    pid: int
    seen_mb: list[float] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> MemoryWatch:
        """Begin to look."""
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.seen_mb.append(resident_mb(self.pid))
            if self._ended.wait(0.5):
                return


def settled_mb(pid: int, at_most_s: float, calm_s: float = 20.0) -> float:
    """Return the memory once it has not fallen for `calm_s`, or after `at_most_s`, in MB."""
    end = time.monotonic() + at_most_s
    lowest, since = resident_mb(pid), time.monotonic()
    while time.monotonic() < min(end, since + calm_s):
        time.sleep(1.0)
        now = resident_mb(pid)
        if now < lowest - 1.0:
            lowest, since = now, time.monotonic()
    return resident_mb(pid)
