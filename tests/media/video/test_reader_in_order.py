"""Frames read one part after the other: those of `frames_at`, each packet decoded once."""

import gc
from collections.abc import Iterator
from pathlib import Path
from threading import current_thread
from typing import Any

import av
import numpy as np
import pytest

import pipelines.media.video.reader
from pipelines.core.cancel import NEVER, Cancelled, CancelToken
from pipelines.core.errors import InputError, MediaError, MemoryLimitError
from pipelines.media import isolation
from pipelines.media.video.decoder import FrameDecoder, pieces_of
from pipelines.media.video.frames import VideoFrames
from pipelines.media.video.open import open_video
from pipelines.media.video.reader import VideoReader
from pipelines.media.video.writer import write_clip
from pipelines.models.viclip import videos as viclip_videos
from pipelines.models.viclip.windows import SearchOptions
from pipelines.models.videochat_flash import frames as chat_frames
from pipelines.models.videochat_flash.frames import read_clips
from tests.fakes.videos import (
    FPS,
    HEIGHT,
    KINDS,
    NUM_FRAMES,
    WIDTH,
    encode,
    make,
    numbers_of,
)
from tests.models.viclip.test_videos import Seen, encoder

LONG = 400
ONE_GROUP = {"x264-params": "keyint=9999:scenecut=0:bframes=3", "preset": "ultrafast"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("in-order")


@pytest.fixture(scope="module")
def long(folder: Path) -> Path:
    """A video of one keyframe."""
    return encode(folder / "long.mp4", "libx264", ONE_GROUP, num_frames=LONG)


class Fed:
    """How many packets were decoded."""

    def __init__(self) -> None:
        self.count = 0


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> Fed:
    found, feed = Fed(), FrameDecoder._feed

    def counting(self: FrameDecoder, *args: Any) -> Any:
        found.count += 1
        return feed(self, *args)

    monkeypatch.setattr(FrameDecoder, "_feed", counting)
    return found


def joined(parts: Iterator[VideoFrames], at_once: int) -> tuple[np.ndarray, list[int], list[int]]:
    """Return pixels, numbers and lost numbers of all parts together."""
    pixels, indices, lost = [], list[int](), list[int]()
    for part in parts:
        assert 1 <= part.num_asked <= at_once
        assert part.num_asked == len(part.pixels) + part.num_lost
        assert part.highest == max([*part.indices.tolist(), *part.lost])
        pixels.append(part.pixels)
        indices += part.indices.tolist()
        lost += part.lost
    return np.concatenate(pixels), indices, lost


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked", [range(NUM_FRAMES), range(3, 80, 2), [0, 40, 41, 42, 43, 89]])
def test_they_are_those_of_frames_at(kind: str, asked: Any, folder: Path) -> None:
    with VideoReader(make(kind, folder)) as reader:
        expected = reader.frames_at(asked, (48, 56))
        for at_once, threads in ((4, 0), (16, 1), (NUM_FRAMES, 3)):
            parts = reader.frames_in_order(asked, (48, 56), at_once=at_once, threads=threads)
            pixels, indices, lost = joined(parts, at_once)
            assert (indices, lost) == (list(asked), [])
            assert np.array_equal(pixels, expected.pixels)


def test_a_long_group_is_decoded_once(long: Path, fed: Fed) -> None:
    with VideoReader(long) as reader:
        assert reader.info.num_frames == LONG
        fed.count = 0
        pixels, indices, _ = joined(reader.frames_in_order(range(LONG), at_once=16), 16)
        assert LONG <= fed.count <= LONG + 1
        assert numbers_of(pixels) == indices == list(range(LONG))
        fed.count = 0
        for start in range(0, LONG, 16):
            reader.frames_at(range(start, min(start + 16, LONG)))
        assert fed.count > 8 * LONG  # what part by part costs otherwise


def test_what_reads_all_along_a_video_decodes_it_once(
    long: Path, fed: Fed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_clip(long, 1.0, 13.0, tmp_path / "clip.mp4")
    assert LONG * 12 // 14 <= fed.count <= LONG + 4  # and one more for each look at a first frame
    with VideoReader(tmp_path / "clip.mp4") as clip:
        assert numbers_of(clip.frames_at(range(360)).pixels) == list(range(30, 390))

    monkeypatch.setattr(viclip_videos, "DECODED_BYTES", 3_000_000)
    fed.count = 0
    videos = encoder(Seen())
    plan = videos.plan(long, SearchOptions(0.3, 0.2))
    assert [*videos.prepare(long, plan)][-1] == len(plan.indices)
    assert fed.count <= LONG + 4

    monkeypatch.setattr(chat_frames, "DECODED_BYTES", 500_000)
    clips = [range(start, start + 4) for start in range(0, LONG, 4)]
    with VideoReader(long) as reader:
        fed.count = 0
        read = list(read_clips(reader, clips, 32, lost=set(), cancel=NEVER))
    assert len(read) == len(clips)
    assert fed.count <= LONG + 4


def hit(path: Path, target: Path, number: int, byte: bytes) -> Path:
    """Write a copy of a video with one packet spoiled."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
    assert packet.pos is not None
    data[packet.pos + 12 : packet.pos + packet.size] = byte * (packet.size - 12)
    target.write_bytes(data)
    return target


class Passes:
    """Each pass of a decoder: the first packet of its group, its threads, and how strict it was."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, bool]] = []


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    found, outputs = Passes(), FrameDecoder.outputs

    def noted(worker: Any, group: Any, threads: int, stopped: Any) -> Any:
        strict = threads > 1 and worker._strict
        found.seen.append((group.start, threads, strict))
        return outputs(worker, group, threads, stopped)

    monkeypatch.setattr(FrameDecoder, "outputs", noted)
    return found


def in_order(reader: VideoReader, asked: range, **options: Any) -> list[int]:
    parts = reader.frames_in_order(asked, at_once=8, threads=2, **options)
    return [number for part in parts for number in part.lost]


def test_a_file_that_threads_only_complain_of_is_read_twice_once(
    folder: Path, passes: Passes
) -> None:
    options = {"x264-params": "open-gop=1:keyint=80:min-keyint=80:scenecut=0:bframes=3"}
    path = encode(folder / "open.mp4", "libx264", options, num_frames=LONG)
    with VideoReader(path) as reader:
        for _ in range(2):
            passes.seen.clear()
            assert in_order(reader, range(LONG)) == []
        starts = [start for start, _, _ in passes.seen]
        assert len(starts) == len(set(starts)) == 5, "the second reading reads no group twice"
        assert [threads for _, threads, _ in passes.seen] == [2] * 5


@pytest.mark.parametrize("stopped", [False, True])
def test_a_damaged_file_stays_suspected(
    stopped: bool, folder: Path, tmp_path: Path, passes: Passes
) -> None:
    options = {"x264-params": "keyint=100:min-keyint=100:scenecut=0:bframes=3"}
    whole = folder / "closed.mp4"
    if not whole.exists():
        encode(whole, "libx264", options, num_frames=LONG)
    path = hit(whole, tmp_path / "hit.mp4", 40, b"\x55")
    with VideoReader(path) as reader:
        if stopped:
            with pytest.raises(Cancelled):
                in_order(reader, range(90), cancel=CancelToken(lambda: len(passes.seen) > 2))
            passes.seen.clear()
            reader.frames_at([101], threads=1)  # one that is whole, by one thread
        assert in_order(reader, range(90))
        for _ in range(2):
            passes.seen.clear()
            assert in_order(reader, range(90))
            assert passes.seen == [(0, 2, True), (0, 1, False)]


ONE_OF_EACH = [
    ("libx264", {"x264-params": "keyint=999:scenecut=0:bframes=3"}),
    ("libx265", {"x265-params": "keyint=999:log-level=none:bframes=3"}),
    ("libvpx-vp9", {"g": "999", "deadline": "realtime", "cpu-used": "8"}),
    ("mpeg4", {"g": "600"}),
]


@pytest.mark.parametrize(("codec", "options"), ONE_OF_EACH)
@pytest.mark.parametrize("byte", [b"\0", b"\x55"])
@pytest.mark.parametrize("number", [1, 38, 60, 61, 62, 63])
def test_the_same_frames_are_lost(
    codec: str, options: dict[str, str], byte: bytes, number: int, folder: Path, tmp_path: Path
) -> None:
    name = f"{codec}.{'webm' if 'vpx' in codec else 'mp4'}"
    whole = folder / name
    if not whole.exists():
        encode(whole, codec, options)
    path = hit(whole, tmp_path / name, number, byte)
    with VideoReader(path) as reader:
        asked = range(reader.info.num_frames)
        expected = reader.frames_at(asked)
        for threads in (1, 4):
            parts = reader.frames_in_order(asked, at_once=8, threads=threads)
            pixels, indices, lost = joined(parts, 8)
            assert tuple(lost) == expected.lost
            assert indices == expected.indices.tolist()
            assert np.array_equal(pixels, expected.pixels)


@pytest.mark.parametrize(
    "kind", ["h264-open-groups.mkv", "h264-b-frames.avi", "mpeg2.mpg", "vp8.webm"]
)
def test_the_same_frames_are_lost_of_many_groups(kind: str, folder: Path, tmp_path: Path) -> None:
    data = bytearray(make(kind, folder).read_bytes())
    start, length = int(len(data) * 0.55), len(data) // 25
    data[start : start + length] = bytes(length)
    (tmp_path / kind).write_bytes(data)
    with VideoReader(tmp_path / kind) as reader:
        asked = range(reader.info.num_frames)
        expected = reader.frames_at(asked)
        pixels, _, lost = joined(reader.frames_in_order(asked, at_once=5), 5)
    assert tuple(lost) == expected.lost
    assert np.array_equal(pixels, expected.pixels)


def test_a_video_of_which_nothing_is_left(long: Path, tmp_path: Path) -> None:
    path = hit(long, tmp_path / "bad.mp4", 1, b"\0")
    with VideoReader(path) as reader:
        _, indices, lost = joined(reader.frames_in_order(range(40, LONG)), 16)
        assert (indices, lost) == ([], list(range(40, LONG)))
    with pytest.raises(MediaError, match="none of its 300 frames could be read"):
        write_clip(path, 2.0, 12.0, tmp_path / "clip.mp4")
    assert not (tmp_path / "clip.mp4").exists()


def test_frames_are_upright(tmp_path: Path) -> None:
    def setup(stream: Any) -> None:
        a, b, c, d = (value << 16 for value in (0, 1, -1, 0))
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])

    path = encode(tmp_path / "phone.mp4", "libx264", num_frames=30, setup=setup)
    with VideoReader(path) as reader:
        pixels, _, _ = joined(reader.frames_in_order(range(30), at_once=4), 4)
        assert pixels.shape == (30, WIDTH, HEIGHT, 3)
        assert np.array_equal(pixels, reader.frames_at(range(30)).pixels)


