"""What the line under a model picker tells."""

from dataclasses import replace

from components.widgets.model_picker import model_hint
from pipelines.core.options import GenerationOptions
from pipelines.core.settings import Settings
from pipelines.models.captioning.checkpoints import BLIP2_OPT
from pipelines.serving.store import PipelineStore


def test_the_memory_is_the_one_that_the_store_counts() -> None:
    """It was that of float32, whatever the quantisation."""
    settings = Settings(offline=True)
    exact = PipelineStore(settings)
    small = PipelineStore(replace(settings, quantization="nf4"))
    assert f"{BLIP2_OPT.memory_gb:.1f} GB of memory" in model_hint(exact, BLIP2_OPT)
    told = model_hint(small, BLIP2_OPT)
    assert f"{small.need_gb(BLIP2_OPT):.1f} GB of memory" in told
    assert f"{BLIP2_OPT.memory_gb:.1f} GB of memory" not in told


def test_a_tiny_temperature_is_none() -> None:
    """Logits over it overflowed, and the text was empty."""
    assert GenerationOptions(temperature=1e-40).temperature == 0.0
    assert GenerationOptions(temperature=0.1).temperature == 0.1
