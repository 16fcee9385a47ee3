"""Decoding of selected packets of a video."""

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
    decode_packet,
    looks_like_video,
    open_container,
    packets_of,
    tag,
    tag_of,
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

#: Maximum gap in packets that is read; a longer one is skipped by a seek.
_MAX_GAP = 30

#: Seconds before the wanted packet for further seeks, if a seek ended behind it.
_BACK_S = (1.0, 10.0, 60.0)

#: Consumer of wanted frames: (packet number, frame, scaler of the decoder).
Take = Callable[[int, Any, VideoReformatter], None]


@dataclass(frozen=True, eq=False)
class Group:
    """Wanted packets, ascending numbers, that are decoded from the keyframe `start` on."""

    start: int
    wanted: Numbers


def groups_of(index: VideoIndex, frames: Numbers) -> list[Group]:
    """Split distinct frame numbers into groups, in the order of the file."""
    packets, starts = index.packets[frames], index.starts[frames]
    return [Group(int(start), np.sort(packets[starts == start])) for start in np.unique(starts)]


class PositionLost(Exception):
    """A seek led to packets that the index does not list completely."""


class FrameDecoder:
    """Decoder of one file, opened on first use; used by one thread at a time.

    `damage` is the first damaged packet of the last call of `outputs`, or -1.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self._path, self._index = path, index
        self._order = None if index.names is None else np.argsort(index.names)
        self._container: Any = None
        self.reformatter = VideoReformatter()
        self.damage = -1
        self._threads = 1
        self._seeks = True
        self._strict, self._doubted = True, -1
        self._shown = frozenset(index.packets.tolist()) if index.codec in ONE_FOR_ONE else ()
        self._pending = set[int]()  # packets whose frame has not been output yet

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def run(self, group: Group, threads: int, take: Take, cancel: CancelToken) -> Numbers:
        """Decode a group and pass each wanted frame to `take`.

        Returns:
            Numbers of the lost packets: damaged, or possibly dependent on a damaged packet. `take`
            may have received their frames.

        Raises:
            Cancelled: `cancel` is cancelled.
        """
        lost = self._attempt(group, threads, take, cancel)
        if len(lost) or (self.damage >= 0 and threads > 1):
            # One thread locates the damage exactly; and the decoder knows by now if the reordering
            # is deeper than the file declares.
            lost = self._attempt(group, 1, take, cancel)
        return lost

    def _attempt(self, group: Group, threads: int, take: Take, cancel: CancelToken) -> Numbers:
        try:
            return self._decode(group, threads, take, cancel)
        except PositionLost:
            self.disable_seeks()
            return self._decode(group, threads, take, cancel)

    def _decode(self, group: Group, threads: int, take: Take, cancel: CancelToken) -> Numbers:
        wanted, decoded = set(group.wanted.tolist()), set[int]()
        for number, frame in self.outputs(group, threads, cancel):
            if number in wanted:
                take(number, frame, self.reformatter)
                decoded.add(number)
        lost = [n for n in group.wanted if n not in decoded or 0 <= self.damage <= n]
        return np.array(lost, np.int64)

    def outputs(
        self, group: Group, threads: int, cancel: CancelToken
    ) -> Generator[tuple[int, Any], None, None]:
        """Decode a group and yield (packet number or -1, frame) for its intact frames.

        Decoding ends at the first undecodable packet. Unwanted frames that others need are
        included.

        Raises:
            Cancelled: `cancel`, checked at every packet, is cancelled.
            PositionLost: to be repeated after `disable_seeks`.
        """
        self._open(threads)
        self._pending.clear()
        self.damage = -1
        wanted, number = set(group.wanted.tolist()), -1
        try:
            for number, packet in self._packets(group.start, int(group.wanted[-1])):
                cancel.check()
                frames, failed = self._feed(number, packet, number in wanted)
                yield from self._intact(frames)
                if failed:
                    self._note_damage(number)
                    break
            yield from self._intact(decode_packet(self._codec, None))
            if self._pending:
                self._note_damage(min(self._pending))
        finally:  # also if the iterator is closed early
            self._adapt_strictness(threads, group.start, number)
            self._codec.flush_buffers()

    def _adapt_strictness(self, threads: int, start: int, fed: int) -> None:
        """Be less strict if one thread decodes the packet at which several threads failed."""
        if threads > 1:
            self._doubted = self.damage
        elif start <= self._doubted <= fed and self.damage < 0:
            self._strict, self._doubted = False, -1

    def is_damaged(self, number: int) -> bool:
        """Return whether a packet of an output frame, or one that it may need, is damaged."""
        return 0 <= self.damage <= number or min(self._pending, default=number) < number

    def disable_seeks(self) -> None:
        """Always read this file from its start, because seeks in it are not exact."""
        self._seeks = False
        self.close()

    def _intact(self, frames: list[Any]) -> Iterator[tuple[int, Any]]:
        for frame in frames:
            number = tag_of(frame)
            self._pending.discard(number)
            if frame.is_corrupt:
                self._note_damage(number)
            else:
                yield number, frame

    def _note_damage(self, number: int) -> None:
        if number >= 0:
            self.damage = number if self.damage < 0 else min(self.damage, number)

    def _feed(self, number: int, packet: Any, wanted: bool) -> tuple[list[Any], bool]:
        """Return the frames that the decoder outputs for a packet, and whether it is damaged."""
        if number in self._damaged or (
            self._no_zeros and has_zeros(bytes(packet), self._index.padded)
        ):
            return [], True
        if self._can_skip:
            self._codec.skip_frame = "DEFAULT" if wanted else "NONREF"
        tag(packet, number)
        if number in self._shown:
            self._pending.add(number)
        try:
            return self._codec.decode(packet), False
        except av.FFmpegError:
            return [], True

    def _open(self, threads: int) -> None:
        """Open the file at its start, unless it is open with this number of threads."""
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
            # With frame threads, `is_corrupt` may be set after the output of a frame; an error of
            # its packet is reported in any case.
            codec.options = {**codec.options, "err_detect": "explode"}
        extradata = bytes(codec.extradata or b"")
        self._codec = codec
        self._can_skip = can_skip(codec.name, extradata)
        self._no_zeros = not may_hold_zeros(codec.name, extradata)
        self._damaged = set(self._index.damaged.tolist())
        self._demuxer, self._next = packets_of(self._container, self._stream), 0
        self._held: Any = None

    def _packets(self, start: int, last: int) -> Iterator[tuple[int, Any]]:
        expected = start
        if not self._next <= start <= self._next + _MAX_GAP:
            self._seek(start)
        while (found := self._pull()) is not None:
            number, packet = found
            if number > last:
                self._held, self._next = found, number
                return
            if number >= start:
                if number != expected and self._seeks:
                    raise PositionLost
                expected = number + 1
                yield number, packet
            if number == last:
                return

    def _pull(self) -> tuple[int, Any] | None:
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
        names = self._index.names
        if names is None or self._order is None or not self._seeks:
            return self._next
        value = getattr(packet, self._index.named_by)
        if self._next < len(names) and names[self._next] == value:
            return self._next
        if value is None:
            return -1
        place = int(np.searchsorted(names, value, sorter=self._order))
        number = int(self._order[place]) if place < len(names) else -1
        return number if number >= 0 and names[number] == value else -1

    def _seek(self, start: int) -> None:
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
        self.close()  # no seek is possible: read from the start, without decoding
        self._open(self._threads)

    def _targets(self, start: int) -> Iterator[int]:
        if self._index.names is None or not self._seeks:
            return
        times = [int(each[start]) for each in (self._index.pts, self._index.dts)]
        known = [each for each in times if each != NONE]
        yield from dict.fromkeys(known)
        if known:
            tick_s = float(self._stream.time_base or 1)
            yield from (min(known) - int(back_s / tick_s) for back_s in _BACK_S)


#: Maximum number of decoded frames that wait for their turn; no codec reorders more.
MAX_HELD = 64


def pieces_of(starts: Numbers, at_once: int) -> Iterator[slice]:
    """Split frames at borders of groups, by the packets (N,) at which their decoding starts.

    Yields:
        Several groups of at most `at_once` frames in all, or one larger group.
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
    """Frames of one group, yielded during its decoding.

    A frame may depend on frames that are shown earlier and output later. Each frame is held until
    all frames decoded before it are output, so that their damage is known.
    """

    def __init__(self, decoder: FrameDecoder, group: Group, ranks: Numbers) -> None:
        """Read with `decoder`; `ranks` are the frame numbers of all packets, -1 for none."""
        self._decoder, self._group, self._ranks = decoder, group, ranks
        shown = group.wanted[np.argsort(ranks[group.wanted], kind="stable")]
        self._left = deque[int](shown.tolist())
        decoded = ranks[group.start : int(group.wanted[-1]) + 1]
        self._awaited = np.maximum.accumulate(decoded)  # a packet waits for the output of this rank

    def frames(self, threads: int, cancel: CancelToken) -> Iterator[Any]:
        """Yield each wanted frame in presentation order, or None for a lost one.

        The same frames are lost as in `FrameDecoder.run`. After damage the group is decoded again
        with one thread, which locates it. If the order of output contradicts the times, the
        iterator ends before the first such frame.

        Raises:
            Cancelled: `cancel`, checked at every packet, is cancelled.
        """
        yield from self._attempt(threads, cancel, last=False)
        if self._left and self._decoder.damage >= 0:
            yield from self._attempt(1, cancel, last=True)

    def _attempt(self, threads: int, cancel: CancelToken, *, last: bool) -> Iterator[Any]:
        try:
            yield from self._decode(threads, cancel, last=last)
        except PositionLost:
            self._decoder.disable_seeks()
            yield from self._decode(threads, cancel, last=last)

    def _decode(self, threads: int, cancel: CancelToken, *, last: bool) -> Iterator[Any]:
        """Yield the remaining frames up to the first damage; all of them in the `last` attempt."""
        held: dict[int, Any] = {}
        wanted = set(self._left)
        with closing(self._decoder.outputs(self._group, threads, cancel)) as outputs:
            for number, frame in outputs:
                if not last and self._decoder.damage >= 0:
                    return
                if number in wanted:
                    held[number] = frame
                if not last and len(held) > MAX_HELD:
                    return
                while held and self._is_due(first := next(iter(held)), number):
                    if not last and not self._is_next(first):
                        return
                    yield from self._release(first, held.pop(first))
        if not last and (self._decoder.damage >= 0 or [*held] != [*self._left]):
            return
        for first, frame in held.items():
            yield from self._release(first, frame)
        for _ in range(len(self._left)):
            self._left.popleft()
            yield None

    def _is_due(self, first: int, out: int) -> bool:
        """Return whether all packets decoded before `first` are output once `out` is output."""
        return out >= 0 and bool(self._ranks[out] >= self._awaited[first - self._group.start])

    def _is_next(self, number: int) -> bool:
        return number == self._left[0] and not self._decoder.is_damaged(number)

    def _release(self, number: int, frame: Any) -> Iterator[Any]:
        """Yield None for each missing frame before this one, then the frame."""
        if not self._left or self._ranks[number] < self._ranks[self._left[0]]:
            return  # output too late
        while self._left.popleft() != number:
            yield None
        yield None if self._decoder.is_damaged(number) else frame


#: Maximum size of a file for decord, which keeps it in memory.
_MAX_BYTES = 500_000_000


class DecordDecoder:
    """Counterpart of `FrameDecoder` for an open `decord.VideoReader`."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._reformatter = VideoReformatter()

    def close(self) -> None:
        """Do nothing: the file is in memory as long as this object."""

    def run(self, group: Group, threads: int, take: Take, cancel: CancelToken) -> Numbers:
        """Decode a group, pass each frame to `take` and return the lost packets."""
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
    """Open a file with decord; None if it is not installed or cannot read the file.

    decord has no list of allowed formats: only files with the signature of a video are opened.
    """
    if not looks_like_video(path) or path.stat().st_size > _MAX_BYTES:
        return None
    try:
        import decord
    except ImportError:
        return None
    try:
        with path.open("rb") as file:  # decord would log a path
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
