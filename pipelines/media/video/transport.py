"""Continuity counters and clocks of MPEG transport streams."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.media.video.frames import Numbers

#: Bytes from one packet to the next: plain, with a time before each (M2TS), with a check code.
_STRIDES = (188, 192, 204)

#: Seconds from which a step of the clock is a jump; a step back is always one.
_JUMP_S = 10.0

#: Lowest identifier of packets beside common tables, and that of stuffing.
_FIRST_PID, _NULL_PID = 0x20, 0x1FFF


class Counters:
    """Continuity of a transport stream.

    Attributes:
        lost: positions before which packets are lost, ascending.
        restarts: positions at which counters start again because streams were joined.
    """

    def __init__(self, lost: Numbers, restarts: Numbers) -> None:
        self.lost, self.restarts = lost, restarts

    @classmethod
    def of(cls, path: Path) -> "Counters | None":
        """Read the counters of all packets; None if the packets are not aligned throughout."""
        data = np.memmap(path, np.uint8, "r")
        for stride in _STRIDES:
            offset = 4 if stride == 192 else 0
            packets = data[: len(data) // stride * stride].reshape(-1, stride)[:, offset:]
            if len(packets) and (packets[:, 0] == 0x47).all():
                return cls._of(packets, stride)
        return None

    @classmethod
    def _of(cls, packets: NDArray[np.uint8], stride: int) -> "Counters":
        pids = (packets[:, 1].astype(np.int64) & 0x1F) << 8 | packets[:, 2]
        counts, loads = packets[:, 3] & 15, (packets[:, 3] & 0x10) != 0
        tables = np.flatnonzero((pids == 0) & loads)
        tables = tables[counts[tables] == counts[tables[:1]]]  # the counter may start again here
        lost, restarts = [], []
        for pid in np.unique(pids[(pids >= _FIRST_PID) & (pids != _NULL_PID)]).tolist():
            own = np.flatnonzero((pids == pid) & loads)
            counted = counts[own].astype(np.int64)
            for place in (
                np.flatnonzero((counted[1:] - counted[:-1]) % 16 > 1) + 1
            ):  # 0 is a repeated packet
                now, before = own[place], own[place - 1]
                again = np.searchsorted(tables, [before, now], side="right")
                if counts[now] == counts[own[0]] and packets[now, 1] & 0x40 and again[0] < again[1]:
                    restarts.append(now * stride)
                elif not _is_announced(packets[now]):
                    lost.append(now * stride)
        return cls(np.sort(np.array(lost, np.int64)), np.sort(np.array(restarts, np.int64)))

    def is_whole(self, start: int, end: int) -> bool:
        """Return whether no packet is lost from one position to another, inclusive."""
        return not _count(self.lost, start, end)

    def is_joined(self, start: int, end: int) -> bool:
        """Return whether counters start again, and no packet is lost, between two positions."""
        return self.is_whole(start, end) and bool(_count(self.restarts, start, end))


def _count(places: Numbers, start: int, end: int) -> int:
    return int(np.searchsorted(places, end, side="right") - np.searchsorted(places, start))


def _is_announced(packet: NDArray[np.uint8]) -> bool:
    """Return whether a packet announces a discontinuity."""
    return bool(packet[3] & 0x20 and packet[4] and packet[5] & 0x80)


def joined_clock(dts: Numbers, tick_s: float, whole: NDArray[np.bool_]) -> Numbers:
    """Return what is to be added to the times of packets so that the clock does not jump.

    `whole` tells before which packets none is lost; elsewhere a jump ahead may be a loss.
    """
    if len(dts) < 3:
        return np.zeros(len(dts), np.int64)
    steps = np.diff(dts)
    usual = int(np.median(steps))
    ahead = (steps * tick_s > _JUMP_S) & (steps > 10 * usual) & whole[1:]
    excess = np.where(ahead | (steps < 0), steps - usual, 0)
    return np.concatenate([[0], -np.cumsum(excess)])
