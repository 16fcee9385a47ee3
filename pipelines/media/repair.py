"""Second attempts at image files whose pixels are sound although PIL refuses the file."""

import struct
import zlib
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_END_OF_JPEG = b"\xff\xd9"

#: Chunks of a PNG that are kept beside the critical ones: transparency and orientation.
_KEPT_CHUNKS = (b"tRNS", b"eXIf")

#: Data that would change the picture if pixels were missing at the end of a JPEG.
_FILLERS = (b"\x55" * 4096, b"\xb6" * 4096)


def versions(data: bytes) -> list[bytes]:
    """Return versions of a damaged file, which is sound if all of them give the same picture.

    The list is empty for a file that cannot be repaired.
    """
    if data.startswith(_PNG):
        repaired = _without_side_data(data)
        return [] if repaired == data else [repaired]
    if data.startswith(_JPEG) and not data.endswith(_END_OF_JPEG):
        data = data.removesuffix(_END_OF_JPEG[:1])
        return [data + filler + _END_OF_JPEG for filler in (b"", *_FILLERS)]
    return []


def _without_side_data(data: bytes) -> bytes:
    """Return a PNG without the chunks that no pixel depends on."""
    return _PNG + b"".join(part for name, part in _chunks(data) if _is_needed(name, part))


def _is_needed(name: bytes, part: bytes) -> bool:
    if not name[0] & 0x20:  # a critical chunk
        return True
    return name in _KEPT_CHUNKS and zlib.crc32(part[4:-4]) == int.from_bytes(part[-4:], "big")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk of a PNG with its name; the last one may be cut off."""
    at = len(_PNG)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        yield name, data[at : at + 12 + length]
        at += 12 + length