@pytest.mark.parametrize("kind", ["h264-one-group.mp4", "vp9.webm"])
def test_decord_where_pyav_cannot_open(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Path) -> None:
        raise av.error.InvalidDataError(1, "no")

    monkeypatch.setattr(pipelines.media.video.reader, "open_container", closed)
    with VideoReader(make(kind, folder)) as reader:
        assert reader.info.codec == "unknown"
        pixels, indices, _ = joined(reader.frames_in_order(range(5, 70), at_once=16), 16)
    assert numbers_of(pixels) == indices == list(range(5, 70))


def test_progress_and_stop_come_in_the_callers_thread(
    long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.media.video.reader, "POLL_S", 0.0)
    told: list[tuple[int, int]] = []

    def note(done: int, wanted: int) -> None:
        assert current_thread().name == "MainThread"
        told.append((done, wanted))

    with VideoReader(long) as reader:
        joined(reader.frames_in_order(range(100), on_progress=note), 16)
    assert {wanted for _, wanted in told} == {100}
    assert told == sorted(told)
    assert told[-1][0] == 96  # while the last part was read


@pytest.mark.parametrize("kind", ["h264-one-group.mp4", "h264-baseline.mp4"])
def test_stop_ends_reading(kind: str, folder: Path) -> None:
    with VideoReader(make(kind, folder)) as reader:
        seen: list[VideoFrames] = []
        parts = reader.frames_in_order(range(NUM_FRAMES), cancel=CancelToken(lambda: bool(seen)))
        seen.append(next(parts))
        with pytest.raises(Cancelled):
            next(parts)
        assert numbers_of(reader.frames_at([7]).pixels) == [7]  # and is as good as new


