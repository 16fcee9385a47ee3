"""Decode wanted packets of a video and as little as possible beside them."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.reformatter import VideoReformatter

from pipelines.core.cancel import CancelToken
from pipelines.media.video.container import (
    given_frames,
    looks_like_video,
    mark,
    marked,
    open_container,
    packets_of,
    video_stream,
)
from pipelines.media.video.frames import Numbers
from pipelines.media.video.index import (
    NONE,
    ONE_FOR_ONE,
    VideoIndex,
    can_skip,
    has_zeros,
    may_hold_zeros,
)

#: A gap of up to so many packets is read through; a longer one is jumped over.
_NEAR = 30

#: How far before the wanted packet, in seconds, a jump aims when nearer ones landed behind it.
_BACK_S = (1.0, 10.0, 60.0)

#: What becomes of each wanted frame: (number of its packet, the frame, the worker's scaler).
Take = Callable[[int, Any, VideoReformatter], None]


@dataclass(frozen=True, eq=False)
class Group:
    """Wanted packets that are decoded from one keyframe on.

    Attributes:
        start: number of the keyframe's packet.
        wanted: numbers of the wanted packets, ascending, all >= start.
    """

    start: int
    wanted: Numbers


def groups_of(index: VideoIndex, frames: Numbers) -> list[Group]:
    """Sort distinct frame numbers into groups, in the order of the file."""
    packets, starts = index.packets[frames], index.starts[frames]
    return [Group(int(start), np.sort(packets[starts == start])) for start in np.unique(starts)]


class PositionLost(Exception):
    """A jump led to packets that are not, or not all, in the list."""


class FrameDecoder:
    """One open file with its decoder, used by one thread at a time.

    Attributes:
        reformatter: scales the frames of this file.
        damage: the first packet that was found damaged by the last call of `outputs`, or -1.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
        """Remember the file; it is opened when it is first needed."""
        self._path, self._index = path, index
        self._order = None if index.names is None else np.argsort(index.names)
        self._container: Any = None
        self.reformatter = VideoReformatter()
        self.damage = -1
        self._threads = 1
        self._jumps = True
        self._strict, self._doubted = True, -1
        self._shown = frozenset(index.packets.tolist()) if index.codec in ONE_FOR_ONE else ()
        self._owed = set[int]()  # packets whose frame has not come out yet

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def run(self, group: Group, threads: int, take: Take, cancel: CancelToken) -> Numbers:
        """Decode a group and hand each wanted frame to `take`.

        Returns:
            The packets of the group that are lost: they, or something that they may need, are
            damaged. `take` may have been given one of them all the same.

        Raises:
            Cancelled: `cancel` is cancelled.
        """
        whole, given = self._attempt(group, threads, take, cancel)
        missing = [int(n) for n in group.wanted if n not in given or (whole >= 0 and n >= whole)]
        if not missing and (whole < 0 or threads == 1):
            return np.zeros(0, np.int64)
        # Once more with one thread, which tells at which packet it failed; and a decoder that
        # met a deeper reordering than the file announced has learned of it by now.
        whole, given = self._attempt(group, 1, take, cancel)
        lost = [n for n in group.wanted if n not in given or (whole >= 0 and n >= whole)]
        return np.array(lost, np.int64)

    def _attempt(
        self, group: Group, threads: int, take: Take, cancel: CancelToken
    ) -> tuple[int, set[int]]:
        """Decode as `_decode` does; without jumps in a file that reads otherwise after one."""
        try:
            return self._decode(group, threads, take, cancel)
        except PositionLost:
            self.read_without_jumps()
            return self._decode(group, threads, take, cancel)

    def _decode(
        self, group: Group, threads: int, take: Take, cancel: CancelToken
    ) -> tuple[int, set[int]]:
        """Return the first damaged packet, or -1, and the packets whose frames were given."""
        wanted, given = set(group.wanted.tolist()), set[int]()
        for number, frame in self.outputs(group, threads, cancel):
            if number in wanted:
                take(number, frame, self.reformatter)
                given.add(number)
        return self.damage, given

    def outputs(
        self, group: Group, threads: int, cancel: CancelToken
    ) -> Generator[tuple[int, Any], None, None]:
        """Decode a group and yield (number of its packet, frame) as they come out whole.

        That is up to the first packet that cannot be decoded. Unwanted frames are among them as
        far as others need them; -1 is the number of one whose packet the decoder did not keep.

        Raises:
            Cancelled: `cancel`, checked at every packet, is cancelled.
            PlaceLost: read again after `read_without_jumps`.
        """
        self._open(threads)
        self._owed.clear()
        self.damage = -1
        wanted, number = set(group.wanted.tolist()), -1
        try:
            for number, packet in self._packets(group.start, int(group.wanted[-1])):
                cancel.check()
                frames, failed = self._feed(number, packet, number in wanted)
                yield from self._whole(frames)
                if failed:
                    self._note_damage(number)
                    break
            yield from self._whole(given_frames(self._codec, None))
            if self._owed:
                self._note_damage(min(self._owed))
        finally:  # also where whoever reads has enough
            self._learn(threads, group.start, number)
            self._codec.flush_buffers()

    def _learn(self, threads: int, start: int, fed: int) -> None:
        """Be less strict where one thread passes the packet that several complained of."""
        if threads > 1:
            self._doubted = self.damage
        elif start <= self._doubted <= fed and self.damage < 0:
            self._strict, self._doubted = False, -1

    def is_damaged(self, number: int) -> bool:
        """Whether a packet whose frame came out, or one that it may need, is known as damaged."""
        return 0 <= self.damage <= number or min(self._owed, default=number) < number

    def read_without_jumps(self) -> None:
        """From now on read this file from its start: it reads otherwise after a jump."""
        self._jumps = False
        self.close()

    def _whole(self, frames: list[Any]) -> Iterator[tuple[int, Any]]:
        """Yield the frames that are whole with the numbers of their packets."""
        for frame in frames:
            number = marked(frame)
            self._owed.discard(number)
            if frame.is_corrupt:
                self._note_damage(number)
            else:
                yield number, frame

    def _note_damage(self, number: int) -> None:
        if number >= 0:
            self.damage = number if self.damage < 0 else min(self.damage, number)

    def _feed(self, number: int, packet: Any, wanted: bool) -> tuple[list[Any], bool]:
        """Return the frames that a packet brought out, and whether it is damaged."""
        if number in self._damaged or (
            self._no_zeros and has_zeros(bytes(packet), self._index.padded)
        ):
            return [], True
        if self._can_skip:
            self._codec.skip_frame = "DEFAULT" if wanted else "NONREF"
        mark(packet, number)
        if number in self._shown:
            self._owed.add(number)
        try:
            return self._codec.decode(packet), False
        except av.FFmpegError:
            return [], True

    def _open(self, threads: int) -> None:
        """Open the file at its start, unless it is open with so many threads."""
        if self._container is not None and threads == self._threads:
            return
        self.close()
        self._threads = threads
        self._container = open_container(self._path)
        self._stream = video_stream(self._container, self._path)
        codec: Any = self._stream.codec_context
        codec.copy_opaque = True
        codec.thread_count = threads
        codec.thread_type = ThreadType.AUTO if threads > 1 else ThreadType.SLICE
        if threads > 1 and self._strict:
            # A picture may be handed on while another thread still decodes it: whether it is
            # corrupt is not known then. An error of its packet is told in any case.
            codec.options = {**codec.options, "err_detect": "explode"}
        extradata = bytes(codec.extradata or b"")
        self._codec = codec
        self._can_skip = can_skip(codec.name, extradata)
        self._no_zeros = not may_hold_zeros(codec.name, extradata)
        self._damaged = set(self._index.damaged.tolist())
        self._demuxer, self._next = packets_of(self._container, self._stream), 0
        self._held: Any = None

    def _packets(self, start: int, last: int) -> Iterator[tuple[int, Any]]:
        """Yield the packets from `start` to `last` with their numbers."""
        expected = start
        if not self._next <= start <= self._next + _NEAR:
            self._jump(start)
        while (found := self._pull()) is not None:
            number, packet = found
            if number > last:
                self._held, self._next = found, number
                return
            if number >= start:
                if number != expected and self._jumps:
                    raise PositionLost
                expected = number + 1
                yield number, packet
            if number == last:
                return

    def _pull(self) -> tuple[int, Any] | None:
        """Return the next packet with its number, None at the end."""
        if self._held is not None:
            found: tuple[int, Any] = self._held
            self._held, self._next = None, found[0] + 1
            return found
        for packet in self._demuxer:
            number = self._number(packet)
            if number >= 0:
                self._next = number + 1
                return number, packet
        return None

    def _number(self, packet: Any) -> int:
        """Return a packet's number in the list, -1 for one that is not there."""
        names = self._index.names
        if names is None or self._order is None or not self._jumps:
            return self._next
        value = getattr(packet, self._index.named_by)
        if self._next < len(names) and names[self._next] == value:
            return self._next
        if value is None:
            return -1
        place = int(np.searchsorted(names, value, sorter=self._order))
        number = int(self._order[place]) if place < len(names) else -1
        return number if number >= 0 and names[number] == value else -1

    def _jump(self, start: int) -> None:
        """Go to packet `start` or a little before it."""
        self._held = None
        for target in self._targets(start):
            try:
                self._container.seek(target, stream=self._stream, backward=True)
            except av.FFmpegError:
                break
            self._demuxer = packets_of(self._container, self._stream)
            self._next = len(self._index.pts)
            found = self._pull()
            if found is not None and found[0] <= start:
                self._held, self._next = found, found[0]
                return
        self.close()  # no jump is possible: read from the start, without decoding
        self._open(self._threads)

    def _targets(self, start: int) -> Iterator[int]:
        """Yield times to jump to, the most likely first."""
        if self._index.names is None or not self._jumps:
            return
        times = [int(each[start]) for each in (self._index.pts, self._index.dts)]
        known = [each for each in times if each != NONE]
        yield from dict.fromkeys(known)
        if known:
            tick_s = float(self._stream.time_base or 1)
            yield from (min(known) - int(back_s / tick_s) for back_s in _BACK_S)


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


