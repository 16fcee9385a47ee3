"""The packets of a video, listed once without decoding: which frame is where, and when.

Times are those of a player's clock, which is the file's: Chromium's counts MP4, MOV, Matroska and
WebM from the file's own second 0, wherever the first picture or sound is. So a picture that comes
1.5 s after its sound appears at 1.5 s, and one that comes at 1.5 s in a file without sound does as
well. The clock of a transport or program stream starts anywhere, and players count from its first
picture or sound. Of all else, and where a file lacks times, the first frame appears at 0.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipelines.core.cancel import CancelToken
from pipelines.media.video.container import decoded, open_container, packets_of, video_stream
from pipelines.media.video.frames import Numbers, Times, usual_step_s

#: Codecs of which a non-reference picture can be left out without a trace in any other.
_SKIPPABLE = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4"})

#: Codecs whose standards forbid a long run of zeros in a packet. Others pad with zeros, and for
#: the coders of VP8, VP9 and AV1 zeros are what a picture costs that does not change.
_NO_ZEROS = frozenset({"h264", "hevc", "mpeg4"})

#: Codecs of which each shown packet gives a frame; where none comes out, something is wrong.
ONE_FOR_ONE = frozenset({"vp9", "libdav1d"})

_ZEROS = bytes(32)


def can_skip(codec: str, extradata: bytes) -> bool:
    """Whether leaving out every unwanted non-reference picture leaves the others exact.

    In HEVC "non-reference" holds within one temporal sub-layer only, so there must be just one.
    """
    return codec in _SKIPPABLE or (codec == "hevc" and _num_sub_layers(extradata) == 1)


def may_hold_zeros(codec: str, extradata: bytes) -> bool:
    """Whether a long run of zeros in a packet may be padding; otherwise it is damage."""
    if codec in {"h264", "hevc"}:  # in a byte stream zeros may fill the room between two units
        return extradata[:1] != b"\x01"
    return codec not in _NO_ZEROS


def has_zeros(packet: bytes, padded: bool = False) -> bool:
    """Whether a packet holds 32 zero bytes in a row, ends in 8, or holds nothing but zeros.

    In a `padded` video, of which most packets end in zeros, that end does not count.
    """
    data = packet.rstrip(b"\0") if padded else packet
    return _ZEROS in data or ends_in_zeros(data) or not data.strip(b"\0")


def ends_in_zeros(packet: bytes) -> bool:
    """Whether a packet's last 8 bytes are zeros."""
    return packet.endswith(_ZEROS[:8])


def is_entry(codec: str, extradata: bytes, packet: bytes) -> bool:
    """Whether decoding can start at this packet, which the container calls a keyframe.

    H.264 with periodic intra refresh calls "key" a picture after which it takes a while until
    pictures are whole; decoding from there is not what decoding from the start gives.
    """
    if codec != "h264":
        return True
    recovery = 0
    for unit in _units(packet, _length_size(extradata)):
        kind = unit[0] & 31 if unit else 0
        if kind in {1, 5}:
            return kind == 5 or recovery == 0
        if kind == 6:
            recovery = _recovery_frames(unit[1:], recovery)
    return True


def is_shown(codec: str, packet: bytes) -> bool:
    """Whether a packet gives a picture to show; VP8 has reference pictures that are never shown."""
    return codec != "vp8" or not packet or bool(packet[0] & 0x10)