def test_others_read_the_same_reader_meanwhile(long: Path) -> None:
    with VideoReader(long) as reader:
        first, second = (reader.frames_in_order(range(start, 200)) for start in (0, 50))
        for _ in range(3):
            one, two = next(first), next(second)
            assert numbers_of(reader.frames_at([300]).pixels) == [300]
            assert numbers_of(one.pixels) == one.indices.tolist()
            assert numbers_of(two.pixels) == two.indices.tolist()
        first.close()
        assert numbers_of(next(second).pixels) == list(range(98, 114))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"indices": []}, "at least one"),
        ({"indices": [3, 90]}, "within 0..89 but got 3..90"),
        ({"indices": [1, 4, 2]}, "must ascend but got 2 after 4"),
        ({"indices": [1, 1]}, "must ascend but got 1 after 1"),
        ({"indices": [1], "at_once": 0}, "must be 1 or more but got 0"),
        ({"indices": [1], "size": (0, 5)}, "within 1..8192 but got 0 x 5"),
    ],
)
def test_impossible_requests(options: dict[str, Any], says: str, folder: Path) -> None:
    with VideoReader(make("h264-b-frames.mp4", folder)) as reader:
        with pytest.raises(InputError) as caught:
            next(reader.frames_in_order(**options))
        assert says in caught.value.message


