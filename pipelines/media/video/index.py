"""Index of a video: packets, positions and times of all frames, without decoding."""

from array import array
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipelines.core.cancel import CancelToken
from pipelines.media.video.avi import delays_of, is_cut, undelayed
from pipelines.media.video.bitstream import length_size, num_sub_layers, recovery_frames, units
from pipelines.media.video.container import decoded, open_container, packets_of, video_stream
from pipelines.media.video.frames import Numbers, Times, usual_step_s
from pipelines.media.video.gaps import Structure
from pipelines.media.video.times import Clock, may_be_wrong, mended
from pipelines.media.video.transport import Counters, joined_clock

#: Codecs with non-reference pictures that can be skipped without effect on others.
_SKIPPABLE = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4"})

#: Codecs whose standards forbid a long run of zeros in a packet. Other codecs pad with zeros, or,
#: as VP8, VP9 and AV1, encode unchanged pictures as zeros.
_NO_ZEROS = frozenset({"h264", "hevc", "mpeg4"})

#: Codecs with exactly one output frame for each shown packet.
ONE_FOR_ONE = frozenset({"vp9", "libdav1d"})

_ZEROS = bytes(32)


def can_skip(codec: str, extradata: bytes) -> bool:
    """Return whether unwanted non-reference pictures can be skipped.

    In HEVC "non-reference" refers to one temporal sub-layer, so there must be exactly one.
    """
    return codec in _SKIPPABLE or (codec == "hevc" and num_sub_layers(extradata) == 1)


def may_hold_zeros(codec: str, extradata: bytes) -> bool:
    """Return whether a long run of zeros in a packet may be padding; otherwise it is damage."""
    if codec in {"h264", "hevc"}:  # in a byte stream zeros may separate units
        return extradata[:1] != b"\x01"
    return codec not in _NO_ZEROS


def has_zeros(packet: bytes, padded: bool = False) -> bool:
    """Return whether a packet has 32 successive zero bytes, ends with 8, or is all zeros.

    In a `padded` video trailing zeros do not count.
    """
    data = packet.rstrip(b"\0") if padded else packet
    return _ZEROS in data or ends_in_zeros(data) or not data.strip(b"\0")


def ends_in_zeros(packet: bytes) -> bool:
    """Return whether the last 8 bytes of a packet are zeros."""
    return packet.endswith(_ZEROS[:8])


def is_entry(codec: str, extradata: bytes, packet: bytes) -> bool:
    """Return whether decoding can start at a packet that the container marks as a keyframe.

    With periodic intra refresh in H.264, pictures are complete only some frames after a keyframe.
    """
    if codec != "h264":
        return True
    recovery = 0
    for unit in units(packet, length_size(extradata)):
        kind = unit[0] & 31 if unit else 0
        if kind in {1, 5}:
            return kind == 5 or recovery == 0
        if kind == 6:
            recovery = recovery_frames(unit[1:], recovery)
    return True


def is_shown(codec: str, packet: bytes) -> bool:
    """Return whether a packet has a shown picture; VP8 has hidden reference pictures."""
    return codec != "vp8" or not packet or bool(packet[0] & 0x10)


#: Unknown time or position of a packet.
NONE = np.iinfo(np.int64).min

#: Flags of a packet.
_KEY, _HIDDEN, _CORRUPT, _PADDED = 1, 2, 4, 8

#: Minimum bytes between two packets that are not headers of the container.
_GAP_BYTES = 128

#: Maximum number of reordered pictures between two references.
_MAX_REORDER = 4

#: Maximum number of packets by which the flag of a lost packet precedes it.
_MAX_BEHIND = 3

#: Unknown number of bytes between two packets.
_UNKNOWN = 1 << 40

