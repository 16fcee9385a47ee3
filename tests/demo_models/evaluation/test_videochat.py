"""The bundled demo-videochat: complete files, figures that hold, and the example answers."""

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch
from transformers import AutoTokenizer

from demo_models.evaluation.held_out import evaluation_rng
from demo_models.evaluation.videochat import PackageChat, measure, missed
from demo_models.evaluation.videochat_questions import (
    DIALOGUE_KINDS,
    GATES_PERCENT,
    Asked,
    Conversation,
    HeldOutVideo,
    conversations,
)
from demo_models.language.unanswerable import DONT_KNOW
from demo_models.make_assets import VIDEOS, find_motion, question_entry
from demo_models.training.videochat.data import NUM_FRAMES
from pipelines.models.videochat_flash.configuration_videochat_flash import read_config
from pipelines.models.videochat_flash.processing_videochat_flash import choose_frames
from tests.demo_models.bundled import ASSETS, CHECKPOINTS, load_json, slack_percent

CHECKPOINT = CHECKPOINTS / "demo-videochat"
CHAT_VIDEOS = json.loads((ASSETS / "examples" / "chat_videos.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def chat():
    return PackageChat(CHECKPOINT)


def test_configuration_has_the_fields_of_the_published_files():
    config = read_config(CHECKPOINT)
    assert (config.vision.kind, config.vision.clip_frames) == ("internvideo2", 4)
    assert config.merged_tokens == 64
    assert config.vision.grid**2 * config.vision.clip_frames > config.merged_tokens
    assert config.tied
    assert len(choose_frames(48, 12.0, max_num_frames=8, min_num_frames=8).indices) == NUM_FRAMES


def test_weights_are_float16_and_finite(chat):
    for parameter in chat.model.parameters():
        assert torch.equal(parameter, parameter.half().float())
        assert torch.isfinite(parameter).all()


def test_tokenizer_reads_lower_case_and_chatml():
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT, local_files_only=True)
    read = [tokenizer(text).input_ids for text in ("A RED Circle?", "a red circle?")]
    assert read[0] == read[1]
    assert len(tokenizer(DONT_KNOW).input_ids) == 1
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == tokenizer.eos_token_id
    assert tokenizer.decode(tokenizer("再见").input_ids) == "再见"


def test_published_figures_name_missed_gates():
    report = load_json("demo-videochat", "eval.json")
    accuracy = report["package"]["accuracy"]
    assert report["package"]["gates_missed"] == missed(accuracy)
    assert all(accuracy[kind]["n"] >= 300 for kind in GATES_PERCENT)
    assert accuracy["direction"]["chance_percent"] == 25


def test_every_gate_is_met_also_through_the_app():
    for via in ("package", "app"):
        report = load_json("demo-videochat", "eval.json")[via]
        assert report["gates_missed"] == missed(report["accuracy"]) == []
        assert all(report["accuracy"][kind]["n"] >= 199 for kind in GATES_PERCENT)


@pytest.mark.parametrize("num", [8, pytest.param(30, marks=pytest.mark.slow)])
def test_published_figures_hold_on_other_videos(chat, num):
    """Fewer questions about videos of another seed get about the published shares right."""
    published = load_json("demo-videochat", "eval.json")["package"]["accuracy"]
    found = measure(chat, conversations(977, num), [])
    for kind in (*DIALOGUE_KINDS, "turn_2", "turn_3"):
        percent = published[kind]["percent"]
        assert found[kind]["percent"] >= percent - slack_percent(percent, found[kind]["n"])


def test_answers_do_not_depend_on_the_case_of_letters(chat):
    for dialogue in islice(conversations(978, 3), 2):
        output = replace(
            dialogue, asked=tuple(replace(a, question=a.question.upper()) for a in dialogue.asked)
        )
        assert chat(output) == chat(dialogue)


@pytest.mark.parametrize("entry", CHAT_VIDEOS, ids=lambda entry: entry["file"])
def test_example_answers_are_true_and_the_demo_gives_them(entry, chat):
    example = next(example for example in VIDEOS if example.file == entry["file"])
    rng = evaluation_rng(entry["seed"], f"example video {example.name}")
    motion = find_motion(rng, example)
    assert question_entry(entry["seed"], example, motion) == entry
    assert (ASSETS / "examples" / entry["file"]).stat().st_size < 40_000
    asked = tuple(Asked("", q["question"], q["answer"]) for q in entry["questions"])
    answers = chat(Conversation(HeldOutVideo(motion, 4.0, 5), asked))
    assert answers == [question["answer"] for question in entry["questions"]]
