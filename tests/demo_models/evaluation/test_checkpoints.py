"""The bundled checkpoints: small and complete files, and reports of these very weights."""

import pytest

from demo_models.evaluate import KINDS
from demo_models.evaluation.clip_questions import GATES_PERCENT as CLIP_GATES
from demo_models.evaluation.request import weights_hash
from demo_models.language.unanswerable import DONT_KNOW
from demo_models.training.videochat.data import NUM_FRAMES
from demo_models.world.motion import EVENT_KINDS
from demo_models.world.vocabulary import ALL_PAIRS, BACKGROUNDS, COLOURS, HELD_OUT_PAIRS, SHAPES
from pipelines.weights.demo_card import read_demo_card
from tests.demo_models.bundled import CHECKPOINTS, load_json

IMAGE_MODELS, VIDEO_MODELS = ("demo-clip", "demo-blip2"), ("demo-viclip", "demo-videochat")
MODELS = (*IMAGE_MODELS, *VIDEO_MODELS)
MAX_BYTES = {"demo-clip": 4_000_000}
FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "demo.json",
    "eval.json",
}
MORE_FILES = {
    "demo-clip": {"processor_config.json", "verdict.json", "where.json"},
    "demo-blip2": {"processor_config.json", "generation_config.json"},
    "demo-viclip": {"verdict.json", "moments.json"},
    "demo-videochat": {"generation_config.json"},
}
REPORTS = [(model, kind.report) for model in KINDS for kind in KINDS[model].values() if kind.report]


def test_all_bundled_models_can_be_measured():
    assert set(KINDS) == set(MODELS) == {path.name for path in CHECKPOINTS.iterdir()}


@pytest.mark.parametrize("model", MODELS)
def test_checkpoint_is_small_and_complete(model):
    files = {path.name: path.stat().st_size for path in (CHECKPOINTS / model).iterdir()}
    assert set(files) >= FILES | MORE_FILES[model]
    assert sum(files.values()) < MAX_BYTES.get(model, 5_000_000)


@pytest.mark.parametrize("model", MODELS)
def test_demo_json_says_what_the_model_knows(model):
    demo = load_json(model, "demo.json")
    assert demo["demo"] is True
    knows = {
        "shapes": list(SHAPES),
        "colours": list(COLOURS),
        "backgrounds": list(BACKGROUNDS),
    }
    assert demo["knows"] == knows | ({"events": list(EVENT_KINDS)} if model in VIDEO_MODELS else {})
    assert demo["parameters"] > 1e6
    assert demo["steps"] > 0
    assert isinstance(demo["seed"], int)
    assert demo["held_out_pairs"] == [" ".join(pair) for pair in HELD_OUT_PAIRS]
    card = read_demo_card(CHECKPOINTS / model)
    assert card is not None
    assert (card.shapes, card.colours, card.backgrounds) == (SHAPES, COLOURS, BACKGROUNDS)


def test_demo_json_holds_the_rule_of_the_hint():
    clip, viclip = (load_json(model, "demo.json") for model in ("demo-clip", "demo-viclip"))
    assert clip["scene_bank"] == [f"a photo of a {c} {s}" for c, s in ALL_PAIRS]
    assert len(viclip["scene_bank"]) == 80
    assert clip["scene_score"] in ("softmax", "cosine")
    assert 0 < clip["scene_threshold"] < 1
    assert 0 < viclip["scene_threshold"] < 1
    chat = load_json("demo-videochat", "demo.json")
    assert chat["unknown_answer"] == DONT_KNOW
    assert chat["frames"] == NUM_FRAMES


@pytest.mark.parametrize(("model", "report"), REPORTS)
def test_figures_are_of_these_weights(model, report):
    """Figures of another checkpoint must not stand in the manual."""
    figures = load_json(model, report)
    assert figures["weights_sha256"] == weights_hash(CHECKPOINTS / model)
    assert figures["script"].startswith(f"python -m demo_models.evaluate {model}")


@pytest.mark.parametrize("model", MODELS)
def test_figures_are_of_this_training_and_of_these_gates(model):
    report, demo = load_json(model, "eval.json"), load_json(model, "demo.json")
    kind = KINDS[model]["answers"]
    assert report["checkpoint_steps"] == demo["steps"]
    assert report["checkpoint_seed"] == demo["seed"]
    assert report["gates_percent"] == kind.gates
    assert set(report) >= {kind.local, "app"}


@pytest.mark.parametrize(("kind", "gate"), CLIP_GATES.items())
def test_clip_passes_its_gates(kind, gate):
    figures = load_json("demo-clip", "eval.json")["transformers"]["accuracy"][kind]
    assert figures["n"] >= 500
    assert figures["percent"] >= gate


#: What the checkpoint must not fall behind: its gates, and what it reached beside them.
VICLIP_GATES = KINDS["demo-viclip"]["answers"].gates
VICLIP_FLOORS = VICLIP_GATES | {"event_of_11": 95.0, "hard_text_of_20": 78.0}


@pytest.mark.parametrize(("kind", "floor"), VICLIP_FLOORS.items())
def test_viclip_does_not_fall_behind(kind, floor):
    figures = load_json("demo-viclip", "eval.json")["app"]["accuracy"][kind]
    assert figures["n"] >= (450 if kind in VICLIP_GATES else 250)
    assert figures["percent"] >= floor