#: Maximum fraction of packets with a gap; with more, gaps are no damage.
_MAX_GAPS = 0.02


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """Index of a video, about 60 bytes per frame.

    Attributes:
        pts: presentation times of the packets in ticks, in decoding order, or `NONE`.
        dts: decoding times of the packets in ticks, or `NONE`.
        names: unique value of each packet, or None if no attribute is unique.
        named_by: attribute of the packets in `names`: "pos", "pts" or "".
        damaged: numbers of packets with missing or damaged data, ascending.
        packets: packet number of each frame, in presentation order.
        starts: packet number of each frame at which its decoding starts.
        times_s: presentation time of each frame, 0.0 or more.
        end_s: end of the last frame.
        codec: name of the decoder.
        pixel_aspect: width / height of a stored pixel.
        padded: whether most packets end with zeros, which are no damage then.
        num_mended: number of frames whose time in the file was wrong and was replaced.
    """

    pts: Numbers
    dts: Numbers
    names: Numbers | None
    named_by: str
    damaged: Numbers
    packets: Numbers
    starts: Numbers
    times_s: Times
    end_s: float
    codec: str
    pixel_aspect: float
    padded: bool
    num_mended: int = 0

    @property
    def duration_s(self) -> float:
        """Time from the first frame to the end of the last; 0.0 without frames."""
        return self.end_s - float(self.times_s[0]) if len(self.times_s) else 0.0

    def ranks(self) -> Numbers:
        """Return the frame number of each packet, -1 for packets without a frame."""
        return _ranks(len(self.pts), self.packets)


