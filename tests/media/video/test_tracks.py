"""Files with several video tracks: the one that players show is read."""

from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from pipelines.media.video.reader import VideoReader
from tests.fakes.videos import NUM_FRAMES, encode, numbers_of

LONG, SHORT = 30, 10
FAR = [number * 2 for number in range(NUM_FRAMES)]


def together(path: Path, tracks: list[tuple[Path, bool]]) -> Path:
    """Write the packets of several files, in order of time, as enabled or other tracks."""
    packets: list[Any] = []
    with av.open(str(path), "w") as new:
        for source, is_enabled in tracks:
            old = av.open(str(source))
            stream = old.streams.video[0]
            copied: Any = new.add_stream_from_template(stream)
            copied.disposition = Disposition.default if is_enabled else Disposition(0)
            for packet in old.demux(stream):
                if packet.size:
                    packets.append((float(packet.dts * packet.time_base), len(packets), packet))
                    packet.stream = copied
        for _, _, packet in sorted(packets, key=lambda each: each[:2]):
            new.mux(packet)
    return path


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, plain = tmp_path_factory.mktemp("tracks"), {"bf": "0"}
    return {
        "long": encode(folder / "long.mp4", "libx264", plain, num_frames=LONG),
        "short": encode(folder / "short.mp4", "libx264", plain, num_frames=SHORT),
        "cover": encode(folder / "cover.mov", "mjpeg", {"q": "5"}, num_frames=1),
        "images": encode(folder / "images.mov", "mjpeg", {"q": "5"}, num_frames=SHORT),
        "far": encode(folder / "far.mp4", "libx264", plain, times=FAR),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(
    ("tracks", "num_frames"),
    [
        (["short", "+long"], LONG),
        (["+short", "+long"], SHORT),
        (["short", "long"], SHORT),
        (["+long", "short"], LONG),
        (["cover", "+long"], LONG),
        (["+cover", "long"], LONG),
        (["+cover", "short", "+long"], LONG),
        (["+images", "long"], SHORT),
        (["images", "+long"], LONG),
        (["cover"], 1),
    ],
)
def test_the_track_that_players_show(
    kind: str, tracks: list[str], num_frames: int, sources: dict[str, Path], tmp_path: Path
) -> None:
    chosen = [(sources[name.strip("+")], name.startswith("+")) for name in tracks]
    path = together(tmp_path / f"tracks.{kind}", chosen)
    with VideoReader(path) as reader:
        read = reader.frames_at(range(reader.info.num_frames))
    assert numbers_of(read.pixels) == [*range(num_frames)]


def test_a_cover_in_a_long_file(sources: dict[str, Path], tmp_path: Path) -> None:
    tracks = [(sources["cover"], True), (sources["far"], False)]
    with VideoReader(together(tmp_path / "far.mkv", tracks)) as reader:
        assert reader.info.num_frames == NUM_FRAMES
        assert numbers_of(reader.frames_at([0, 89, 40]).pixels) == [0, 89, 40]