def test_only_a_part_must_fit_into_memory(long: Path) -> None:
    with VideoReader(long) as reader:
        large = {"indices": range(LONG), "size": (4096, 4096)}
        with pytest.raises(MemoryLimitError):
            next(reader.frames_in_order(**large, at_once=100))
        assert next(reader.frames_in_order(**large, at_once=1)).pixels.shape[0] == 1


@pytest.mark.parametrize(
    ("starts", "at_once", "parts"),
    [
        ([0, 0, 0], 5, [(0, 3)]),
        ([0, 0, 0], 2, [(0, 3)]),
        ([0, 1, 2, 3, 4], 2, [(0, 2), (2, 4), (4, 5)]),
        ([0, 0, 5, 5, 5, 9], 3, [(0, 2), (2, 5), (5, 6)]),
        ([0, 5, 5, 5, 5, 9, 9], 3, [(0, 1), (1, 5), (5, 7)]),
        ([0, 5, 5, 5, 9], 4, [(0, 4), (4, 5)]),
    ],
)
def test_groups_are_not_split_unless_they_are_long(
    starts: list[int], at_once: int, parts: list[tuple[int, int]]
) -> None:
    found = [(part.start, part.stop) for part in pieces_of(np.array(starts), at_once)]
    assert found == parts


@pytest.fixture
def apart_on() -> Iterator[None]:
    isolation.enable()
    yield
    isolation.disable()


@pytest.mark.usefixtures("apart_on")
def test_they_are_the_same_apart(long: Path) -> None:
    told: list[tuple[int, int]] = []
    with VideoReader(long) as here:
        expected = here.frames_at(range(100), (48, 56)).pixels
    with open_video(long) as there:
        first, second = (
            there.frames_in_order(
                range(100), (48, 56), at_once=10, on_progress=lambda *at: told.append(at)
            )
            for _ in range(2)
        )
        for start in range(0, 50, 10):  # in turns
            for parts in (first, second):
                assert np.array_equal(next(parts).pixels, expected[start : start + 10])
        first.close()
        pixels, indices, _ = joined(second, 10)
        assert indices == list(range(50, 100))
        assert np.array_equal(pixels, expected[50:])
        with pytest.raises(InputError, match="must ascend"):
            next(there.frames_in_order([2, 1]))
        assert numbers_of(there.frames_at([300]).pixels) == [300]