@dataclass(eq=False)
class Listing:
    """List of the packets in decoding order; `is_cut` if the end of an AVI file is missing.

    `is_avi` is set if the file has decoding times only. `file_pts` and `file_dts` are the times in
    the file if those of the listing differ, because clocks of a transport stream were joined.
    """

    last_ticks: int
    pts: Numbers
    dts: Numbers
    pos: Numbers
    flags: Numbers
    gaps: Numbers
    is_cut: bool = False
    is_avi: bool = False
    counters: Counters | None = None
    file_pts: Numbers | None = None
    file_dts: Numbers | None = None

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream, cancel: CancelToken) -> "Listing":
        """List all packets of `stream`."""
        rows = array("q")
        codec, extradata = stream.codec_context.name, bytes(stream.codec_context.extradata or b"")
        kind = container.format.name.split(",")
        account = "matroska" in kind or "flv" in kind
        for other in container.streams if account else ():  # audio packets fill gaps
            other.discard = Discard.default
        end, last_ticks = -1, 0
        for packet in packets_of(container, None if account else stream):
            pos = NONE if packet.pos is None or packet.pos < 0 else packet.pos
            gap, end = (pos - end if end >= 0 else 0), max(end, pos + packet.size)
            if packet.stream_index == stream.index:
                pts = NONE if packet.pts is None else packet.pts
                dts = NONE if packet.dts is None else packet.dts
                gap = gap if account else _UNKNOWN * ("mpegts" in kind)
                rows.extend((pts, dts, pos, _flags(packet, codec, extradata), gap))
                last_ticks = packet.duration or last_ticks
            if len(rows) % 2500 == 0:
                cancel.check()
        listing = cls(last_ticks, *np.frombuffer(rows, np.int64).reshape(-1, 5).T.copy())
        if "mpegts" in kind:
            listing._join(Path(container.name), float(stream.time_base or 0))
        listing._mark_gaps(Path(container.name), kind)
        if "avi" in kind:
            listing.is_avi = True
            listing._use_table({each.pos + 8: each.timestamp for each in stream.index_entries})
            if stream.codec_context.has_b_frames:
                listing._drop_guessed_times()
                listing.is_cut = is_cut(Path(container.name))
        return listing

    def _use_table(self, table: dict[int, int]) -> None:
        """Use the times in the table of an AVI file, by position.

        libav counts the chunks, which have no times; a different count means missing chunks.
        """
        known = np.array([table.get(pos, NONE) for pos in self.pos.tolist()], np.int64)
        if (known == NONE).any() or (self.dts == NONE).any() or (self.pts == NONE).any():
            return
        late = known - self.dts
        self.pts += late
        self.dts += late
        self._mark_break(np.flatnonzero(np.diff(late, prepend=late[:1])), _MAX_REORDER)

    def _drop_guessed_times(self) -> None:
        """Drop presentation times that are shifted decoding times.

        libav sets them for H.264 with reordered pictures in an AVI file, which has no such times.
        """
        if (np.diff(self.pts) > 0).all():
            self.pts[:] = NONE

    def ticks_of(self, packets: Numbers, delay: int = 0) -> Numbers | None:
        """Return the presentation times in ticks, ascending, of the frames of an AVI file.

        `packets` are those of the frames, in presentation order, and the decoder outputs a frame
        `delay` packets late. Only decoding times are known. In a damaged file, frames near packets
        without a frame and near omitted pictures have guessed times, which are marked as damage.
        None if the times of the packets are to be used.
        """
        if not len(packets) or not self.is_avi or (self.dts == NONE).any():
            return None
        shown = np.flatnonzero(~self.hidden)
        lacking = shown[~np.isin(shown, packets)]
        is_whole = not len(lacking) and not (self.flags & _CORRUPT).any()
        if not is_whole and (self.pts != NONE).any():
            return None
        ticks, steps = np.sort(self.dts[packets]), np.diff(self.dts, prepend=self.dts[0])
        delay = max(delay, int(delays_of(packets).max()))
        if is_whole:
            return undelayed(ticks, delay)
        self._mark_break(lacking, _MAX_REORDER)
        if delay:
            self._mark_break(np.flatnonzero(steps > np.median(steps)), _MAX_REORDER)
        return ticks

    def mark_end(self, packets: Numbers) -> None:
        """Mark damage where pictures shown before the last ones may be cut off.

        `packets` are those of the frames, in presentation order.
        """
        if self.is_cut and len(packets):
            last = np.flatnonzero(~self.hidden)[
                -max(_MAX_REORDER, -int(delays_of(packets).min())) :
            ]
            self.flags[last] |= _CORRUPT

    def _mark_break(self, after: Numbers, num_before: int = 1) -> None:
        """Mark damage where packets are missing before each of `after`.

        Earlier packets may be truncated or have guessed times; the next one lacks its references.
        """
        for back in range(1, num_before + 1):
            self.flags[np.maximum(after - back, 0)] |= _CORRUPT
        self.flags[after[(self.flags[after] & _KEY) == 0]] |= _CORRUPT

    def _join(self, path: Path, tick_s: float) -> None:
        """Make one clock of those of joined streams, whose packets are whole where they meet."""
        if (self.pos == NONE).any() or (self.dts == NONE).any() or (self.pts == NONE).any():
            return
        steps = np.diff(self.dts)
        if (
            not len(steps)
            or (self.flags & _CORRUPT == 0).all()
            and (steps.max() <= 1.5 * np.median(steps) and steps.min() >= 0)
        ):
            return
        self.counters = counters = Counters.of(path)
        if counters is None:
            return
        for number in np.flatnonzero(self.flags & _CORRUPT).tolist():
            end = min(number + _MAX_BEHIND, len(self.pos) - 1)
            if counters.is_joined(self.pos[number] + 1, self.pos[end]):
                self.flags[number] &= ~_CORRUPT
        whole = np.array([self._is_whole_before(n) for n in range(len(self.pos))])
        added = joined_clock(self.dts, tick_s, whole)
        self.file_pts, self.file_dts = self.pts, self.dts
        self.pts, self.dts = self.pts + added, self.dts + added

    def _is_whole_before(self, number: int) -> bool:
        start = self.pos[max(number - _MAX_BEHIND, 0)]
        return self.counters is None or self.counters.is_whole(start, self.pos[number])

    def _mark_gaps(self, path: Path, kinds: list[str]) -> None:
        """Mark damage where packets are missing, by the bytes and the time between two packets."""
        step = float(np.median(np.diff(np.sort(self.pts)))) if len(self.pts) > 1 else 0.0
        gaps = []
        for number in np.flatnonzero(self.gaps > _GAP_BYTES):
            near = self.pts[max(0, number - 16) : number]
            if len(near) and self.pts[number : number + 16].min() - near.max() > 1.5 * step:
                gaps.append(number)
        if self.counters is not None:
            gaps = [n for n in gaps if not self._is_whole_before(int(n))]
        elif gaps and "matroska" in kinds:
            structure, ends = Structure.of(path), self.pos - self.gaps
            gaps = [n for n in gaps if structure.is_broken(self.pos[n - 1], ends[n], self.pos[n])]
        elif len(gaps) > max(3, _MAX_GAPS * len(self.pts)):
            return
        self._mark_break(np.array(gaps, np.int64))

    @property
    def has_distinct_times(self) -> bool:
        """Whether all shown packets have times of their own, and there is a keyframe."""
        pts = self.pts[~self.hidden]
        distinct = not (pts == NONE).any() and len(np.unique(pts)) == len(pts)
        return distinct and bool((self.flags & _KEY).any())

    def has_order(self, reorders: bool) -> bool:
        """Return whether the times tell the order of the frames."""
        return self.has_distinct_times and not may_be_wrong(self.pts[~self.hidden], reorders)

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """Mask of packets without a frame: outside of the edit list, or never shown."""
        return (self.flags & _HIDDEN) != 0

    def name(self) -> tuple[str, Numbers | None]:
        """Return an attribute that is unique for each packet, and its values."""
        if (self.pos == NONE).any():  # times may be guessed, and differ after a seek
            return "", None
        pts = self.pts if self.file_pts is None else self.file_pts
        for attribute, values in (("pos", self.pos), ("pts", pts)):
            if not (values == NONE).any() and len(np.unique(values)) == len(values):
                return attribute, values
        return "", None


