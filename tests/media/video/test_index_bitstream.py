"""What is read from packets without a decoder, on packets made by hand and by encoders."""

from pathlib import Path

import av
import pytest

from pipelines.media.video.index import can_skip, has_zeros, is_entry, is_shown, may_hold_zeros
from tests.fakes.videos import make

AVCC = b"\x01\x64\x00\x1f\xff"  # lengths of four bytes


def lengths(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def start_codes(*units: bytes) -> bytes:
    return b"".join(b"\0\0\0\x01" + unit for unit in units)


IDR, SLICE, USER_DATA = b"\x65abc", b"\x41abc", b"\x06\x05\xff\x02" + b"x" * 257 + b"\x80"
AT_ONCE, IN_TEN = b"\x06\x06\x01\x80\x80", b"\x06\x06\x02\x16\x40\x80"  # Exp-Golomb 0 and 10


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ([IDR], True),
        ([SLICE], True),
        ([AT_ONCE, SLICE], True),
        ([IN_TEN, SLICE], False),
        ([USER_DATA, IN_TEN, SLICE], False),
        ([IN_TEN, IDR], True),
        ([b""], True),
        ([b"\x06"], True),
        ([b"\x06\xff"], True),
    ],
)
def test_where_decoding_can_start(units: list[bytes], expected: bool) -> None:
    assert is_entry("h264", AVCC, lengths(*units)) is expected
    assert is_entry("h264", b"", start_codes(*units)) is expected
    assert is_entry("vp9", b"", lengths(*units))


def test_damaged_lengths_end() -> None:
    assert is_entry("h264", AVCC, b"\xff" * 40)
    assert is_entry("h264", AVCC, bytes(40))
    assert is_entry("h264", AVCC, b"")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("h264-b-frames.mp4", True),
        ("hevc.mp4", True),
        ("hevc-layers.mkv", False),
        ("vp9.webm", False),
        ("mpeg2.mpg", True),
    ],
)
def test_what_may_be_left_out(kind: str, expected: bool, tmp_path: Path) -> None:
    with av.open(str(make(kind, tmp_path))) as container:
        codec = container.streams.video[0].codec_context
        assert can_skip(codec.name, bytes(codec.extradata or b"")) is expected


def test_sub_layers_in_a_byte_stream() -> None:
    parameters = start_codes(b"\x40\x01\x0c\x01\xff", b"\x42\x01")
    layered = start_codes(b"\x40\x01\x0c\x05\xff", b"\x42\x01")
    assert can_skip("hevc", parameters)
    assert not can_skip("hevc", layered)
    assert not can_skip("hevc", b"")


def test_zeros() -> None:
    assert has_zeros(b"a" + bytes(32) + b"b")
    assert has_zeros(b"abc" + bytes(8))
    assert has_zeros(bytes(3))
    assert not has_zeros(b"a" + bytes(31) + b"b")
    assert not has_zeros(b"abc" + bytes(40), padded=True)
    assert has_zeros(b"a" + bytes(32) + b"b" + bytes(40), padded=True)
    assert has_zeros(bytes(40), padded=True)
    assert may_hold_zeros("vp9", b"")
    assert may_hold_zeros("h264", b"\0\0\0\x01")
    assert not may_hold_zeros("h264", AVCC)


def test_pictures_never_shown() -> None:
    assert is_shown("vp8", b"\x10")
    assert not is_shown("vp8", b"\x01")
    assert is_shown("h264", b"\x01")
