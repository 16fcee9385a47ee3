"""Bad files: one clear sentence, or the frames that are whole and a count of the lost ones."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import pipelines.media.video.container
import pipelines.media.video.reader
from pipelines.core.errors import MediaError
from pipelines.media.video.frames import Times, VideoFrames
from pipelines.media.video.open import probe
from pipelines.media.video.reader import VideoReader
from pipelines.media.video.writer import write_clip
from tests.fakes.videos import (
    FPS,
    HEIGHT,
    KINDS,
    NUM_FRAMES,
    WIDTH,
    encode,
    make,
    number_of,
    numbers_of,
    sound_only,
)

PLAYLIST = (
    b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


def refused(path: Path) -> str:
    with pytest.raises(MediaError) as caught:
        probe(path)
    message = caught.value.message
    assert str(path.parent) not in message
    assert repr(path.name) in message
    assert message.count("\n") == 0
    return message


def whole_times(path: Path) -> Times:
    with VideoReader(path) as reader:
        return reader.times_s


def wrong_frames(read: VideoFrames, times_s: Times) -> list[tuple[float, int, int]]:
    """Return (time, number shown, number that belongs there) of the frames that are not right."""
    belongs = [int(np.abs(times_s - time_s).argmin()) for time_s in read.times_s]
    rows = zip(read.times_s.tolist(), numbers_of(read.pixels), belongs, strict=True)
    return [row for row in rows if row[1] != row[2]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty (0 bytes). Choose a video"),
        (b"Dear diary,\ntoday it rained.\n" * 40, "looks like a text. Expected a video such as"),
        (b"\x07\x93" * 900, "is not a video that can be read. Expected a video such as"),
        (b"%PDF-1.7\n" + b"x" * 99, "is a PDF document, not a video"),
        (b"PK\x03\x04" + b"x" * 99, "is a zip archive or an office document, not a video"),
        (PLAYLIST, "is a playlist, not a video"),
        (b" \n" + PLAYLIST, "looks like a text"),
        (b"\0\0\0\x18ftypmp42" + b"\0" * 200, "is damaged or cut off"),
        (b"\x1aE\xdf\xa3" + b"x" * 300, "is damaged or cut off"),
        (bytes(5000), "is not a video that can be read"),
    ],
)
def test_no_video_at_all(content: bytes, says: str, save: Callable[..., Path]) -> None:
    assert says in refused(save("film.mp4", content))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_an_image_called_a_video(form: str, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "film.mp4", form)
    assert "is an image, not a video" in refused(tmp_path / "film.mp4")


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.mov"])
def test_only_sound(name: str, tmp_path: Path) -> None:
    assert "holds only sound, no video" in refused(sound_only(tmp_path / name))


def test_no_file(tmp_path: Path) -> None:
    assert "could not be read. Upload it again." in refused(tmp_path / "film.mp4")


def test_a_long_name_is_cut(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 200 + ".mp4")
    path.write_bytes(b"")
    with pytest.raises(MediaError) as caught:
        probe(path)
    assert len(caught.value.message) < 130


def test_a_video_without_a_frame(tmp_path: Path) -> None:
    data = make("h264-fragments.mp4", tmp_path).read_bytes()
    path = tmp_path / "head.mp4"
    path.write_bytes(data[: data.index(b"moof") - 4])
    assert "damaged" in refused(path)


@pytest.mark.parametrize("name", ["one.mp4", "one.mkv", "one.avi", "one.gif"])
def test_one_frame(name: str, tmp_path: Path) -> None:
    codec = {".gif": "gif", ".avi": "mpeg4"}.get(Path(name).suffix, "libx264")
    with VideoReader(encode(tmp_path / name, codec, num_frames=1)) as reader:
        assert reader.info.num_frames == 1
        assert reader.info.average_fps == 0.0
        assert 0 <= reader.info.duration_s <= 1.0
        assert reader.times_s.tolist() == [0.0]
        assert not reader.info.variable_rate
        assert number_of(reader.frames_at_times([0.0, 5.0]).pixels[1]) == 0


def test_a_video_that_is_too_long(tmp_path: Path) -> None:
    path = make("h264-b-frames.mp4", tmp_path)
    with pytest.raises(MediaError) as caught:
        probe(path, max_seconds=2.0)
    assert "is 3 s long; the limit is 2 s. Trim it and try again." in caught.value.message
    assert probe(path, max_seconds=3.1).num_frames == NUM_FRAMES


@pytest.mark.parametrize("kind", ["h264-b-frames.mp4", "h264-variable.mp4", "hevc.mp4", "av1.mp4"])
def test_cut_off_before_its_table(kind: str, folder: Path, tmp_path: Path) -> None:
    """An ordinary MP4 has its table at the end; without it nothing can be found."""
    path = tmp_path / "cut.mp4"
    path.write_bytes(make(kind, folder).read_bytes()[:9000])
    assert "is damaged or cut off: it starts like a video" in refused(path)


def can_be_opened(path: Path) -> bool:
    try:
        av.open(str(path)).close()
    except av.FFmpegError:
        return False
    return True


@pytest.mark.parametrize("share", [0.45, 0.6, 0.75])
def test_the_end_of_an_unfinished_avi_is_no_guess(
    share: float, folder: Path, tmp_path: Path
) -> None:
    """The header of an unfinished recording has no sizes: the end may be missing."""
    source = make("mpeg4.avi", folder)
    data = bytearray(source.read_bytes()[: int(source.stat().st_size * share)])
    data[4:8] = bytes(4)
    path = tmp_path / "unfinished.avi"
    path.write_bytes(data)
    with VideoReader(path) as reader:
        read = reader.frames_at(range(reader.info.num_frames))
    assert wrong_frames(read, whole_times(source)) == []
    assert 0 < read.num_lost <= 8


@pytest.mark.parametrize(
    "kind",
    ["h264-open-groups.mkv", "vp9.webm", "vp8.webm", "h264.ts", "h264-fragments.mp4", "mpeg4.avi",
     "h264-b-frames.avi", "mpeg2.mpg", "h264.flv"],
)  # fmt: skip
def test_cut_off_anywhere(kind: str, folder: Path, tmp_path: Path) -> None:
    """Encoders of other processors write other bytes, so the cuts are many."""
    data = make(kind, folder).read_bytes()
    times_s = whole_times(make(kind, folder))
    for share in np.linspace(0.4, 0.99, 40):
        path = tmp_path / kind
        path.write_bytes(data[: int(len(data) * share)])
        if kind == "h264-fragments.mp4" and not can_be_opened(path):  # cut in a table
            continue
        with VideoReader(path) as reader:
            read = reader.frames_at(range(reader.info.num_frames))
        wrong = wrong_frames(read, times_s)
        if kind == "mpeg2.mpg":  # the last time comes from the packet after it
            wrong = [row for row in wrong if row[0] != read.times_s[-1]]
        assert wrong == []
        assert len(read.indices) >= NUM_FRAMES * share * 0.5
        assert read.num_lost <= 12


def test_cut_off_behind_its_table(folder: Path, tmp_path: Path) -> None:
    """The table at the start promises frames that never came: they are lost, and said to be."""
    source = encode(tmp_path / "whole.mp4", "libx264", {"g": "15"},
                    container_options={"movflags": "+faststart"})  # fmt: skip
    path = tmp_path / "cut.mp4"
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with VideoReader(path) as reader:
        read = reader.frames_at(range(reader.info.num_frames))
    assert numbers_of(read.pixels) == read.indices.tolist()
    assert 20 < len(read.indices) < 80


DAMAGED = [kind for kind in KINDS if kind not in {"mjpeg.avi", "picture.gif", "h264-no-times.h264"}]


@pytest.mark.parametrize("place", [0.3, 0.55, 0.8])
@pytest.mark.parametrize("kind", DAMAGED)
def test_zeros_in_the_middle(kind: str, place: float, folder: Path, tmp_path: Path) -> None:
    """No frame is given for another one: by its time, each is the frame that it says."""
    data = bytearray(make(kind, folder).read_bytes())
    end = data.find(b"moov") if kind != "h264-fragments.mp4" else -1  # not in an MP4's table
    start, length = int((end if end > 0 else len(data)) * place), len(data) // 25
    data[start : start + length] = bytes(length)
    (tmp_path / kind).write_bytes(data)
    with VideoReader(tmp_path / kind) as reader:
        read = reader.frames_at(range(reader.info.num_frames))
        alone = reader.frames_at(read.indices[-3:])
    assert np.array_equal(alone.pixels, read.pixels[-3:])
    assert wrong_frames(read, whole_times(make(kind, folder))) == []
    assert len(read.indices) >= 8
    if read.num_lost:
        assert read.notice.startswith(f"{read.num_lost} of {reader.info.num_frames} frames could ")


@pytest.mark.parametrize("kind", ["h264-baseline.mp4", "hevc.mp4"])
def test_only_the_group_that_is_hit_is_lost(kind: str, folder: Path, tmp_path: Path) -> None:
    data = bytearray(make(kind, folder).read_bytes())
    with av.open(str(make(kind, folder))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        place = next(p for p in packets[30:] if not p.is_keyframe)
        data[place.pos + 4 : place.pos + place.size] = bytes(place.size - 4)
    (tmp_path / kind).write_bytes(data)
    with VideoReader(tmp_path / kind) as reader:
        read = reader.frames_at(range(NUM_FRAMES))
        assert read.lost
        assert min(read.lost) >= 24
        assert max(read.lost) < 50
        assert numbers_of(read.pixels) == read.indices.tolist()
        with pytest.raises(MediaError) as caught:
            reader.frames_at([read.lost[0]])
    assert "not even its only frame could be read" in caught.value.message
    twice = [read.lost[0], 2, read.lost[0], 1]
    with VideoReader(tmp_path / kind) as reader:
        some = reader.frames_at(twice)
    assert (some.indices.tolist(), some.lost, some.num_asked) == ([2, 1], (read.lost[0],), 3)
    assert numbers_of(some.pixels) == [2, 1]


@pytest.mark.parametrize("hit", [51, 55, 67])
def test_a_packet_without_times_that_gives_no_frame(hit: int, folder: Path, tmp_path: Path) -> None:
    """Where times are those of the frames that a decoder gave, one of them is missing here."""
    kind = "h264-b-frames.avi"
    data = bytearray(make(kind, folder).read_bytes())
    with av.open(str(make(kind, folder))) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][hit]
    start = packet.pos + 8
    data[start : start + packet.size] = b"\x55" * packet.size
    (tmp_path / kind).write_bytes(data)
    with VideoReader(tmp_path / kind) as reader:
        read = reader.frames_at(range(reader.info.num_frames))
    assert wrong_frames(read, whole_times(make(kind, folder))) == []
    assert 0 < read.num_lost < 40


def test_a_frame_that_is_larger_than_the_header_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two streams of different sizes, one after the other, as if they were one."""
    small = encode(tmp_path / "small.h264", "libx264", {"bf": "0"}, num_frames=10)
    large = encode(
        tmp_path / "large.h264", "libx264", {"bf": "0"}, num_frames=10, size=(2 * HEIGHT, 2 * WIDTH)
    )
    path = tmp_path / "grows.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with VideoReader(path) as reader:
        assert reader.frames_at(range(20)).num_lost == 0
    monkeypatch.setattr(pipelines.media.video.container, "MAX_FRAME_PIXELS", HEIGHT * WIDTH * 2)
    with VideoReader(path) as reader:
        read = reader.frames_at(range(reader.info.num_frames))
    assert numbers_of(read.pixels) == list(range(10))