def build_index(path: Path, cancel: CancelToken) -> VideoIndex:
    """Return the index of a video; see `index_of`. Raises `av.FFmpegError` if it cannot be opened.

    Raises:
        Cancelled: `cancel` is cancelled.
        MediaError: the file has no readable video.
    """
    with open_container(path) as container:
        return index_of(container, path, cancel)


def index_of(container: InputContainer, path: Path, cancel: CancelToken) -> VideoIndex:
    """Return the index of a newly opened video.

    It is decoded only if its packets lack times, or if their times cannot be right.

    Raises:
        Cancelled: `cancel` is cancelled.
        MediaError: the file has no readable video.
    """
    stream = video_stream(container, path)
    codec, aspect = stream.codec_context.name, float(stream.sample_aspect_ratio or 1)
    reorders, clock = bool(stream.codec_context.has_b_frames), Clock.of(container, stream)
    listing = Listing.of(container, stream, cancel)
    if listing.has_order(reorders):
        packets, times = _by_times(path, listing, clock, cancel)
        num_mended = 0
    else:
        packets, times, num_mended = _by_decoding(path, listing, clock, cancel)
    listing.mark_end(packets)
    named_by, names = listing.name()
    last_s = listing.last_ticks * clock.tick_s or usual_step_s(times) or 1 / clock.rate
    return VideoIndex(
        pts=listing.pts if listing.file_pts is None else listing.file_pts,
        dts=listing.dts if listing.file_dts is None else listing.file_dts,
        names=names,
        named_by=named_by,
        damaged=np.flatnonzero(listing.flags & _CORRUPT),
        packets=packets,
        starts=_starts(listing, packets),
        times_s=times,
        end_s=float(times[-1]) + last_s if len(times) else 0.0,
        codec=codec,
        pixel_aspect=aspect,
        num_mended=num_mended,
        padded=bool(2 * np.count_nonzero(listing.flags & _PADDED) > len(listing.flags)),
    )


