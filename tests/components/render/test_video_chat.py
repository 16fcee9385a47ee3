"""What a model looks at in a video, as the page shows it."""

import re

import numpy as np
import pytest

from components.render.video_chat import (
    FRAMES_SHOWN,
    answer_notes,
    frame_strip,
    message_line,
    plan_line,
)
from pipelines.core.results import ContextUse, Step
from pipelines.models.video_chat import Estimate, SeenFrames, VideoAnswer
from pipelines.serving.video_prefetch import VideoPrefetch


def seen(*times: float, end: float = 60.0) -> SeenFrames:
    return SeenFrames(times_s=times, start_s=0.0, end_s=end, video_end_s=end)


def pictures(*times: float) -> dict[float, np.ndarray]:
    return {time_s: np.zeros((9, 16, 3), np.uint8) for time_s in times}


def estimate(**changes: object) -> Estimate:
    facts: dict[str, object] = {
        "seen": seen(10.0, 30.0, 50.0), "num_frames": 4, "num_tokens": 64, "limit_tokens": 32768,
        "need_gb": 0.25, "free_gb": 8.0, "seconds": 12.3, "smaller": None,
    }  # fmt: skip
    return Estimate(**{**facts, **changes})  # type: ignore[arg-type]


def links(shown: str) -> list[str]:
    return re.findall(r"href='#t=([\d.]+)'", shown)


def test_each_frame_is_a_link_to_its_time() -> None:
    shown = frame_strip(seen(10.0, 30.0, 50.0, 50.0), pictures(10.0, 30.0, 50.0))
    assert links(shown) == ["10.000", "30.000", "50.000"], "a repeated frame is shown once"
    assert "3 frames, one every 20 s" in shown
    assert ">0:30.0<" in shown
    assert shown.count("data:image/jpeg;base64,") == 3


def test_of_many_frames_some_are_shown() -> None:
    times = [float(number) for number in range(300)]
    shown = frame_strip(seen(*times, end=300.0), pictures(*times))
    assert 50 < len(links(shown)) <= FRAMES_SHOWN
    assert f"{len(links(shown))} of the 300 frames" in shown


def test_a_frame_that_cannot_be_read_is_left_out() -> None:
    shown = frame_strip(seen(10.0, 30.0, 50.0), pictures(10.0, 50.0))
    assert links(shown) == ["10.000", "50.000"]


def test_close_frames_have_fine_times() -> None:
    shown = frame_strip(seen(0.03, 0.07, end=0.1), pictures(0.03, 0.07))
    assert ">0.03 s<" in shown


def test_a_plan() -> None:
    shown = plan_line(VideoPrefetch(estimate=estimate()))
    for fact in ("3 frames, one every 20 s", "64 of 32,768 tokens", "250 MB", "about 12 s"):
        assert fact in shown
    assert "is not seen" in shown
    assert "While" not in shown
    step = Step(done=8, total=64, unit="frames")
    assert "8 of 64 frames" in plan_line(VideoPrefetch(estimate=estimate(), step=step))
    assert "first word after about 12 s" in shown
    prepared = plan_line(VideoPrefetch(estimate=estimate(), ready=True))
    assert "prepared" in prepared
    assert "first word" not in prepared, "questions start at once"
    close = estimate(seen=seen(1.0, 2.0, end=3.0), seconds=None)
    assert "first word" not in plan_line(VideoPrefetch(estimate=close))
    assert "warning" not in plan_line(VideoPrefetch(estimate=close))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"need_gb": 9.0, "smaller": 32}, "9.0 GB are needed and 8.0 GB free. Allow 32 frames."),
        ({"smaller": 256}, "more than the model reads at once. Allow 256 frames."),
        ({"need_gb": 9.0, "smaller": 0}, "Choose another model."),
    ],
)
def test_what_does_not_fit_is_told(changes: dict[str, object], told: str) -> None:
    assert told in plan_line(VideoPrefetch(estimate=estimate(**changes)))


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "less than a second"), (59.6, "about 60 s"), (300.0, "about 5 minutes")],
)
def test_rough_times(seconds: float, told: str) -> None:
    assert told in plan_line(VideoPrefetch(estimate=estimate(seconds=seconds)))


def test_messages_stay_text() -> None:
    assert "class='warning'>no &lt;b&gt;" in plan_line(VideoPrefetch(problem="no <b>"))
    assert "&lt;b&gt;" in message_line("<b>")


@pytest.mark.parametrize(
    ("text", "from_s", "told"),
    [("It turns at 2 s.", 10.0, True), ("It turns at 2 s.", 0.0, False), ("Red.", 10.0, False)],
)
def test_where_times_of_an_answer_count_from_is_told(text: str, from_s: float, told: bool) -> None:
    answer = VideoAnswer(
        text=text,
        model="m",
        finish="end",
        history=(),
        seen=SeenFrames(
            times_s=(12.0,), start_s=10.0, end_s=20.0, video_end_s=60.0, counted_from_s=from_s
        ),
        context=ContextUse(used_tokens=1, limit_tokens=10),
        notes=("One note.",),
    )
    notes = answer_notes(answer)
    assert notes[0] == "One note."
    assert ["count from 0:10.0" in note for note in notes[1:]] == [True] * told
