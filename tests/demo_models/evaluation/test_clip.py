"""The bundled demo-clip: configuration, thresholds, and figures that hold on a new sample."""

from transformers import AutoProcessor

from demo_models.evaluation.clip import StockClip, measure_questions
from demo_models.evaluation.clip_questions import GATES_PERCENT, gated_questions
from pipelines.models.catalogue import DEMO_CLIP
from tests.demo_models.bundled import CHECKPOINTS, load_json

CHECKPOINT = CHECKPOINTS / "demo-clip"
NUM_SCENES = 120
SLACK_PERCENT = 5.0  # 2.5 standard errors of 120 answers at 95 %


def test_config_pools_at_the_real_end_token():
    config = load_json("demo-clip", "config.json")
    clip = AutoProcessor.from_pretrained(CHECKPOINT)
    assert config["text_config"]["eos_token_id"] == clip.tokenizer.eos_token_id
    assert config["text_config"]["max_position_embeddings"] == 32
    ids = clip.tokenizer("a RED circle " * 30, truncation=True)["input_ids"]
    assert len(ids) == 32
    assert ids[-1] == clip.tokenizer.eos_token_id


def test_a_new_sample_agrees_with_the_measured_figures():
    asked = gated_questions(seed=9001, num=NUM_SCENES)
    figures = measure_questions(StockClip(CHECKPOINT), asked)
    measured = load_json("demo-clip", "eval.json")["transformers"]["accuracy"]
    assert set(figures) == set(GATES_PERCENT)
    for kind, figure in figures.items():
        assert figure["n"] == NUM_SCENES
        assert abs(figure["percent"] - measured[kind]["percent"]) < SLACK_PERCENT, kind


def test_the_catalogue_has_the_calibrated_thresholds():
    figures = load_json("demo-clip", "verdict.json")
    traits = DEMO_CLIP.contrastive
    assert traits.text_thresholds == tuple(figures["thresholds"])
    assert traits.pair_of_texts_thresholds == tuple(figures["pairs_of_texts"]["thresholds"])
