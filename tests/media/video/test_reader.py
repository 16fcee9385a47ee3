"""The frame asked for is the frame returned: beside full decoding, decord and burnt-in numbers."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import current_thread
from typing import Any

import av
import decord
import numpy as np
import pytest
from av.video.reformatter import Colorspace, Interpolation

from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import InputError, MediaError, MemoryLimitError
from pipelines.media.video.container import open_container, video_stream
from pipelines.media.video.index import Listing, build_index
from pipelines.media.video.open import open_video, probe
from pipelines.media.video.reader import VideoReader
from tests.fakes.videos import (
    FPS,
    HEIGHT,
    KINDS,
    NUM_FRAMES,
    VFR_TIMES,
    WIDTH,
    encode,
    make,
    number_of,
    numbers_of,
    remuxed,
)

#: First and last, both sides of keyframes, some in no order, one twice.
ASKED = [0, 1, 88, 89, 19, 20, 21, 59, 60, 61, 39, 40, 25, 24, 26, 20, 75, 3]

#: What decord 0.6.0 has no decoder for, or no table to count frames by, or starts in the middle of.
NOT_FOR_DECORD = ("av1", "h264-no-times", "mpeg2", "picture", "h264.ts")

Videos = Callable[[str], Path]


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    folder = tmp_path_factory.mktemp("videos")
    return lambda kind: make(kind, folder)


def decoded(path: Path, size: tuple[int, int] | None = None) -> list[Any]:
    """Decode a whole file with PyAV, from its start to its end, passing over what fails."""
    height, width = size or (None, None)
    found: list[Any] = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with suppress(av.FFmpegError):
                found += packet.decode()
        how = {"format": "rgb24", "interpolation": Interpolation.BICUBIC}
        return [frame.reformat(width, height, **how).to_ndarray() for frame in found]


@pytest.mark.parametrize("name", ["many.mp4", "many.mkv", "many.avi"])
def test_the_list_of_packets_can_be_stopped(tmp_path: Path, name: str) -> None:
    """A long film on a slow disk is listed for minutes before its first frame is decoded."""
    path = encode(tmp_path / name, "mpeg4", num_frames=1200, size=(HEIGHT, WIDTH))
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return True

    with pytest.raises(Cancelled):
        build_index(path, CancelToken(stop))
    assert asked == [1], "it goes on with nothing after that"
    with open_container(path) as container, pytest.raises(Cancelled):
        Listing.of(container, video_stream(container, path), CancelToken(lambda: True))


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_that_of_full_decoding(kind: str, videos: Videos) -> None:
    path, small = videos(kind), (48, 56)
    whole, shrunk = decoded(path), decoded(path, small)
    with VideoReader(path) as reader:
        assert reader.info.num_frames == len(whole) == NUM_FRAMES
        everything = reader.frames_at(range(NUM_FRAMES))
        assert numbers_of(everything.pixels) == list(range(NUM_FRAMES))
        assert np.array_equal(everything.pixels, whole)
        some = reader.frames_at(ASKED, small)
        assert np.array_equal(some.pixels, [shrunk[number] for number in ASKED])
        assert some.indices.tolist() == ASKED
        assert np.array_equal(some.times_s, reader.times_s[ASKED])
        assert (everything.lost, some.num_lost, some.notice) == ((), 0, "")


@pytest.mark.parametrize("kind", KINDS)
def test_each_frame_alone_from_a_fresh_file(kind: str, videos: Videos) -> None:
    whole = decoded(videos(kind))
    for number in (0, 20, 43, NUM_FRAMES - 1):
        with VideoReader(videos(kind)) as reader:
            assert np.array_equal(reader.frames_at([number]).pixels[0], whole[number])


@pytest.mark.parametrize("kind", [k for k in KINDS if not k.startswith(NOT_FOR_DECORD)])
def test_decord_reads_the_same(kind: str, videos: Videos) -> None:
    """Another decoder's pixels may differ by rounding, its frames may not.

    decord is asked for one frame after the other: when it jumps into an open group of pictures
    it gives other frames than those asked for.
    """
    oracle = decord.VideoReader(str(videos(kind)), num_threads=1)
    theirs = np.array([oracle.next().asnumpy() for _ in range(NUM_FRAMES)])
    with VideoReader(videos(kind)) as reader:
        ours = reader.frames_at(ASKED).pixels
    assert numbers_of(ours) == numbers_of(theirs[ASKED]) == ASKED
    assert np.abs(ours.astype(int) - theirs[ASKED]).mean() < 4


@pytest.mark.parametrize("kind", ["h264-b-frames.mp4", "hevc.mp4", "vp9.webm", "mpeg2.mpg"])
def test_random_requests(kind: str, videos: Videos) -> None:
    random, whole = np.random.default_rng(7), np.array(decoded(videos(kind)))
    with VideoReader(videos(kind)) as reader:
        for _ in range(12):
            asked = random.choice(NUM_FRAMES, random.integers(1, 12))
            read = reader.frames_at(asked, threads=int(random.integers(1, 4)))
            assert np.array_equal(read.pixels, whole[asked])


def test_many_threads_read_one_file_at_once(videos: Videos) -> None:
    """The mark of a packet was found by the address of its number, the same in every thread."""
    path = videos("hevc.mp4")
    whole = np.array(decoded(path))
    for _ in range(15):
        with VideoReader(path) as reader:
            assert np.array_equal(reader.frames_at(range(NUM_FRAMES), threads=4).pixels, whole)


@pytest.mark.parametrize("kind", ["h264-variable.mp4", "h264-variable.mkv"])
def test_times_of_a_variable_rate(kind: str, videos: Videos) -> None:
    expected = (np.array(VFR_TIMES) - VFR_TIMES[0]) / 1000
    with VideoReader(videos(kind)) as reader:
        assert np.abs(reader.times_s - expected).max() < 0.0011
        assert reader.info.variable_rate
        moments = [0.0, 0.5, 2.5, expected[50] - 0.01, expected[50], 99.0]
        on_show = [int((expected <= moment + 0.001).sum()) - 1 for moment in moments]
        assert numbers_of(reader.frames_at_times(moments).pixels) == on_show
        assert on_show[3:] == [49, 50, NUM_FRAMES - 1]


def test_what_a_video_is(videos: Videos) -> None:
    info = probe(videos("h264-open-groups.mp4"))
    assert (info.num_frames, info.codec, info.variable_rate) == (NUM_FRAMES, "h264", False)
    assert (info.width_px, info.height_px, info.rotation_deg) == (WIDTH, HEIGHT, 0)
    assert info.duration_s == pytest.approx(NUM_FRAMES / FPS, abs=0.001)
    assert info.average_fps == pytest.approx(FPS, abs=0.001)


@pytest.mark.parametrize("kind", [k for k in KINDS if "variable" not in k and k != "picture.gif"])
def test_an_even_rate_is_seen_in_every_container(kind: str, videos: Videos) -> None:
    info = probe(videos(kind))
    assert not info.variable_rate
    assert info.average_fps == pytest.approx(FPS, rel=0.002)
    assert info.duration_s == pytest.approx(NUM_FRAMES / FPS, abs=0.04)


@pytest.mark.parametrize("cut_frames", [1, 7, 31, 45])
def test_an_edit_list_hides_the_frames_before_it(
    cut_frames: int, videos: Videos, tmp_path: Path
) -> None:
    """Cut without encoding again: earlier packets stay in the file, and are not shown."""
    path = tmp_path / "cut.mp4"
    remuxed(videos("h264-b-frames.mp4"), path, -cut_frames / FPS, avoid_negative_ts="disabled")
    whole = decoded(path)
    assert numbers_of(np.array(whole)) == list(range(cut_frames, NUM_FRAMES))
    with VideoReader(path) as reader:
        assert reader.info.num_frames == NUM_FRAMES - cut_frames
        assert np.array_equal(reader.frames_at(range(len(whole))).pixels, whole)
        assert number_of(reader.frames_at([40]).pixels[0]) == 40 + cut_frames
        assert number_of(reader.frames_at([0]).pixels[0]) == cut_frames


@pytest.mark.parametrize("shift_s", [-0.2, 0.5, 3.0])
@pytest.mark.parametrize("name", ["shifted.mkv", "shifted.mp4", "shifted.ts"])
def test_a_video_that_does_not_start_at_0(
    name: str, shift_s: float, videos: Videos, tmp_path: Path
) -> None:
    path = remuxed(videos("h264-b-frames.mp4"), tmp_path / name, shift_s)
    with VideoReader(path) as reader:
        late_s = 0.0 if name.endswith("ts") else max(shift_s, 0.0)
        assert reader.times_s[0] == reader.info.start_s == pytest.approx(late_s, abs=0.001)
        read = reader.frames_at(range(reader.info.num_frames))
        assert np.array_equal(read.pixels, decoded(path))
        hidden = 6 if name.endswith("mp4") and shift_s < 0 else 0
        assert numbers_of(read.pixels) == list(range(hidden, NUM_FRAMES))


@pytest.mark.parametrize("kind", ["h264.ts", "mpeg2.mpg", "h264-open-groups.mkv"])
def test_a_file_that_starts_amid_a_group(kind: str, videos: Videos, tmp_path: Path) -> None:
    """A recording begins anywhere; what cannot be decoded is no frame of it."""
    data = videos(kind).read_bytes()
    path = tmp_path / f"cut-{kind}"
    head = 600 if kind.endswith("mkv") else 0  # Matroska needs its header
    path.write_bytes(data[:head] + data[len(data) * 3 // 10 // 2048 * 2048 :])
    whole = decoded(path)
    with VideoReader(path) as reader:
        read = reader.frames_at(range(reader.info.num_frames))
        ours = dict(zip(read.indices.tolist(), read.pixels, strict=True))
        assert len(whole) - len(ours) <= 12  # of the first, broken group at most
        expected = {number_of(frame): frame for frame in whole}
        for frame in ours.values():
            assert np.array_equal(frame, expected[number_of(frame)])


def test_stop_ends_the_search_for_the_first_whole_frame(videos: Videos, tmp_path: Path) -> None:
    data = videos("mpeg2.mpg").read_bytes()
    path = tmp_path / "cut.mpg"
    path.write_bytes(data[len(data) * 3 // 10 // 2048 * 2048 :])
    with pytest.raises(Cancelled):
        build_index(path, CancelToken(lambda: True))


@pytest.mark.parametrize("num_zeros", [8, 40])
def test_units_that_are_padded_with_zeros(num_zeros: int, videos: Videos, tmp_path: Path) -> None:
    path = tmp_path / "padded.mp4"
    with av.open(str(videos("h264-b-frames.mp4"))) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copied = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.size:
                more = av.Packet(padded(bytes(packet), num_zeros))
                more.pts, more.dts, more.duration = packet.pts, packet.dts, packet.duration
                more.time_base, more.is_keyframe = packet.time_base, packet.is_keyframe
                more.stream = copied
                new.mux(more)
    whole = decoded(path)
    with VideoReader(path) as reader:
        read = reader.frames_at(range(reader.info.num_frames))
    assert numbers_of(read.pixels) == list(range(NUM_FRAMES))
    assert np.array_equal(read.pixels, whole)


def padded(packet: bytes, num_zeros: int) -> bytes:
    """Return a packet whose last unit, behind its length of four bytes, ends in more zeros."""
    place = 0
    while place + 4 + (size := int.from_bytes(packet[place : place + 4], "big")) < len(packet):
        place += 4 + size
    longer = (size + num_zeros).to_bytes(4, "big")
    return packet[:place] + longer + packet[place + 4 :] + bytes(num_zeros)


#: Display matrix a, b, c, d; how numpy makes the same of the stored frame; degrees clockwise.
TURNS = [
    ((1, 0, 0, 1), lambda stored: stored, 0),
    ((0, 1, -1, 0), lambda stored: np.rot90(stored, -1), 90),  # a telephone held upright
    ((-1, 0, 0, -1), lambda stored: np.rot90(stored, 2), 180),
    ((0, -1, 1, 0), lambda stored: np.rot90(stored), 270),
    ((-1, 0, 0, 1), lambda stored: stored[:, ::-1], 180),
    ((1, 0, 0, -1), lambda stored: stored[::-1], 0),
    ((0, 1, 1, 0), lambda stored: stored.transpose(1, 0, 2), 90),
    ((0, -1, -1, 0), lambda stored: np.rot90(stored, 2).transpose(1, 0, 2), 270),
]


@pytest.mark.parametrize(("matrix", "upright", "degrees"), TURNS)
def test_frames_are_upright(
    matrix: tuple[int, int, int, int],
    upright: Callable[[Any], Any],
    degrees: int,
    tmp_path: Path,
) -> None:
    a, b, c, d = (value << 16 for value in matrix)

    def setup(stream: Any) -> None:
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])

    path = encode(tmp_path / "phone.mp4", "libx264", num_frames=3, setup=setup)
    expected = upright(decoded(path)[1])
    with VideoReader(path) as reader:
        assert reader.info.rotation_deg == degrees
        assert (reader.info.height_px, reader.info.width_px) == expected.shape[:2]
        assert np.array_equal(reader.frames_at([1]).pixels[0], expected)
        small = reader.frames_at([1], (40, 30)).pixels[0]
        assert np.array_equal(small, upright(decoded(path, (30, 40) if b else (40, 30))[1]))


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    def setup(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = 2

    path = encode(tmp_path / "wide.mp4", "libx264", num_frames=2, setup=setup)
    info = probe(path)
    assert (info.width_px, info.height_px) == (2 * WIDTH, HEIGHT)
    with VideoReader(path) as reader:
        assert reader.frames_at([1]).pixels.shape == (1, HEIGHT, 2 * WIDTH, 3)


def test_ways_to_fill_a_size(videos: Videos) -> None:
    path = videos("h264-b-frames.mp4")
    with VideoReader(path) as reader:
        squashed = reader.frames_at([5], (60, 60)).pixels[0]
        covered = reader.frames_at([5], (60, 60), fit="cover").pixels[0]
        contained = reader.frames_at([5], (60, 60), fit="contain").pixels[0]
    assert np.array_equal(squashed, decoded(path, (60, 60))[5])
    assert np.array_equal(covered, decoded(path, (60, 100))[5][:, 20:80])
    assert np.array_equal(contained[12:48], decoded(path, (36, 60))[5])
    assert not contained[:12].any()
    assert not contained[48:].any()


def test_progress_and_stop_come_in_the_callers_thread(videos: Videos) -> None:
    told: list[tuple[int, int]] = []

    def stop() -> bool:
        assert current_thread().name == "MainThread"
        return False

    with open_video(videos("h264-b-frames.mp4"), cancel=CancelToken(stop)) as reader:
        reader.frames_at(
            range(60),
            cancel=CancelToken(stop),
            on_progress=lambda done, all_: told.append((done, all_)),
        )
    assert told[-1] == (60, 60)
    assert told == sorted(told)


def test_stop_ends_reading(videos: Videos) -> None:
    with VideoReader(videos("h264-one-group.mp4")) as reader:
        with pytest.raises(Cancelled):
            reader.frames_at(range(NUM_FRAMES), cancel=CancelToken(lambda: True))
        assert number_of(reader.frames_at([7]).pixels[0]) == 7  # and is as good as new


def test_an_error_of_the_caller_comes_through(videos: Videos) -> None:
    def broken(done: int, wanted: int) -> None:
        raise ZeroDivisionError

    with VideoReader(videos("vp9.webm")) as reader, pytest.raises(ZeroDivisionError):
        reader.frames_at([1, 2, 3], on_progress=broken)


@pytest.mark.parametrize(
    ("asked", "size", "says"),
    [
        ([], None, "at least one"),
        ([-1], None, "within 0..89 but got -1..-1"),
        ([3, 90], None, "within 0..89 but got 3..90"),
        ([1], (0, 5), "within 1..8192 but got 0 x 5"),
    ],
)
def test_impossible_requests(
    asked: list[int], size: tuple[int, int] | None, says: str, videos: Videos
) -> None:
    with VideoReader(videos("h264-b-frames.mp4")) as reader:
        with pytest.raises(InputError) as caught:
            reader.frames_at(asked, size)
        assert says in caught.value.message


def test_more_than_memory_holds(videos: Videos) -> None:
    reader = VideoReader(videos("h264-b-frames.mp4"))
    with reader, pytest.raises(MemoryLimitError) as caught:
        reader.frames_at(range(90), (4096, 4096))
    assert "need 4.5 GB; the limit is 4 GB" in caught.value.message


def test_a_reader_can_be_closed_and_used_again(videos: Videos) -> None:
    reader = VideoReader(videos("hevc.mp4"))
    reader.close()
    assert number_of(reader.frames_at([33]).pixels[0]) == 33
    reader.close()
    reader.close()


def test_a_video_of_hours(tmp_path: Path) -> None:
    """What is kept of a frame that is not asked for is its place and its time, no picture."""
    path = encode(
        tmp_path / "long.mp4",
        "libx264",
        {"preset": "ultrafast", "g": "50"},
        num_frames=1800,
        times=[number * 6 for number in range(1800)],
        ticks=1,
    )
    with VideoReader(path) as reader:
        assert reader.info.duration_s == pytest.approx(3 * 3600, abs=6)
        assert numbers_of(reader.frames_at_times([0, 5000, 10799]).pixels) == [0, 833, 1799]
        kept = [value for value in vars(reader._index).values() if isinstance(value, np.ndarray)]
        assert sum(value.nbytes for value in kept) <= 60 * 1800
    with pytest.raises(MediaError) as caught:
        VideoReader(path, max_seconds=3600)
    assert "s long; the limit is 3600 s. Trim it and try again." in caught.value.message
    with pytest.raises(Cancelled):
        VideoReader(path, cancel=CancelToken(lambda: True))


@pytest.mark.parametrize("space", [Colorspace.ITU709, Colorspace.ITU601])
def test_colours_are_those_of_the_space_that_the_file_names(
    space: Colorspace, tmp_path: Path
) -> None:
    colour = np.full((HEIGHT, WIDTH, 3), (200, 30, 60), np.uint8)
    tag = 1 if space == Colorspace.ITU709 else 5
    with av.open(str(tmp_path / "red.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = tag, 1
        frame = av.VideoFrame.from_ndarray(colour, "rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=space)
        frame.colorspace, frame.pts = tag, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with VideoReader(tmp_path / "red.mp4") as reader:
        for size in (None, (32, 32)):
            read = reader.frames_at([0], size).pixels.astype(int)
            assert np.abs(read - (200, 30, 60)).max() <= 5