@pytest.mark.usefixtures("apart_on")
def test_stop_is_told_to_a_process_of_its_own(long: Path) -> None:
    with open_video(long) as reader:
        seen: list[VideoFrames] = []
        parts = reader.frames_in_order(range(LONG), cancel=CancelToken(lambda: bool(seen)))
        seen.append(next(parts))
        with pytest.raises(Cancelled):
            while True:
                next(parts)
        assert numbers_of(reader.frames_at([7]).pixels) == [7]


@pytest.mark.usefixtures("apart_on")
def test_a_reader_that_is_closed_first_leaves_its_process_to_others(long: Path) -> None:
    with open_video(long) as reader:
        parts = reader.frames_in_order(range(LONG))
        next(parts)
    with open_video(long) as another:
        assert another._decoder is reader._decoder
        del parts  # whose end the process is not told of now
        gc.collect()
        assert numbers_of(another.frames_at([9]).pixels) == [9]


def retimed(source: Path, target: Path, late: int = 0) -> Path:
    """Copy a video so that its frames are shown as they are decoded.

    With `late` they keep their order, but for one that no other needs: it is shown so many later.
    """
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copied = new.add_stream_from_template(stream)
        frame, moved = round(1 / FPS / float(stream.time_base or 1)), False
        for number, packet in enumerate(each for each in old.demux(stream) if each.size):
            assert packet.pts is not None
            unneeded = bytes(packet)[4] & 0x60 == 0  # nal_ref_idc of its first unit
            now = late > 0 and not moved and number > 6 and unneeded
            moved = moved or now
            if now:
                packet.pts += late * frame + frame // 2  # no two at one time
            elif not late:
                packet.pts = packet.dts = number * frame
            packet.stream = copied
            new.mux(packet)
        assert moved == (late > 0)
    return target


@pytest.fixture(scope="module")
def disposable(folder: Path) -> Path:
    """A video of one keyframe in which no frame needs one of the frames between two others."""
    options = {"x264-params": "keyint=9999:scenecut=0:bframes=3:b-pyramid=0"}
    return encode(
        folder / "disposable.mp4", "libx264", options | {"preset": "ultrafast"}, num_frames=300
    )


@pytest.mark.parametrize(("name", "late"), [("odd.mp4", 0), ("late.mkv", 60)])
def test_times_that_do_not_follow_the_decoder_lose_nothing(
    name: str, late: int, disposable: Path, tmp_path: Path
) -> None:
    path = retimed(disposable, tmp_path / name, late)
    with VideoReader(path) as reader:
        asked = range(reader.info.num_frames)
        expected = reader.frames_at(asked, (48, 56))
        assert not expected.lost
        pixels, indices, lost = joined(reader.frames_in_order(asked, (48, 56), at_once=16), 16)
    assert not lost
    assert indices == [*asked]
    assert np.array_equal(pixels, expected.pixels)
    write_clip(path, 0.0, 0.0, tmp_path / "clip.mp4")
    with VideoReader(tmp_path / "clip.mp4") as clip:
        assert clip.info.num_frames == len(asked)


def test_few_decoded_frames_wait_for_one_that_is_late(
    disposable: Path, tmp_path: Path, fed: Fed
) -> None:
    path = retimed(disposable, tmp_path / "late.mkv", late=280)
    with VideoReader(path) as reader:
        asked = range(200)  # without the late one
        fed.count = 0
        first = next(reader.frames_in_order(asked, (48, 56), at_once=16))
    assert first.num_asked > 0
    assert fed.count < 150  # not all 200 of them
