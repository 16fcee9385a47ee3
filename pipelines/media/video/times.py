"""Times of frames as a player counts them, and mending of times that are wrong in the file.

Presentation times are those of a browser's player. For MP4, MOV, Matroska and WebM the player
counts from time 0 of the file, even if the first frame is later. For transport and program
streams it counts from the first audio or video packet. For other formats, and for files without
times, the first frame is at 0.

Times that a file gives twice or out of order are replaced by times between their neighbours.
"""

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from pipelines.media.video.frames import Numbers, Times

#: Maximum fraction of frames with a time out of order, and of mended frames in all.
_MAX_STRAY, _MAX_MENDED = 0.2, 0.5

#: Maximum number of frames that are decoded before a frame and shown after it.
_MAX_LATER = 16

#: Formats whose clock starts at 0, and formats whose clock starts at any time.
_FROM_ZERO, _FROM_ANYWHERE = frozenset({"mov", "matroska"}), frozenset({"mpegts", "mpeg"})


@dataclass(frozen=True)
class Clock:
    """Clock of a video.

    Attributes:
        rate: frames per second, possibly a guess.
        tick_s: seconds of a tick of the times in the file.
        zero_s: time in the file at which a player's clock starts; None for the first frame's.
    """

    rate: float
    tick_s: float
    zero_s: float | None

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream) -> "Clock":
        """Return the clock of an open video."""
        rate = float(stream.guessed_rate or stream.average_rate or 25)
        tick_s = float(stream.time_base or Fraction(1, 90000))
        return cls(rate, tick_s, _zero_s(container))

    def counted(self, times: Times) -> Times:
        """Return ascending times in the file as a player counts them."""
        if not len(times):
            return times
        late = 0.0 if self.zero_s is None else max(0.0, float(times[0]) - self.zero_s)
        return times - times[0] + late


def _zero_s(container: InputContainer) -> float | None:
    kinds = set(container.format.name.split(","))
    if kinds & _FROM_ANYWHERE:
        return None if container.start_time is None else container.start_time / 1e6
    return 0.0 if kinds & _FROM_ZERO else None


def may_be_wrong(pts: Numbers, reorders: bool) -> bool:
    """Return whether times, in decoding order, contradict any possible order of presentation."""
    distance = _MAX_LATER + 1 if reorders else 1
    least_later = np.minimum.accumulate(pts[::-1])[::-1]
    return bool((pts[:-distance] > least_later[distance:]).any())


def mended(times: Times) -> tuple[Times, int] | None:
    """Return strictly ascending times of frames in presentation order, and how many were changed.

    Times that belong to the longest ascending sequence are kept. Repeated ones and those out of
    order are placed between their neighbours. None if too many are wrong.
    """
    kept = _ascending(times)
    first = np.diff(times[kept], prepend=-np.inf) > 0  # the first of several equal times
    known = kept[first]
    num_mended = len(times) - len(known)
    if len(times) - len(kept) > max(1, _MAX_STRAY * len(times)):
        return None
    if num_mended > max(1, _MAX_MENDED * len(times)):
        return None
    if not num_mended:
        return times, 0
    steps = np.diff(times[known]) / np.diff(known)
    usual = float(np.median(steps)) if len(steps) else 1.0
    place = np.arange(len(times))
    before = np.searchsorted(known, place, side="right") - 1
    last = np.maximum(before, 0)
    step = np.append(np.minimum(steps, usual), usual)[last]
    return times[known[last]] + (place - known[last]) * step, num_mended


def _ascending(times: Times) -> Numbers:
    """Return the places of the longest sequence that never descends, of several the earliest."""
    ends: list[float] = []
    places: list[int] = []
    before = np.full(len(times), -1, np.int64)
    for place in range(len(times) - 1, -1, -1):  # from the end: of equal choices the earlier wins
        value = -float(times[place])
        length = bisect_right(ends, value)
        before[place] = places[length - 1] if length else -1
        ends[length : length + 1], places[length : length + 1] = [value], [place]
    found = []
    place = places[-1] if places else -1
    while place >= 0:
        found.append(place)
        place = int(before[place])
    return np.array(found, np.int64)
