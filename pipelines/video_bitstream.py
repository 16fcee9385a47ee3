"""What a decoder does not tell about its packets: true random access points, sub-layers, zeros."""

from collections.abc import Iterator

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