def test_a_clip_of_a_damaged_video(folder: Path, tmp_path: Path) -> None:
    data = bytearray(make("h264-baseline.mp4", folder).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 800] = bytes(800)
    (tmp_path / "bad.mp4").write_bytes(data)
    write_clip(tmp_path / "bad.mp4", 0.0, 0.0, tmp_path / "clip.mp4")
    assert probe(tmp_path / "clip.mp4").num_frames >= 40


def test_random_bytes_never_hang_or_crash(folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    for kind in ("h264-open-groups.mp4", "hevc.mp4", "vp9.webm", "mpeg4.avi", "h264.ts"):
        whole = make(kind, folder).read_bytes()
        for _ in range(4):
            data = bytearray(whole)
            for place in random.integers(0, len(data), 40):
                data[place] = random.integers(256)
            path = tmp_path / kind
            path.write_bytes(data)
            try:
                with VideoReader(path) as reader:
                    reader.frames_at(range(0, reader.info.num_frames, 7), (32, 32))
            except MediaError as error:
                assert repr(kind) in error.message


@pytest.mark.parametrize("kind", ["h264-b-frames.mp4", "vp9.webm"])
def test_decord_where_pyav_cannot_open(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(kind, folder)
    with VideoReader(path) as reader:
        expected = reader.info

    def closed(path: Path) -> None:
        raise av.error.InvalidDataError(1, "no")

    monkeypatch.setattr(pipelines.media.video.reader, "open_container", closed)
    with VideoReader(path) as reader:
        assert reader.info.num_frames == NUM_FRAMES
        assert reader.info.duration_s == pytest.approx(expected.duration_s, abs=0.04)
        read = reader.frames_at([50, 3, 89, 50], (96, 160))
    assert numbers_of(read.pixels) == [50, 3, 89, 50]
    assert read.times_s[0] == pytest.approx(50 / FPS, abs=0.01)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_several_threads_in_one_group_lose_the_same_frames(codec: str, tmp_path: Path) -> None:
    """With threads of its own a decoder tells of an error later, at another packet."""
    options = {"x264-params": "keyint=999:scenecut=0", "x265-params": "keyint=999:log-level=none"}
    path = encode(tmp_path / "long.mp4", codec, options)
    with VideoReader(path) as reader:
        whole = reader.frames_at(range(NUM_FRAMES), threads=3)
        assert numbers_of(whole.pixels) == list(range(NUM_FRAMES))
        assert np.array_equal(reader.frames_at([80, 3, 55], threads=4).pixels,
                              whole.pixels[[80, 3, 55]])  # fmt: skip
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][60]
    data[packet.pos + 12 : packet.pos + packet.size] = b"\x55" * (packet.size - 12)
    path.write_bytes(data)
    with VideoReader(path) as one, VideoReader(path) as several:
        expected = one.frames_at(range(NUM_FRAMES), threads=1)
        for _ in range(3):
            read = several.frames_at(range(NUM_FRAMES), threads=4)
            assert read.lost == expected.lost
            assert np.array_equal(read.pixels, expected.pixels)
