"""Bytes between two packets: what belongs to something else, and what is missing."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.media.video.gaps import Structure
from pipelines.media.video.reader import VideoReader
from tests.fakes.videos import (
    FPS,
    HEIGHT,
    LIBVPX,
    NUM_FRAMES,
    WIDTH,
    encode,
    numbered,
    numbers_of,
)

#: A pause of a second, as where a recording is paused.
PAUSED = [number + (FPS if number >= 30 else 0) for number in range(NUM_FRAMES)]
GROUPS = {"g": "20", "bf": "0"}


def see_through(path: Path, codec: str) -> Path:
    """Write numbered frames with an alpha channel of noise, which is stored beside each block."""
    random = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=FPS, options=LIBVPX | {"auto-alt-ref": "0"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuva420p"
        for number in range(NUM_FRAMES):
            alpha = random.integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
            rgba = np.concatenate([numbered(number), alpha], axis=2)
            frame = av.VideoFrame.from_ndarray(rgba, "rgba")
            frame.pts = PAUSED[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def with_script_data(source: Path, target: Path) -> Path:
    """Insert script data before the first FLV tag after the pause."""
    data = source.read_bytes()
    place = int.from_bytes(data[5:9], "big") + 4
    while int.from_bytes(data[place + 4 : place + 7], "big") < 1500:
        place += 15 + int.from_bytes(data[place + 1 : place + 4], "big")
    body = b"\x02\0\x08cuePoint\x02\x01\x90" + b"x" * 400
    head = b"\x12" + len(body).to_bytes(3, "big") + data[place + 4 : place + 8] + bytes(3)
    tag = head + body + (len(head) + len(body)).to_bytes(4, "big")
    target.write_bytes(data[:place] + tag + data[place:])
    return target


@pytest.fixture(scope="module", params=["vp8.webm", "vp9.webm", "h264.flv"])
def paused(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video with a pause, and other data between the packets around it."""
    folder, name = tmp_path_factory.mktemp("paused"), request.param
    if name.endswith("flv"):
        plain = encode(folder / "plain.flv", "libx264", GROUPS, times=PAUSED)
        return with_script_data(plain, folder / name)
    return see_through(folder / name, "libvpx" if name == "vp8.webm" else "libvpx-vp9")


def test_other_data_beside_a_pause_are_no_damage(paused: Path) -> None:
    with VideoReader(paused) as reader:
        read = reader.frames_at(range(reader.info.num_frames))
    assert read.num_lost == 0
    assert numbers_of(read.pixels) == [*range(NUM_FRAMES)]
    assert read.times_s == pytest.approx(np.array(PAUSED) / FPS, abs=0.002)


@pytest.mark.parametrize("first", [26, 28, 31, 50, 70])
@pytest.mark.parametrize("fill", [b"\0", b""], ids=["zeros", "cut"])
def test_what_is_missing_is_reported(paused: Path, first: int, fill: bytes, tmp_path: Path) -> None:
    """Four packets, with all that lies between them, are zeros or cut out."""
    data = paused.read_bytes()
    with av.open(str(paused)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    start, end = places[first] - 20, places[first + 4] - 2
    path = tmp_path / paused.name
    path.write_bytes(data[:start] + fill * (end - start) + data[end:])
    with VideoReader(path) as reader:
        num_frames = reader.info.num_frames
        read = reader.frames_at(range(num_frames))
    belongs = [int(np.abs(np.array(PAUSED) / FPS - each).argmin()) for each in read.times_s]
    assert numbers_of(read.pixels) == belongs
    assert num_frames < NUM_FRAMES
    assert len(read.indices) >= first - 2


def element(kind: bytes, body: bytes, length: bytes | None = None) -> bytes:
    return kind + (length or (len(body) | 1 << 28).to_bytes(4, "big")) + body


BLOCK, TIME = element(b"\xa3", bytes(50)), element(b"\xe7", b"\1")
GROUP = element(b"\xa0", element(b"\xa1", bytes(50)) + element(b"\x75\xa1", b""))
UNKNOWN = b"\x01" + b"\xff" * 7


def structure(*clusters: bytes, path: Path, length: bytes | None = None) -> Structure:
    parts = [element(b"\x1fC\xb6u", TIME + body, length) for body in clusters]
    path.write_bytes(element(b"\x18\x53\x80\x67", b"".join(parts), length))
    return Structure.of(path)


@pytest.mark.parametrize("length", [None, UNKNOWN])
def test_a_whole_structure(length: bytes | None, tmp_path: Path) -> None:
    whole = structure(BLOCK + GROUP, GROUP + BLOCK, path=tmp_path / "a.mkv", length=length)
    assert not whole.is_broken(0, 0, 20)
    assert whole.is_broken(0, 0, 1000), "blocks are passed over"
    size = (tmp_path / "a.mkv").stat().st_size
    assert not whole.is_broken(size, size, size + 1)


@pytest.mark.parametrize("length", [None, UNKNOWN])
@pytest.mark.parametrize("bad", [bytes(40), b"\xa3\x1f\xff\xff\xff" + bytes(9), b"\xa3", b"\x42xy"])
def test_a_broken_structure(bad: bytes, length: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    broken = structure(BLOCK + bad, GROUP, path=path, length=length)
    place = path.read_bytes().index(BLOCK) + len(BLOCK)
    assert broken.is_broken(place, place, place + 1)