def _length_size(extradata: bytes) -> int:
    """Return how many bytes give a unit's length; 0 for a byte stream with start codes."""
    return (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0


def _units(packet: bytes, length_size: int) -> Iterator[bytes]:
    """Yield the units of a packet, each cut to what is looked at."""
    place = 0
    if not length_size:
        while (place := packet.find(b"\0\0\x01", place)) >= 0:
            place += 3
            yield packet[place : place + 1024]
        return
    while place + length_size < len(packet):
        length = int.from_bytes(packet[place : place + length_size], "big")
        place += length_size
        yield packet[place : place + min(length, 1024)]
        place += length


def _recovery_frames(sei: bytes, otherwise: int) -> int:
    """Return the recovery point's number of frames of an SEI unit, `otherwise` without one."""
    place = 0
    while place + 2 < len(sei):
        kind = size = 0
        while place < len(sei) and sei[place] == 255:
            kind, place = kind + 255, place + 1
        kind, place = kind + sei[place] if place < len(sei) else kind, place + 1
        while place < len(sei) and sei[place] == 255:
            size, place = size + 255, place + 1
        size, place = size + sei[place] if place < len(sei) else size, place + 1
        if kind == 6:
            return _exp_golomb(sei[place : place + 8])
        place += size
    return otherwise


def _exp_golomb(data: bytes) -> int:
    """Return the unsigned number at the start of `data` in Exp-Golomb code."""
    bits = "".join(f"{byte:08b}" for byte in data)
    zeros = len(bits) - len(bits.lstrip("0"))
    number = bits[zeros : 2 * zeros + 1]
    return int(number, 2) - 1 if number else 0


def _num_sub_layers(extradata: bytes) -> int:
    """Return how many temporal sub-layers HEVC extradata announces, 0 where it does not say."""
    if len(extradata) > 21 and extradata[0] == 1:  # hvcC
        return extradata[21] >> 3 & 7
    for unit in _units(extradata, 0):
        if len(unit) > 4 and unit[0] >> 1 & 63 == 32:  # video parameter set
            return (unit[3] >> 1 & 7) + 1
    return 0


#: Stands for a time or a place that a packet does not tell.
NONE = np.iinfo(np.int64).min

#: What is noted of a packet.
_KEY, _HIDDEN, _CORRUPT, _PADDED = 1, 2, 4, 8

#: Bytes between two packets that are more than the container's own book-keeping.
_GAP_BYTES = 128

#: Pictures between two references; the time of the first one is guessed from the second.
_MAX_REORDER = 4

#: Stands for the bytes between two packets where other streams are not accounted for.
_UNKNOWN = 1 << 40

#: Formats whose clock starts at 0, and those whose clock starts anywhere.
_FROM_ZERO, _FROM_ANYWHERE = frozenset({"mov", "matroska"}), frozenset({"mpegts", "mpeg"})

#: With more gaps in time than this share of all packets, gaps are how the video was made.
_MAX_GAPS = 0.02


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """What is known of a video before any frame is decoded; some 60 bytes a frame.

    Attributes:
        pts: presentation time of each packet in ticks, in decoding order, or `NONE`.
        dts: decoding time of the same, or `NONE`.
        names: what tells one packet from all others, or None where nothing does.
        named_by: the packet's attribute that `names` holds, "pos" or "pts", or "".
        damaged: numbers of packets at which something is missing or marked as damaged, ascending.
        packets: number of the packet of each frame, in presentation order.
        starts: number of the packet at which decoding starts for each frame.
        times_s: when each frame appears on a player's clock, 0.0 or more.
        end_s: when the last frame ends.
        codec: the decoder's name.
        pixel_aspect: width / height of a stored pixel.
        padded: whether most packets end in zeros, which are then no damage.
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

    @property
    def duration_s(self) -> float:
        """From the first frame to the end of the last; 0.0 where there is none."""
        return self.end_s - float(self.times_s[0]) if len(self.times_s) else 0.0

    def ranks(self) -> Numbers:
        """Return for each packet the number of its frame, -1 for one that gives none."""
        return _ranks(len(self.pts), self.packets)


@dataclass(eq=False)
class Listing:
    """The list of packets in decoding order, as it is read from the file."""

    pts: Numbers
    dts: Numbers
    pos: Numbers
    flags: Numbers
    gaps: Numbers
    last_ticks: int

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream, cancel: CancelToken) -> "Listing":
        """List every packet of `stream`, without decoding."""
        rows = array("q")
        codec, extradata = stream.codec_context.name, bytes(stream.codec_context.extradata or b"")
        kind = container.format.name.split(",")
        account = "matroska" in kind or "flv" in kind
        for other in container.streams if account else ():  # sound between two pictures counts
            other.discard = Discard.default
        end, last_ticks = -1, 0
        for packet in packets_of(container, None if account else stream):
            pos = NONE if packet.pos is None or packet.pos < 0 else packet.pos
            gap, end = (pos - end if end >= 0 else 0), max(end, pos + packet.size)
            if packet.stream_index == stream.index:
                pts = NONE if packet.pts is None else packet.pts
                dts = NONE if packet.dts is None else packet.dts
                rows.extend(
                    (
                        pts,
                        dts,
                        pos,
                        _flags(packet, codec, extradata),
                        gap if account else _UNKNOWN * ("mpegts" in kind),
                    )
                )
                last_ticks = packet.duration or last_ticks
            if len(rows) % 2500 == 0:
                cancel.check()
        columns = np.frombuffer(rows, np.int64).reshape(-1, 5).T.copy()
        pts_all, dts_all, places, flags, gaps = columns
        listing = cls(pts_all, dts_all, places, flags, gaps, last_ticks)
        listing._mark_gaps()
        if "avi" in kind:
            listing._take_times({each.pos + 8: each.timestamp for each in stream.index_entries})
            if stream.codec_context.has_b_frames:
                listing._forget_guesses()
        return listing

    def _take_times(self, table: dict[int, int]) -> None:
        """Take times from the table of an AVI file: chunks, which have none, are else counted.

        Where the count differs chunks are missing, and all after them would be too early.
        """
        known = np.array([table.get(pos, NONE) for pos in self.pos.tolist()], np.int64)
        if (known == NONE).any() or (self.dts == NONE).any() or (self.pts == NONE).any():
            return
        late = known - self.dts
        self.pts += late
        self.dts += late
        self._mark_break(np.flatnonzero(np.diff(late, prepend=late[:1])), _MAX_REORDER)

    def _forget_guesses(self) -> None:
        """Drop presentation times that are decoding times moved on, which say nothing of order.

        An AVI file keeps none; for H.264 with reordered pictures libav puts these in their place.
        """
        if len(np.unique(self.pts - self.dts)) == 1:
            self.pts[:] = NONE

    def slots(self, packets: Numbers) -> Numbers | None:
        """Return when frames are shown, from the packets of which they came: ticks, ascending.

        Where there are no presentation times but decoding times, as in an AVI file, each frame
        takes the next of these. Near a packet that gave no frame, of which nobody knows when it
        would be shown, that is a guess, and noted as damage.
        """
        if not len(packets) or (self.dts == NONE).any() or (self.pts != NONE).any():
            return None
        shown = np.flatnonzero(~self.hidden)
        self._mark_break(shown[~np.isin(shown, packets)], _MAX_REORDER)
        return np.sort(self.dts[packets])

    def _mark_break(self, after: Numbers, num_before: int = 1) -> None:
        """Note that packets are missing before each of `after`.

        The last ones there are may be cut, or their times guesses; the next lacks what it needs.
        """
        for back in range(1, num_before + 1):
            self.flags[np.maximum(after - back, 0)] |= _CORRUPT
        self.flags[after[(self.flags[after] & _KEY) == 0]] |= _CORRUPT

    def _mark_gaps(self) -> None:
        """Find where packets are missing: a gap in time and in the file, in a group of pictures."""
        step = float(np.median(np.diff(np.sort(self.pts)))) if len(self.pts) > 1 else 0.0
        gaps = []
        for number in np.flatnonzero(self.gaps > _GAP_BYTES):
            near = self.pts[max(0, number - 16) : number]
            if len(near) and self.pts[number : number + 16].min() - near.max() > 1.5 * step:
                gaps.append(number)
        if len(gaps) <= max(3, _MAX_GAPS * len(self.pts)):
            self._mark_break(np.array(gaps, np.int64))

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """Packets that give no frame: before the start of an edit list, or never shown."""
        return (self.flags & _HIDDEN) != 0

    def name(self) -> tuple[str, Numbers | None]:
        """Return what tells packets apart: its attribute, and that of each packet.

        Where places in the file are unknown, times may be guessed ones, others after a jump.
        """
        if (self.pos == NONE).any():
            return "", None
        for attribute, values in (("pos", self.pos), ("pts", self.pts)):
            if not (values == NONE).any() and len(np.unique(values)) == len(values):
                return attribute, values
        return "", None


def build_index(path: Path, cancel: CancelToken) -> VideoIndex:
    """List the packets of a video; only where they lack times are they decoded as well.

    Raises:
        Cancelled: `cancel` is cancelled.
        MediaError: the file cannot be read as a video.
        av.FFmpegError: the file cannot be opened.
    """
    with open_container(path) as container:
        stream = video_stream(container, path)
        listing = Listing.of(container, stream, cancel)
        tick_s = float(stream.time_base or Fraction(1, 90000))
        codec, aspect = stream.codec_context.name, float(stream.sample_aspect_ratio or 1)
        rate = float(stream.guessed_rate or stream.average_rate or 25)
        zero_s = _zero_s(container)
    shown = ~listing.hidden
    pts = listing.pts[shown]
    known = not (pts == NONE).any() and len(np.unique(pts)) == len(pts)
    keyed = bool((listing.flags & _KEY).any())
    if known and keyed:
        packets = _in_order(listing)
        unseen = _leading(path, listing, packets, cancel)
        packets = packets[~np.isin(packets, unseen)]
        ticks = listing.pts[packets]
        times = (ticks - ticks[0]) * tick_s if len(ticks) else np.zeros(0)
        if len(ticks) and zero_s is not None:
            times += max(0.0, float(ticks[0]) * tick_s - zero_s)
    else:
        packets, times = _by_decoding(path, rate, tick_s, cancel)
        if (slots := listing.slots(packets)) is not None:
            times = (slots - slots[0]) * tick_s
    named_by, names = listing.name()
    last_s = listing.last_ticks * tick_s or usual_step_s(times) or 1 / rate
    return VideoIndex(
        pts=listing.pts,
        dts=listing.dts,
        names=names,
        named_by=named_by,
        damaged=np.flatnonzero(listing.flags & _CORRUPT),
        packets=packets,
        starts=_starts(listing, packets),
        times_s=times,
        end_s=float(times[-1]) + last_s if len(times) else 0.0,
        codec=codec,
        pixel_aspect=aspect,
        padded=bool(2 * np.count_nonzero(listing.flags & _PADDED) > len(listing.flags)),
    )


def _zero_s(container: InputContainer) -> float | None:
    """Return when on the clock of the file a player's starts; None for with the first frame."""
    kinds = set(container.format.name.split(","))
    if kinds & _FROM_ANYWHERE:
        return None if container.start_time is None else container.start_time / 1e6
    return 0.0 if kinds & _FROM_ZERO else None


def _flags(packet: Any, codec: str, extradata: bytes) -> int:
    key = packet.is_keyframe and is_entry(codec, extradata, bytes(packet))
    hidden = packet.is_discard or (codec == "vp8" and not is_shown(codec, bytes(packet)))
    padded = ends_in_zeros(bytes(memoryview(packet)[-8:]))
    return _KEY * key | _HIDDEN * hidden | _CORRUPT * packet.is_corrupt | _PADDED * padded


def _in_order(listing: Listing) -> Numbers:
    """Return the numbers of the packets that are shown, in presentation order."""
    shown = np.flatnonzero(~listing.hidden)
    found: Numbers = shown[np.argsort(listing.pts[shown], kind="stable")]
    return found


def _starts(listing: Listing, packets: Numbers) -> Numbers:
    """Return for each frame the packet from which on decoding gives exactly this frame.

    That is the last keyframe that is neither decoded nor shown after it: pictures shown before a
    keyframe, but decoded after it, may need what came earlier (an open group of pictures).
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
    """Return the packets at the very start that give no frame: what they need was cut off."""
    first_key = int(np.flatnonzero(listing.flags & _KEY)[0])
    early: Any = (
        packets[: int(np.flatnonzero(packets == first_key)[0])] if first_key in packets else []
    )
    suspects = [int(number) for number in early] + [n for n in range(first_key)]
    if not suspects:
        return np.zeros(0, np.int64)
    given: set[int] = set()
    with open_container(path) as container:
        stream = video_stream(container, path)
        for number, frame in decoded(container, stream, cancel, max(*suspects, first_key) + 1):
            given.add(number)
            del frame
    return np.array([number for number in suspects if number not in given], np.int64)


def _by_decoding(
    path: Path, rate: float, tick_s: float, cancel: CancelToken
) -> tuple[Numbers, Times]:
    """Decode the whole file once, keeping no picture: the only way where packets lack times."""
    packets, ticks = array("q"), array("d")
    with open_container(path) as container:
        for number, frame in decoded(container, video_stream(container, path), cancel):
            packets.append(number)
            ticks.append(nan if frame.pts is None else frame.pts * tick_s)
    times = np.frombuffer(ticks, np.float64)
    place = np.arange(len(times))
    known = ~np.isnan(times)
    if known.any() and (np.diff(times[known]) > 0).all() and known.mean() > 0.05:
        counted = np.interp(place, place[known], times[known])
    else:
        counted = place / rate
    return np.frombuffer(packets, np.int64), counted - (counted[0] if len(counted) else 0)