class SequentialReading:
    """The wanted frames of one group, given while they are decoded.

    What a frame needs may turn out to be damaged after the frame itself has been decoded: a
    picture that is shown before another one may need it. So each is held back until all that was
    decoded before it has come out, which is as far as pictures are reordered, and no more.
    """

    def __init__(self, worker: FrameDecoder, group: Group, ranks: Numbers) -> None:
        """Decode with `worker`; `ranks` are the frame numbers of all packets, -1 for none."""
        self._worker, self._group, self._ranks = worker, group, ranks
        shown = group.wanted[np.argsort(ranks[group.wanted], kind="stable")]
        self._left = deque[int](shown.tolist())
        decoded = ranks[group.start : int(group.wanted[-1]) + 1]
        self._awaited = np.maximum.accumulate(decoded)  # until this frame is out, a packet waits

    def frames(self, threads: int, cancel: CancelToken) -> Iterator[Any]:
        """Yield for each wanted frame, in the order in which they are shown, it or None if lost.

        The same are lost as by `FrameDecoder.run`. At a fault the group is decoded once more from
        its start, with one thread: it tells at which packet it failed. Where frames come out in
        another order than their times say, this ends before the first that is out of its turn:
        the rest is to be read in another way.

        Raises:
            Cancelled: `cancel`, checked at every packet, is cancelled.
        """
        yield from self._attempt(threads, cancel, last=False)
        if self._left and self._worker.damage >= 0:
            yield from self._attempt(1, cancel, last=True)

    def _attempt(self, threads: int, cancel: CancelToken, *, last: bool) -> Iterator[Any]:
        """Yield frames as `_once` does; without jumps in a file that reads otherwise after one."""
        try:
            yield from self._once(threads, cancel, last=last)
        except PositionLost:
            self._worker.read_without_jumps()
            yield from self._once(threads, cancel, last=last)

    def _once(self, threads: int, cancel: CancelToken, *, last: bool) -> Iterator[Any]:
        """Yield what is left up to the first fault; where it is the `last` attempt, all of it."""
        held: dict[int, Any] = {}
        wanted = set(self._left)
        with closing(self._worker.outputs(self._group, threads, cancel)) as outputs:
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


