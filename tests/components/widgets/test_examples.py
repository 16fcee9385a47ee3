"""Examples in the language that a model is asked in."""

import re

import gradio as gr
import pytest

from components.server.translate import speaking
from components.widgets.examples import (
    ExampleStrip,
    Rows,
    classify_examples,
    example_strip,
    similarity_examples,
    video_chat_examples,
)
from components.widgets.model_picker import asked_in_chinese
from pipelines.models.catalogue import MODELS

CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.mark.parametrize(
    ("key", "browser", "asked"),
    [
        ("chinese-clip-b16", "en", True),
        ("siglip2-b16", "en", False),
        ("siglip2-b16", "zh", True),
        ("clip-vit-l14", "zh", False),
        ("videochat-flash-2b-448", "zh", True),
        ("demo-clip", "zh", False),
        ("a-remote-model", "zh", False),
    ],
)
def test_who_is_asked_in_chinese(key: str, browser: str, asked: bool) -> None:
    with speaking(browser):
        assert asked_in_chinese(key) is asked


@pytest.mark.parametrize("examples", [classify_examples, similarity_examples, video_chat_examples])
def test_each_example_of_the_real_models_is_there_in_chinese(examples: object) -> None:
    drawn, real, chinese = examples()  # type: ignore[operator]
    assert not CHINESE.search(str(drawn)), "the demo models read English only"
    assert len(real) == len(chinese)
    for row, said in zip(real, chinese, strict=True):
        for value, other in zip(row, said, strict=True):
            is_media = isinstance(value, list) or "/" in value
            assert other == value if is_media else CHINESE.search(other)
            if not is_media:
                assert value.count("\n") == other.count("\n")


def strip_of(chinese: Rows) -> ExampleStrip:
    with gr.Blocks(analytics_enabled=False):
        return example_strip(lambda: gr.Textbox(render=False), [["a"]], [["b"]], chinese)


def test_the_strip_that_suits_model_and_browser_is_shown() -> None:
    both, english = strip_of([["c"]]), strip_of(())
    with speaking("zh"):
        for spec in MODELS:
            in_chinese = not spec.demo and "zh" in spec.languages
            assert both.shown_for(spec.key) == (0 if spec.demo else 2 if in_chinese else 1)
            assert english.shown_for(spec.key) == (0 if spec.demo else 1)
    assert both.shown_for("siglip2-b16") == 1
