"""Frames of a long group of pictures one after the other, each packet decoded once."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any

import numpy as np

from pipelines.media.video.decoder import Group, PlaceLost, Worker
from pipelines.media.video.frames import Numbers

#: Decoded frames that wait for their turn; no codec reorders more.
MOST_HELD = 64


def pieces_of(starts: Numbers, at_once: int) -> Iterator[slice]:
    """Split frames so that no group of pictures has to be decoded for two pieces.

    Args:
        starts: for each frame, in order, the packet at which its decoding starts, (N,).
        at_once: most frames of a piece of several groups.

    Yields:
        Whole groups of together at most `at_once` frames, or one group alone that has more.
    """
    edges = [0, *(np.flatnonzero(np.diff(starts)) + 1).tolist(), len(starts)]
    begin = 0
    for start, end in pairwise(edges):
        if begin < start and end - begin > at_once:
            yield slice(begin, start)
            begin = start
        if end - begin > at_once:
            yield slice(begin, end)
            begin = end
    if begin < len(starts):
        yield slice(begin, len(starts))


class InOrder:
    """The wanted frames of one group, given while they are decoded.

    What a frame needs may turn out to be damaged after the frame itself has been decoded: a
    picture that is shown before another one may need it. So each is held back until all that was
    decoded before it has come out, which is as far as pictures are reordered, and no more.
    """

    def __init__(self, worker: Worker, group: Group, ranks: Numbers) -> None:
        """Decode with `worker`; `ranks` are the frame numbers of all packets, -1 for none."""
        self._worker, self._group, self._ranks = worker, group, ranks
        shown = group.wanted[np.argsort(ranks[group.wanted], kind="stable")]
        self._left = deque[int](shown.tolist())
        decoded = ranks[group.start : int(group.wanted[-1]) + 1]
        self._awaited = np.maximum.accumulate(decoded)  # until this frame is out, a packet waits

    def frames(self, threads: int, stopped: Callable[[], bool]) -> Iterator[Any]:
        """Yield for each wanted frame, in the order in which they are shown, it or None if lost.

        The same are lost as by `Worker.run`. At a fault the group is decoded once more from its
        start, with one thread: it tells at which packet it failed. Where frames come out in
        another order than their times say, this ends before the first that is out of its turn:
        the rest is to be read in another way.

        Raises:
            ReadingStopped: `stopped()`, asked at every packet, was true.
        """
        yield from self._attempt(threads, stopped, last=False)
        if self._left and self._worker.damage >= 0:
            yield from self._attempt(1, stopped, last=True)

    def _attempt(self, threads: int, stopped: Callable[[], bool], *, last: bool) -> Iterator[Any]:
        """Yield frames as `_once` does; without jumps in a file that reads otherwise after one."""
        try:
            yield from self._once(threads, stopped, last=last)
        except PlaceLost:
            self._worker.read_without_jumps()
            yield from self._once(threads, stopped, last=last)

    def _once(self, threads: int, stopped: Callable[[], bool], *, last: bool) -> Iterator[Any]:
        """Yield what is left up to the first fault; where it is the `last` attempt, all of it."""
        held: dict[int, Any] = {}
        wanted = set(self._left)
        with closing(self._worker.outputs(self._group, threads, stopped)) as outputs:
            for number, frame in outputs:
                if not last and self._worker.damage >= 0:
                    return
                if number in wanted:
                    held[number] = frame
                if not last and len(held) > MOST_HELD:
                    return
                while held and self._is_due(first := next(iter(held)), number):
                    if not last and not self._is_next(first):
                        return
                    yield from self._given(first, held.pop(first))
        if not last and (self._worker.damage >= 0 or [*held] != [*self._left]):
            return
        for first, frame in held.items():
            yield from self._given(first, frame)
        for _ in range(len(self._left)):
            self._left.popleft()
            yield None

    def _is_due(self, first: int, out: int) -> bool:
        """Whether nothing that was decoded before packet `first` can come after packet `out`."""
        return out >= 0 and bool(self._ranks[out] >= self._awaited[first - self._group.start])

    def _is_next(self, number: int) -> bool:
        """Whether this is the next wanted packet, and whole as far as is known."""
        return number == self._left[0] and not self._worker.is_damaged(number)

    def _given(self, number: int, frame: Any) -> Iterator[Any]:
        """Yield None for each wanted frame before this one, which did not come out, and then it."""
        if not self._left or self._ranks[number] < self._ranks[self._left[0]]:
            return  # it came out too late
        while self._left.popleft() != number:
            yield None
        yield None if self._worker.is_damaged(number) else frame