#: Largest file given to decord.
_MAX_BYTES = 500_000_000


class DecordDecoder:
    """Reads through decord what `video_decoding.Worker` reads through PyAV."""

    def __init__(self, reader: Any) -> None:
        """Take an open `decord.VideoReader`."""
        self._reader = reader
        self._reformatter = VideoReformatter()

    def close(self) -> None:
        """Keep the file: it is in memory, and goes with this object."""

    def run(self, group: Group, threads: int, take: Take, cancel: CancelToken) -> Numbers:
        """Decode a group, hand each frame to `take` and return the lost ones."""
        import decord

        lost = []
        for number in group.wanted.tolist():
            cancel.check()
            try:
                pixels = self._reader[number].asnumpy()
            except (decord.DECORDError, RuntimeError):
                lost.append(number)
                continue
            take(number, av.VideoFrame.from_ndarray(pixels, "rgb24"), self._reformatter)
        return np.array(lost, np.int64)


def open_with_decord(path: Path) -> tuple[VideoIndex, DecordDecoder] | None:
    """Open a file with decord; None where it is not installed or cannot read the file either.

    decord keeps the whole file in memory and knows no list of formats, so only files that begin
    like a video, and are not larger than `_MAX_BYTES`, are given to it.
    """
    if not looks_like_video(path) or path.stat().st_size > _MAX_BYTES:
        return None
    try:
        import decord
    except ImportError:
        return None
    try:
        with path.open("rb") as file:  # by its name, decord would write that into the log
            reader = decord.VideoReader(file, num_threads=1)
        num_frames, rate = len(reader), float(reader.get_avg_fps()) or 25.0
        spans = np.asarray(reader.get_frame_timestamp(np.arange(num_frames)), np.float64)
    except (decord.DECORDError, RuntimeError):
        return None
    if not num_frames:
        return None
    unknown = np.full(num_frames, NONE)
    index = VideoIndex(
        pts=unknown,
        dts=unknown,
        names=None,
        named_by="",
        damaged=np.zeros(0, np.int64),
        packets=np.arange(num_frames),
        starts=np.zeros(num_frames, np.int64),
        times_s=spans[:, 0] - spans[0, 0],
        end_s=float(max(spans[-1].max(), spans[-1, 0] + 1 / rate) - spans[0, 0]),
        codec="unknown",
        pixel_aspect=1.0,
        padded=False,
    )
    return index, DecordDecoder(reader)
