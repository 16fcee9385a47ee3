"""Training of demo-clip: data, losses, and a checkpoint that stock classes load."""

import numpy as np
import torch
from transformers import AutoModelForZeroShotImageClassification, AutoProcessor

from demo_models.training.clip.data import BatchSizes, make_batch, make_cache
from demo_models.training.clip.losses import soft_cross_entropy
from demo_models.training.clip.model import sin_cos_positions
from demo_models.world.vocabulary import SHAPES
from tests.demo_models.bundled import smoke_train, weights


def test_smoke_training_makes_a_checkpoint_that_stock_classes_load(tmp_path):
    out = smoke_train("demo-clip", tmp_path)
    model = AutoModelForZeroShotImageClassification.from_pretrained(out, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(out)
    image = torch.zeros(3, 90, 160, dtype=torch.uint8)
    inputs = processor(
        text=["a Red circle", "再见 🐈"], images=image, return_tensors="pt", padding=True
    )
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)
    assert model(**inputs).logits_per_image.shape == (1, 2)
    assert weights(out) == weights(smoke_train("demo-clip", tmp_path, "again"))


def test_truth_matrix_agrees_with_the_labels():
    cache = make_cache(1, 40, 14)
    sizes = BatchSizes(scenes=10, non_scenes=4, hard_texts=4, unrelated_texts=5)
    batch = make_batch(cache, np.random.default_rng(2), sizes)
    assert (np.diagonal(batch.truth)[:10] == 1).all()  # each scene's own text is true of it
    assert (batch.truth[-5:] == 0).all()
    assert batch.truth.shape == (len(batch.texts), 14)
    assert (batch.labels["num_objects"][10:] == 0).all()
    assert set(np.unique(batch.labels["patch_shape"])) <= {-100, *range(len(SHAPES) + 1)}


def test_soft_cross_entropy_against_plain_cross_entropy():
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    truth = torch.eye(5, dtype=torch.int8)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(5))
    assert torch.allclose(soft_cross_entropy(logits, truth), expected)
    truth[0, 1] = -1  # an undecided cell counts as if it were not there
    without = torch.nn.functional.cross_entropy(logits[:1, [0, 2, 3, 4]], torch.tensor([0]))
    assert torch.allclose(soft_cross_entropy(logits[:1], truth[:1]), without)


def test_position_codes_differ_everywhere():
    codes = sin_cos_positions(8, 128)[1:]
    distances = torch.cdist(codes, codes) + 10 * torch.eye(64)
    assert distances.min() > 0.5
