"""Several open copies of one video, each read by a thread of its own."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock

from pipelines.core.errors import ReadingStopped
from pipelines.media.video.decoder import Group, Take, Worker
from pipelines.media.video.index import VideoIndex
from pipelines.video_fallback import DecordWorker

#: How often a caller is asked whether to stop, and told how far it is.
POLL_S = 0.05

#: From so many packets between keyframe and last wanted frame on, one group is worth two threads.
_LONG_GROUP = 48


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(group: Group, threads: int) -> int:
    """Return with how many threads, at most so many, a group is decoded best."""
    return threads if int(group.wanted[-1]) - group.start >= _LONG_GROUP else 1


class Crew:
    """The workers of one video: opened when they are needed, kept for the next request."""

    def __init__(self, path: Path, index: VideoIndex, only: DecordWorker | None) -> None:
        """Remember the file; with `only` there is this one worker and never another."""
        self._path, self._index, self._lock = path, index, Lock()
        self._idle: list[Worker | DecordWorker] = [] if only is None else [only]
        self.limit = None if only is None else 1

    @contextmanager
    def one(self) -> Iterator[Worker | DecordWorker]:
        """Lend a worker that no other thread uses; after an error it opens the file anew."""
        with self._lock:
            worker = self._idle.pop() if self._idle else Worker(self._path, self._index)
        try:
            yield worker
        except BaseException:
            worker.close()
            raise
        finally:
            with self._lock:
                self._idle.append(worker)

    def close(self) -> None:
        """Close every copy; it is opened again when it is needed again."""
        with self._lock:
            for worker in self._idle:
                worker.close()


class Run:
    """The groups of one request, decoded by several threads."""

    def __init__(self, crew: Crew, groups: list[Group], take: Take, threads: int) -> None:
        """Plan to decode `groups`, on at most `threads` cores, giving each frame to `take`."""
        self._crew, self._todo, self._take = crew, deque(groups), take
        self._num_workers = max(1, min(crew.limit or threads, threads, len(groups)))
        self._threads_each = max(1, threads // self._num_workers)
        self._stop = Event()
        self._num_packets = 0

    def all(self, should_stop: Callable[[], bool], report: Callable[[int], None]) -> set[int]:
        """Decode every group; asks and reports in the caller's thread.

        Args:
            should_stop: asked every 50 ms.
            report: called as often, with a number that grows as packets are decoded: while the
                threads hang it stays the same.

        Returns:
            The packets that are lost.

        Raises:
            ReadingStopped: `should_stop()` was true.
        """
        with ThreadPoolExecutor(self._num_workers) as pool:
            try:
                jobs = {pool.submit(self._work) for _ in range(self._num_workers)}
                left = jobs
                while left:
                    ended, left = wait(left, timeout=POLL_S)
                    for job in ended:
                        job.result()
                    if should_stop():
                        raise ReadingStopped
                    report(self._num_packets)
            finally:
                self._stop.set()
        return set().union(*(job.result() for job in jobs))

    def _work(self) -> set[int]:
        """Decode groups until none is left; returns their lost packets."""
        lost: set[int] = set()
        with self._crew.one() as worker:
            while not self._stop.is_set():
                try:
                    group = self._todo.popleft()
                except IndexError:
                    break
                threads = threads_for(group, self._threads_each)
                lost.update(worker.run(group, threads, self._take, self._stopped).tolist())
        return lost

    def _stopped(self) -> bool:
        """Whether to stop; asked before each packet, which is counted."""
        self._num_packets += 1
        return self._stop.is_set()