def _flags(packet: Any, codec: str, extradata: bytes) -> int:
    key = packet.is_keyframe and is_entry(codec, extradata, bytes(packet))
    hidden = packet.is_discard or (codec == "vp8" and not is_shown(codec, bytes(packet)))
    padded = ends_in_zeros(bytes(memoryview(packet)[-8:]))
    return _KEY * key | _HIDDEN * hidden | _CORRUPT * packet.is_corrupt | _PADDED * padded


def _starts(listing: Listing, packets: Numbers) -> Numbers:
    """Return the last keyframe packet before each frame in both decoding and presentation order.

    Pictures shown before a keyframe, but decoded after it, may need earlier packets (open group of
    pictures).
    """
    rank = _ranks(len(listing.pts), packets)
    keys = np.flatnonzero(listing.flags & _KEY)
    if not len(keys):
        return np.zeros(len(packets), np.int64)
    place = np.searchsorted(keys, packets, side="right") - 1
    for _ in range(len(keys)):
        late = (place >= 0) & (rank[keys[np.maximum(place, 0)]] > rank[packets])
        if not late.any():
            break
        place[late] -= 1
    starts: Numbers = np.where(place >= 0, keys[np.maximum(place, 0)], 0)
    return starts


def _ranks(num_packets: int, packets: Numbers) -> Numbers:
    rank = np.full(num_packets, -1, np.int64)
    rank[packets] = np.arange(len(packets))
    return rank


def _leading(path: Path, listing: Listing, packets: Numbers, cancel: CancelToken) -> Numbers:
    """Return the packets at the start without a frame, because their references are cut off."""
    first_key = int(np.flatnonzero(listing.flags & _KEY)[0])
    early: Any = (
        packets[: int(np.flatnonzero(packets == first_key)[0])] if first_key in packets else []
    )
    suspects = [int(number) for number in early] + [*range(first_key)]
    if not suspects:
        return np.zeros(0, np.int64)
    with open_container(path) as container:
        stream = video_stream(container, path)
        outputs = decoded(container, stream, cancel, max(*suspects, first_key) + 1)
        output = {number for number, _ in outputs}
    return np.array([number for number in suspects if number not in output], np.int64)


def _by_times(
    path: Path, listing: Listing, clock: Clock, cancel: CancelToken
) -> tuple[Numbers, Times]:
    numbers = np.flatnonzero(~listing.hidden)
    packets = numbers[np.argsort(listing.pts[numbers], kind="stable")]
    packets = packets[~np.isin(packets, _leading(path, listing, packets, cancel))]
    ticks = listing.ticks_of(packets)
    ticks = listing.pts[packets] if ticks is None else ticks
    return packets, clock.counted(ticks.astype(np.float64) * clock.tick_s)


def _by_decoding(
    path: Path, listing: Listing, clock: Clock, cancel: CancelToken
) -> tuple[Numbers, Times, int]:
    """Return packets and times of all frames in the decoder's order, and how many were mended."""
    found, ticks, delay = array("q"), array("d"), 0
    with open_container(path) as container:
        for number, frame in decoded(container, video_stream(container, path), cancel):
            if not found and frame.dts is not None:  # that of the packet fed before the output
                delay = int(np.count_nonzero(listing.dts < frame.dts))
            found.append(number)
            ticks.append(nan if frame.pts is None else frame.pts * clock.tick_s)
    packets, times = np.frombuffer(found, np.int64), np.frombuffer(ticks, np.float64)
    if (shown_ticks := listing.ticks_of(packets, delay)) is not None:
        return packets, (shown_ticks - shown_ticks[0]) * clock.tick_s, 0
    place, known = np.arange(len(times)), ~np.isnan(times)
    right = mended(times[known]) if known.any() and known.mean() > 0.05 else None
    if right is not None:
        ascending, num_mended = right
        times = np.interp(place, place[known], ascending)
        return packets, clock.counted(times), num_mended
    if listing.has_distinct_times:
        return *_by_times(path, listing, clock, cancel), 0
    return packets, place / clock.rate, 0
