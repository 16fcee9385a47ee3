"""Videos against texts, and moments, through the public endpoints, with the bundled model."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from components.widgets.examples import drawn_videos
from tests.fakes.videos import VFR_TIMES, encode, sound_only

MATCH = {"api_name": "/match_video"}
FIND = {"api_name": "/find_moments"}
WAYS = "\n".join(f"a red circle moves {way}" for way in ("left", "right", "up", "down"))

Make = Callable[[Path], Path]


def entry_with(field: str) -> dict[str, Any]:
    return next(entry for entry in drawn_videos() if entry[field])


@pytest.fixture
def moving_left() -> str:
    """The example in which a red circle moves left."""
    entry = entry_with("texts")
    assert entry["true_texts"] == ["a red circle moves left"]
    return str(entry["path"])


@pytest.fixture
def story() -> dict[str, Any]:
    return entry_with("query")


def refusal(client: Client, **arguments: Any) -> str:
    with pytest.raises(AppError) as caught:
        client.predict(**arguments)
    message = str(caught.value.message)
    assert "Traceback" not in message
    assert "/" not in message
    return message


@pytest.mark.parametrize(
    "entry", [e for e in drawn_videos() if e["texts"]], ids=lambda e: e["file"]
)
def test_a_true_text_comes_first(client: Client, entry: dict[str, Any]) -> None:
    video = handle_file(entry["path"])
    label, _ = client.predict(video=video, texts="\n".join(entry["texts"]), **MATCH)
    assert label["label"] in entry["true_texts"]
    assert label["notes"] == []


def test_verdicts_do_not_depend_on_other_texts(client: Client, moving_left: str) -> None:
    video = handle_file(moving_left)
    alone = client.predict(video=video, texts="a red circle moves left\n", **MATCH)[1][0]
    among = client.predict(video=video, texts=f"{WAYS}\na blue star spins", **MATCH)[1][0]
    assert (alone["text"], alone["probability"]) == ("a red circle moves left", 1.0)
    assert (among["text"], among["verdict"]) == (alone["text"], alone["verdict"])
    assert among["cosine"] == pytest.approx(alone["cosine"], abs=1e-5)


def test_a_part_is_seen_alone(client: Client, story: dict[str, Any]) -> None:
    """The event of the story fits its own part and not the one before."""
    start, end = story["truth_s"]
    video = handle_file(story["path"])
    texts = f"{story['query']}\na green heart disappears"
    here = client.predict(video=video, texts=texts, start_s=start, end_s=end, **MATCH)
    before = client.predict(video=video, texts=texts, start_s=start - 4, end_s=start, **MATCH)
    times = here[0]["frame_times_s"]
    assert start - 0.1 <= times[0] < times[-1] <= end
    cosines = [{row["text"]: row["cosine"] for row in rows} for _, rows in (here, before)]
    assert cosines[0][story["query"]] > cosines[1][story["query"]]


def test_a_part_beyond_the_end_is_told(client: Client, moving_left: str) -> None:
    label, _ = client.predict(video=handle_file(moving_left), texts=WAYS, end_s=60.0, **MATCH)
    assert any("The video ends at 4.0 s" in note for note in label["notes"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"texts": WAYS, "start_s": -1.0, **MATCH}, "start_s must be"),
        ({"texts": WAYS, "start_s": 100.0, **MATCH}, "start"),
        ({"texts": WAYS, "start_s": 3.0, "end_s": 1.0, **MATCH}, "end"),
        ({"texts": WAYS, "end_s": 1e9, **MATCH}, "end_s must be"),
        ({"texts": " \n ", **MATCH}, "texts"),
        ({"texts": WAYS, "model": "demo-clip", **MATCH}, "Choose one of: viclip-l14"),
        ({"texts": WAYS, "fit": "crop", **MATCH}, "fit must be one of squash, letterbox"),
        ({"query": "a", "fit": "x" * 1000, **FIND}, "fit must be one of squash, letterbox"),
        ({"query": "  ", **FIND}, "query"),
        ({"query": "a", "window_s": 0.0, **FIND}, "window_s must be"),
        ({"query": "a", "stride_s": 5.0, **FIND}, "must not be longer than window_s"),
        ({"query": "a", "top_k": 0, **FIND}, "top_k must be"),
        ({"query": "a", "top_k": 101, **FIND}, "top_k must be"),
        ({"query": "a", "model": "gpt", **FIND}, "Choose one of: viclip-l14"),
    ],
)
def test_what_cannot_be_is_told(
    client: Client, moving_left: str, arguments: dict[str, Any], told: str
) -> None:
    assert told in refusal(client, video=handle_file(moving_left), **arguments)


def _write(content: bytes) -> Make:
    def make(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return make


def _first_half(path: Path) -> Path:
    """Write the first half of an MP4 whose index lies at its end."""
    whole = encode(path.with_name("whole.mp4"), "libx264")
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return path


NOT_VIDEOS: dict[str, Make] = {
    "empty.mp4": _write(b""),
    "text.mp4": _write(b"hello, this is text\n" * 50),
    "sound.mp4": sound_only,
    "half.mp4": _first_half,
}


@pytest.mark.parametrize("name", NOT_VIDEOS)
def test_what_is_no_video_is_told(client: Client, tmp_path: Path, name: str) -> None:
    video = handle_file(NOT_VIDEOS[name](tmp_path / name))
    for arguments in ({"texts": WAYS, **MATCH}, {"query": "a red circle", **FIND}):
        assert len(refusal(client, video=video, **arguments)) > 30


def moving_disc(path: Path, *, num: int = 40, rotate: bool = False) -> Path:
    """Write a red disc on white that moves to the left, rotated a quarter turn where asked."""
    rows, columns = np.mgrid[:96, :160]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height = (96, 160) if rotate else (160, 96)
        stream.pix_fmt = "yuv420p"
        for number in range(num):
            frame = np.full((96, 160, 3), 255, np.uint8)
            centre = 130 - 100 * number / max(1, num - 1)
            frame[(rows - 48) ** 2 + (columns - centre) ** 2 < 20**2] = (220, 20, 30)
            turned = np.ascontiguousarray(np.rot90(frame)) if rotate else frame
            container.mux(stream.encode(av.VideoFrame.from_ndarray(turned, "rgb24")))
        container.mux(stream.encode(None))
    if rotate:
        _set_rotation(path)
    return path


def _set_rotation(path: Path) -> None:
    """Make an MP4 say that it is shown turned by a quarter clockwise."""
    data = bytearray(path.read_bytes())
    track = data.index(b"tkhd") + 4
    matrix = track + (52 if data[track] else 40)
    values = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    for index, value in enumerate(values):
        place = matrix + 4 * index
        data[place : place + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("rotate", [False, True])
def test_a_video_of_another_hand(client: Client, tmp_path: Path, rotate: bool) -> None:
    video = handle_file(moving_disc(tmp_path / "disc.mp4", rotate=rotate))
    label, _ = client.predict(video=video, texts=WAYS, **MATCH)
    assert label["label"] == "a red circle moves left"


def test_one_frame(client: Client, tmp_path: Path) -> None:
    video = handle_file(moving_disc(tmp_path / "one.mp4", num=1))
    label, scores = client.predict(video=video, texts="a red circle\na blue star", **MATCH)
    assert scores[0]["text"] == "a red circle"
    assert any("one frame" in note for note in label["notes"])
    rows = client.predict(video=video, query="a red circle", **FIND)
    assert len(rows) == 1


def test_frames_are_made_square_as_asked(client: Client, tmp_path: Path) -> None:
    """What is outside the middle square is not seen where it is cut off."""
    path = encode(tmp_path / "wide.mp4", "libx264", num_frames=30)
    cosines, found = {}, {}
    for fit in ("", "squash", "letterbox", "centre-crop"):
        _, scores = client.predict(video=handle_file(path), texts=WAYS, fit=fit, **MATCH)
        cosines[fit] = tuple(score["cosine"] for score in scores)
        rows = client.predict(video=handle_file(path), query="a red circle", fit=fit, **FIND)
        found[fit] = tuple(row["cosine"] for row in rows)
    for each in (cosines, found):
        assert each[""] == each["squash"]
        assert len(set(each.values())) == 3


def test_a_variable_frame_rate(client: Client, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", times=VFR_TIMES, ticks=1000)
    label, _ = client.predict(video=handle_file(path), texts=WAYS, **MATCH)
    times = label["frame_times_s"]
    assert 5 <= len(times) <= 8, "one frame may stand for two pieces"
    assert times == sorted(set(times))
    rows = client.predict(video=handle_file(path), query="a red circle", **FIND)
    assert all(0 <= row["start_s"] < row["end_s"] <= 6 for row in rows)


def test_a_video_unlike_the_scenes_is_told(client: Client, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with av.open(str(tmp_path / "noise.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for _ in range(20):
            noise = rng.integers(0, 256, (96, 160, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, "rgb24")))
        container.mux(stream.encode(None))
    video = handle_file(tmp_path / "noise.mp4")
    label, scores = client.predict(video=video, texts=WAYS, **MATCH)
    assert any("does not look like a drawing" in note for note in label["notes"])
    assert {row["verdict"] for row in scores} == {"no match"}


def test_long_and_chinese_texts(client: Client, moving_left: str) -> None:
    video = handle_file(moving_left)
    long = "a red circle moves left and " * 60
    label, scores = client.predict(video=video, texts=f"{long}\n红色的圆向左移动", **MATCH)
    notes = {row["text"]: row["note"] for row in scores}
    assert "first 32 tokens" in notes[long.strip()]
    assert label["notes"], "the model reads English only, and says so"
    rows = client.predict(video=video, query="红色的圆向左移动", **FIND)
    assert rows[0]["note"]


def test_the_event_of_a_story_is_found(client: Client, story: dict[str, Any]) -> None:
    rows = client.predict(video=handle_file(story["path"]), query=story["query"], **FIND)
    start, end = story["truth_s"]
    best = rows[0]
    shared = min(end, best["end_s"]) - max(start, best["start_s"])
    together = max(end, best["end_s"]) - min(start, best["start_s"])
    assert shared / together > 0.4
    spans = sorted((row["start_s"], row["end_s"]) for row in rows)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_no_more_moments_than_asked_for(client: Client, story: dict[str, Any]) -> None:
    video = handle_file(story["path"])
    assert len(client.predict(video=video, query=story["query"], top_k=1, **FIND)) == 1
    many = client.predict(video=video, query="a red circle", top_k=100, stride_s=0.5, **FIND)
    assert 1 <= len(many) < 100
