"""Answers while another model is built: transformers sets torch's default dtype meanwhile.

It does so for the whole process, so whoever computes in another thread must name the dtype of
what it makes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.core.options import GenerationOptions
from pipelines.core.settings import Settings
from pipelines.core.spec import Task
from pipelines.serving.store import PipelineStore

EXAMPLES = Path(__file__).parent.parent.parent / "assets" / "examples"
PICTURE, VIDEO = EXAMPLES / "four-objects.png", EXAMPLES / "three-shapes.mp4"
DRAWN = GenerationOptions(temperature=0.7)


@contextmanager
def building_in_bfloat16() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def classified(clip: Any) -> str:
    return str(clip.classify(PICTURE, ["a red circle", "a blue square", "a green triangle"]))


def compared(clip: Any) -> str:
    return str(clip.embed_texts(["a red circle", "night"]).vectors)


def described(model: Any) -> str:
    return f"{model.caption([PICTURE])} {model.chat(PICTURE, 'how many shapes?', None, DRAWN)}"


def matched(model: Any) -> str:
    return str(model.match(VIDEO, ["a red circle moves left", "nothing moves"]))


def told(model: Any) -> str:
    return "".join(delta.text or "" for delta in model.ask(VIDEO, "What happens?"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("key", "task", "answer"),
    [
        ("demo-clip", "image-text", classified),
        ("demo-clip", "image-text", compared),
        ("demo-blip2", "caption", described),
        ("demo-viclip", "video-text", matched),
        ("demo-videochat", "video-chat", told),
    ],
)
def test_an_answer_is_the_same_while_another_model_is_built(
    key: str, task: Task, answer: Callable[[Any], str], tmp_path: Path
) -> None:
    answers = []
    for number in range(2):  # each with empty caches
        folder = tmp_path / str(number)
        settings = Settings(
            models="bundled", device="cpu", work_dir=folder / "work", cache_dir=folder / "cache"
        )
        with PipelineStore(settings).use(key, task) as model:
            if number:
                with building_in_bfloat16():
                    answers.append(answer(model))
            else:
                answers.append(answer(model))
    assert answers[0] == answers[1]
    assert answers[0]
