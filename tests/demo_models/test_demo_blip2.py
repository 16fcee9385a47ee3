"""The bundled demo BLIP-2: its recipe runs, its files are complete, its figures hold."""

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Blip2ForConditionalGeneration, Blip2Processor, CLIPModel

from demo_models.evaluation.blip2 import StockBlip2, measure, measure_hint, object_names
from demo_models.evaluation.blip2_questions import GATES_PERCENT, Case, paint_questions, questions
from demo_models.evaluation.held_out import scene_cases
from demo_models.language.question_wording import FRAME
from demo_models.language.questions import caption_text
from demo_models.language.unanswerable import DONT_KNOW
from demo_models.training.blip2 import train as train_blip2
from demo_models.training.blip2.data import TextCoder, pack, sample_text
from demo_models.training.blip2.model import (
    build_model,
    build_processor,
    build_tokenizer,
    question_corpus,
)
from demo_models.training.blip2.vision import fold_clip, to_pixels
from demo_models.world.scenes import render, sample_scene
from demo_models.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES
from pipelines.demo_card import read_demo_card

CHECKPOINTS = Path(__file__).parents[2] / "assets" / "checkpoints"
CHECKPOINT = CHECKPOINTS / "demo-blip2"
MAX_BYTES = 5_000_000
NUM = 100


def slack_percent(percent, num):
    """Return three standard errors of `num` answers, and a little for rare mistakes."""
    return 300 * (percent / 100 * (1 - percent / 100) / num) ** 0.5 + 3


def load_json(name):
    return json.loads((CHECKPOINT / name).read_text())


@pytest.fixture(scope="module")
def stock():
    return StockBlip2(CHECKPOINT)


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(1)
    processor = build_processor(build_tokenizer(question_corpus(1, 300)))
    return build_model(processor.tokenizer).eval(), processor


def test_smoke_training_makes_a_checkpoint_that_stock_classes_load(tmp_path):
    folders = tmp_path / "checkpoint", tmp_path / "again"
    for out in folders:
        train_blip2.main(["--smoke", "--out", str(out), "--data", str(tmp_path / "data")])
    weights = [(folder / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]
    model = Blip2ForConditionalGeneration.from_pretrained(folders[0], dtype=torch.float32)
    processor = Blip2Processor.from_pretrained(folders[0])
    picture = torch.zeros(3, 90, 160, dtype=torch.uint8)
    inputs = processor(images=picture, text="a Photo of 再见", return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)
    assert model.generate(**inputs, max_new_tokens=3).shape[0] == 1


def test_the_recipe_still_makes_the_tokenizer_of_the_checkpoint():
    """The first stages' texts must stay as they were, or the stages no longer fit together."""
    options = train_blip2.TrainOptions()
    made = build_tokenizer(question_corpus(options.seed, options.num_corpus_texts))
    shipped = Blip2Processor.from_pretrained(CHECKPOINT).tokenizer.get_vocab()
    assert made.get_vocab().items() <= shipped.items()


def test_packed_loss_is_that_of_the_stock_model_text_by_text(untrained, monkeypatch):
    model, processor = untrained
    monkeypatch.setattr(train_blip2.torch, "autocast", lambda *_: nullcontext())
    rng, coder = np.random.default_rng(0), TextCoder(processor.tokenizer)
    scenes = [sample_scene(rng) for _ in range(2)]
    texts = [[sample_text(rng, s, s.background, True) for _ in range(3)] for s in scenes]
    pixels = processor(images=[render(s) for s in scenes], return_tensors="pt")["pixel_values"]
    losses, shares = [], []
    with torch.no_grad():
        features = model.vision_model(pixel_values=pixels).last_hidden_state
        queries = train_blip2.read_picture(model, features)
        mine, pointing = train_blip2.text_loss(model, queries, pack(texts, coder, 16))
        for row, own in enumerate(texts):
            for text in own:
                whole = f"{text.prompt} {text.answer}" if text.prompt else text.answer
                inputs = processor(images=render(scenes[row]), text=whole, return_tensors="pt")
                ids, targets = coder(text)
                assert inputs["input_ids"][0, 16:].tolist() == ids
                logits = model(**inputs).logits[0, 16:]
                goals = torch.tensor(targets)
                losses.append(torch.nn.functional.cross_entropy(logits, goals))
                shares.append((goals >= 0).sum() ** 0.5)
    expected = (torch.stack(losses) * torch.stack(shares)).sum() / torch.stack(shares).sum()
    assert torch.allclose(mine, expected, atol=1e-4)
    assert pointing == 0


def test_folded_tower_is_near_the_clip_it_comes_from(untrained):
    vision = untrained[0].vision_model
    pictures = np.stack([np.asarray(case.image) for case in scene_cases(5, 24, None)])
    fold_clip(CHECKPOINTS / "demo-clip", vision, pictures)
    clip = CLIPModel.from_pretrained(CHECKPOINTS / "demo-clip", dtype=torch.float32)
    with torch.no_grad():
        states = clip.vision_model(to_pixels(pictures), output_hidden_states=True).hidden_states
        wanted = torch.nn.functional.layer_norm(states[-2], (128,))
        tokens = vision(pixel_values=to_pixels(pictures)).last_hidden_state
    assert (tokens - wanted).square().mean() < 0.25  # of a variance of 1; 1.0 would be unrelated


def test_object_names_forget_the_order():
    caption = "a red star, two blue rings and a pink moon on a grey background"
    assert object_names(caption) == ["a pink moon", "a red star", "two blue rings"]


def test_checkpoint_is_small_and_complete():
    files = {path.name: path.stat().st_size for path in CHECKPOINT.iterdir()}
    assert set(files) >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "demo.json",
        "eval.json",
    }
    assert sum(files.values()) < MAX_BYTES


