"""The bundled VideoChat-Flash: what is kept of a conversation changes no answer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.compute.device import Device
from pipelines.core.settings import Settings
from pipelines.models.video_chat import VideoAnswer
from pipelines.models.videochat_flash.checkpoints import DEMO_VIDEOCHAT
from pipelines.models.videochat_flash.pipeline import VideoChatPipeline
from pipelines.weights.locate import BUNDLE

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.long]

EXAMPLES = Path(__file__).parents[3] / "assets" / "examples"
ENTRIES = json.loads((EXAMPLES / "chat_videos.json").read_text("utf-8"))
EDITED = "How many objects are there?"


def live() -> VideoChatPipeline:
    device = Device("cpu", "float32", False, "for a test")
    pipeline = VideoChatPipeline(DEMO_VIDEOCHAT, BUNDLE / DEMO_VIDEOCHAT.key, device, Settings())
    pipeline.load()
    return pipeline


@pytest.fixture(scope="module")
def kept() -> VideoChatPipeline:
    """Remembers what it has seen and read."""
    return live()


@pytest.fixture(scope="module")
def forgetful() -> VideoChatPipeline:
    return live()


def answer(
    chat: VideoChatPipeline, video: Path, question: str, history: Sequence[Any] | None
) -> VideoAnswer:
    (*_, last) = chat.ask(video, question, history)
    assert last.result is not None
    return last.result


def afresh(
    chat: VideoChatPipeline, video: Path, question: str, history: Sequence[Any] | None
) -> VideoAnswer:
    chat.forget()
    result = answer(chat, video, question, history)
    assert result.num_reused == 0
    return result


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
def test_kept_turns_are_those_computed_afresh(
    kept: VideoChatPipeline, forgetful: VideoChatPipeline, entry: dict[str, Any]
) -> None:
    """Three turns, then the second one edited, with what the first three left in the caches."""
    video = EXAMPLES / entry["file"]
    questions = [asked["question"] for asked in entry["questions"]]
    turns: list[VideoAnswer] = []
    for question in questions:
        history = turns[-1].history if turns else None
        turns.append(answer(kept, video, question, history))
        assert turns[-1].text == afresh(forgetful, video, question, history).text
    assert all(turn.num_reused > 128 for turn in turns[1:]), "the rows of the video were not kept"
    edited = answer(kept, video, EDITED, turns[0].history)
    assert edited.num_reused > 128
    assert edited.text == afresh(forgetful, video, EDITED, turns[0].history).text
    asked = [message["content"] for message in edited.history if message["role"] == "user"]
    assert asked == [questions[0], EDITED]


def test_a_demo_sees_eight_frames_of_a_video(kept: VideoChatPipeline) -> None:
    video = EXAMPLES / ENTRIES[0]["file"]
    for delta in kept.ask(video, "What does the circle do?"):
        seen = delta.seen
        if seen is not None:
            assert len(seen.times_s) == 8
            break
    else:
        raise AssertionError("the frames that were seen are told")
