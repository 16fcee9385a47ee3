"""The bundled demo CLIP: its recipe runs, its files are complete, its figures hold."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForZeroShotImageClassification, AutoProcessor

from demo_models.evaluation.clip import StockClip, measure_questions
from demo_models.evaluation.clip_questions import GATES_PERCENT, questions
from demo_models.evaluation.scene_hint import area_under_curve, best_threshold
from demo_models.training.clip import train as train_clip
from demo_models.training.clip.data import BatchSizes, make_batch, make_cache
from demo_models.training.clip.losses import soft_cross_entropy
from demo_models.world.vocabulary import ALL_PAIRS, BACKGROUNDS, COLOURS, SHAPES

CHECKPOINT = Path(__file__).parents[2] / "assets" / "checkpoints" / "demo-clip"
MAX_BYTES = 4_000_000
NUM_SCENES = 120
SLACK_PERCENT = 5.0  # 2.5 standard errors of 120 answers at 95 %


def load_json(name):
    return json.loads((CHECKPOINT / name).read_text())


def test_smoke_training_makes_a_checkpoint_that_stock_classes_load(tmp_path):
    out = tmp_path / "checkpoint"
    train_clip.main(["--smoke", "--out", str(out), "--data", str(tmp_path / "data")])
    model = AutoModelForZeroShotImageClassification.from_pretrained(out, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(out)
    picture = torch.zeros(3, 90, 160, dtype=torch.uint8)
    inputs = processor(
        text=["a Red circle", "再见 🐈"], images=picture, return_tensors="pt", padding=True
    )
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)
    assert model(**inputs).logits_per_image.shape == (1, 2)
    again = tmp_path / "again"
    train_clip.main(["--smoke", "--out", str(again), "--data", str(tmp_path / "data")])
    weights = [(folder / "model.safetensors").read_bytes() for folder in (out, again)]
    assert weights[0] == weights[1]


def test_truth_matrix_agrees_with_the_labels():
    cache = make_cache(1, 40, 14)
    sizes = BatchSizes(scenes=10, non_scenes=4, hard_texts=4, off_world_texts=5)
    batch = make_batch(cache, np.random.default_rng(2), sizes)
    assert (np.diagonal(batch.truth)[:10] == 1).all()  # each scene's own text is true of it
    assert (batch.truth[-5:] == 0).all()
    assert batch.truth.shape == (len(batch.texts), 14)
    assert (batch.num_objects[10:] == 0).all()
    assert set(np.unique(batch.patch_shape)) <= {-100, *range(len(SHAPES) + 1)}


def test_soft_cross_entropy_against_plain_cross_entropy():
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    truth = torch.eye(5, dtype=torch.int8)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(5))
    assert torch.allclose(soft_cross_entropy(logits, truth), expected)
    truth[0, 1] = -1  # an undecided cell counts as if it were not there
    without = torch.nn.functional.cross_entropy(logits[:1, [0, 2, 3, 4]], torch.tensor([0]))
    assert torch.allclose(soft_cross_entropy(logits[:1], truth[:1]), without)


def test_area_under_curve_by_hand():
    assert area_under_curve([3, 2], [1, 0]) == 1.0
    assert area_under_curve([1], [1]) == 0.5
    assert area_under_curve([0, 2], [1]) == 0.5
    assert best_threshold([0.6, 0.7], [0.1, 0.2]) == (0.6, 1.0)
    assert best_threshold([0.6, 0.1], [0.3, 0.2])[1] == 0.75


def test_position_codes_differ_everywhere():
    codes = train_clip.sin_cos_positions(8, 128)[1:]
    distances = torch.cdist(codes, codes) + 10 * torch.eye(64)
    assert distances.min() > 0.5


def test_checkpoint_is_small_and_complete():
    files = {path.name: path.stat().st_size for path in CHECKPOINT.iterdir()}
    assert set(files) >= {
        "config.json",
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
    assert demo["scene_bank"] == [f"a photo of a {c} {s}" for c, s in ALL_PAIRS]
    assert demo["scene_score"] in ("softmax", "cosine")
    assert 0 < demo["scene_threshold"] < 1
    assert len(demo["held_out_pairs"]) == 12
    assert demo["parameters"] > 1e6
    assert demo["steps"] > 0
    assert isinstance(demo["seed"], int)


def test_config_pools_at_the_real_end_token():
    config = load_json("config.json")
    clip = AutoProcessor.from_pretrained(CHECKPOINT)
    assert config["text_config"]["eos_token_id"] == clip.tokenizer.eos_token_id
    assert config["text_config"]["max_position_embeddings"] == 32
    ids = clip.tokenizer("a RED circle " * 30, truncation=True)["input_ids"]
    assert len(ids) == 32
    assert ids[-1] == clip.tokenizer.eos_token_id


@pytest.mark.parametrize(("kind", "gate"), GATES_PERCENT.items())
def test_measured_figures_pass_their_gates(kind, gate):
    report = load_json("eval.json")
    demo = load_json("demo.json")
    assert report["checkpoint_steps"] == demo["steps"]
    figures = report["transformers"]["accuracy"][kind]
    assert figures["n"] >= 500
    assert figures["percent"] >= gate


def test_a_new_sample_agrees_with_the_measured_figures():
    asked = [
        question
        for question in questions(seed=9001, num=NUM_SCENES)
        if question.kind in GATES_PERCENT
    ]
    figures = measure_questions(StockClip(CHECKPOINT), asked)
    measured = load_json("eval.json")["transformers"]["accuracy"]
    assert set(figures) == set(GATES_PERCENT)
    for kind, figure in figures.items():
        assert figure["n"] == NUM_SCENES
        assert abs(figure["percent"] - measured[kind]["percent"]) < SLACK_PERCENT, kind


def test_the_measured_figures_are_of_these_weights():
    """Figures of another checkpoint, or of other thresholds, must not stand in the README."""
    from pipelines.catalogue import DEMO_CLIP

    figures = load_json("verdict.json")
    traits = DEMO_CLIP.contrastive
    assert traits.text_thresholds == tuple(figures["thresholds"])
    assert traits.pair_of_texts_thresholds == tuple(figures["pairs_of_texts"]["thresholds"])
    report = load_json("eval.json")
    assert set(report) >= {"transformers", "app"}
    digest = hashlib.sha256((CHECKPOINT / "model.safetensors").read_bytes()).hexdigest()
    assert report["weights_sha256"] == load_json("where.json")["weights_sha256"] == digest
    assert figures["weights_sha256"] == digest