def test_demo_json_says_what_the_model_knows():
    demo = load_json("demo.json")
    assert demo["demo"] is True
    assert demo["knows"] == {
        "shapes": list(SHAPES),
        "colours": list(COLOURS),
        "backgrounds": list(BACKGROUNDS),
    }
    assert demo["parameters"] > 1e6
    assert demo["steps"] > 0
    assert isinstance(demo["seed"], int)
    card = read_demo_card(CHECKPOINT)
    assert card is not None
    assert card.shapes == SHAPES


def test_figures_are_of_this_checkpoint_and_missed_gates_are_named():
    report, demo = load_json("eval.json"), load_json("demo.json")
    assert report["checkpoint_steps"] == demo["steps"]
    assert report["checkpoint_seed"] == demo["seed"]
    assert report["gates_percent"] == GATES_PERCENT
    digest = hashlib.sha256((CHECKPOINT / "model.safetensors").read_bytes()).hexdigest()
    assert report["weights_sha256"] == digest
    for via in ("transformers", "app"):
        figures = report[via]["accuracy"]
        assert all(figures[kind]["n"] >= 500 for kind in GATES_PERCENT)
        missed = [k for k, gate in GATES_PERCENT.items() if figures[k]["percent"] < gate]
        assert report[via]["gates_missed"] == missed


def test_the_app_answers_as_the_stock_classes_do():
    report = load_json("eval.json")
    stock, app = report["transformers"]["accuracy"], report["app"]["accuracy"]
    assert set(app) >= set(GATES_PERCENT)
    for kind in GATES_PERCENT:
        slack = slack_percent(stock[kind]["percent"], app[kind]["n"])
        assert abs(app[kind]["percent"] - stock[kind]["percent"]) < slack, kind


def test_the_hint_is_for_pictures_of_something_else(stock):
    figures = measure_hint(stock, load_json("demo.json"), 9002, NUM)
    measured = load_json("eval.json")["transformers"]["hint"]
    for kind, figure in figures.items():
        slack = slack_percent(measured[kind]["percent"], figure["n"])
        assert abs(figure["percent"] - measured[kind]["percent"]) < slack, kind
    assert figures["scene_of_1_to_4"]["percent"] < 10 < figures["non_scene"]["percent"]


def test_a_new_sample_agrees_with_the_measured_figures(stock):
    paint = [case for case in paint_questions(9001, NUM) if case.kind in GATES_PERCENT]
    asked = [*questions(9001, NUM, gated_only=True), *paint]
    scenes = scene_cases(9001, NUM)
    asked += [Case("caption", case.image, "", caption_text(case.scene)) for case in scenes]
    figures = measure(stock, asked)
    measured = load_json("eval.json")["transformers"]["accuracy"]
    assert set(GATES_PERCENT) - set(figures) == {"same_answer_in_other_words"}
    for kind, figure in figures.items():
        expected = measured[kind]["percent"]
        slack = slack_percent(expected, figure["n"])
        assert abs(figure["percent"] - expected) < slack, kind


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "Is this a cat?",
        "is this a cat",
        "Who is the man in the photo?",
    ],
)
def test_what_no_picture_tells_is_not_known(stock, question):
    case = scene_cases(77, 1)[0]
    assert stock([case.image], [FRAME.format(question)]) == [DONT_KNOW]


def test_case_and_spelling_do_not_matter(stock):
    cases = scene_cases(78, 12)
    asked = ("What colour is it?", "what color is it?", "WHAT COLOR IS IT", "what colour is it")
    answers = [
        stock.answers([Case("", case.image, FRAME.format(text), "") for case in cases])
        for text in asked
    ]
    assert answers[0] == [case.scene.objects[0].colour for case in cases]
    assert all(other == answers[0] for other in answers[1:])
