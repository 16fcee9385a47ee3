"""Units of H.264 and HEVC packets, read without a decoder."""

from collections.abc import Iterator


def length_size(extradata: bytes) -> int:
    """Return the bytes of the length of each unit in H.264, 0 in a byte stream."""
    return (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0


def units(packet: bytes, length_size: int) -> Iterator[bytes]:
    """Yield the first 1024 bytes of each unit of a packet."""
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


def recovery_frames(sei: bytes, otherwise: int) -> int:
    """Return the frame count of the recovery point in an SEI unit, `otherwise` without one."""
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


def num_sub_layers(extradata: bytes) -> int:
    """Return the number of temporal sub-layers in HEVC extradata, 0 if unknown."""
    if len(extradata) > 21 and extradata[0] == 1:  # hvcC
        return extradata[21] >> 3 & 7
    for unit in units(extradata, 0):
        if len(unit) > 4 and unit[0] >> 1 & 63 == 32:  # video parameter set
            return (unit[3] >> 1 & 7) + 1
    return 0
