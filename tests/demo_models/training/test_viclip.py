"""Training of demo-viclip: data, labels, and a checkpoint that the app loads."""

import numpy as np
import torch

from demo_models.evaluation.viclip import open_viclip
from demo_models.training.viclip.data import MIXES, SamplePool, VideoSizes, make_batch
from demo_models.training.viclip.heads import choose_tokens, stack_labels
from demo_models.world.motion import EVENT_KINDS
from demo_models.world.motion_sampling import sample_motion
from demo_models.world.vocabulary import SHAPES
from tests.demo_models.bundled import smoke_train, weights
from tests.support.viclip_golden import similarities


def test_smoke_training_makes_a_checkpoint_that_the_app_loads(tmp_path):
    out = smoke_train("demo-viclip", tmp_path)
    with open_viclip(out) as viclip:
        frames = np.zeros((8, 90, 160, 3), dtype=np.uint8)
        cosines, _ = similarities(viclip, [frames], ["a Red circle moves left", "再见 🐈"])
        assert cosines.shape == (1, 2)
    assert weights(out) == weights(smoke_train("demo-viclip", tmp_path, "again"))


def test_truth_matrix_agrees_with_the_texts():
    sizes = VideoSizes(motions=10, twins=4, non_scenes=2, hard_texts=6, unrelated_texts=5)
    batch = make_batch(np.random.default_rng(2), sizes, SamplePool(sizes))
    assert batch.pixels.shape == (16, 8, 64, 64, 3)
    assert batch.truth.shape == (len(batch.texts), 16)
    assert (np.diagonal(batch.truth)[:14] == 1).all()  # each motion's own text is true of it
    assert (batch.truth[-5:] == 0).all()
    assert (batch.truth[:, -2:] <= 0).all()
    labels = stack_labels(batch.labels)
    assert labels["shape"].shape == (16, 512)
    assert labels["ever"].shape == (16, 512, len(EVENT_KINDS))
    # a patch tells the shape of an object of its own video, at the place where it lies
    shown = [one.shape[one.shape < len(SHAPES)] for one in batch.labels]
    assert all((found >= -100).all() for found in shown)
    chosen = choose_tokens(labels["owners"], 64, torch.Generator().manual_seed(0))
    assert chosen.shape == (16, 64)
    assert (chosen.diff(dim=1) > 0).all()


def test_empty_patches_of_used_places_are_read_before_others():
    owners = torch.full((1, 64, 8), 254, dtype=torch.uint8)
    owners[0, 10, 4:] = 0  # an object appears at place 10
    flat = owners.flatten(1)
    random = torch.Generator().manual_seed(0)
    counts = {True: 0, False: 0}
    for by_place in counts:
        for _ in range(50):
            chosen = choose_tokens(flat, 100, random, by_place)[0]
            counts[by_place] += int(((chosen >= 80) & (chosen < 84)).sum())
    assert counts[True] > 2 * counts[False] > 0


def test_weak_kinds_come_more_often():
    rng = np.random.default_rng(0)
    kinds = [
        event.kind
        for _ in range(150)
        for mover in sample_motion(rng, MIXES["weak"]).movers
        for event in mover.events
    ]
    assert kinds.count("appear") > 1.5 * kinds.count("left")


def test_motions_are_used_again_with_new_texts():
    sizes = VideoSizes(motions=6, twins=0, non_scenes=0, hard_texts=0, unrelated_texts=0)
    rng, pool = np.random.default_rng(1), SamplePool(sizes, 3)
    first, second = make_batch(rng, sizes, pool), make_batch(rng, sizes, pool)
    known = {clip.tobytes() for clip in first.pixels}
    again = [clip.tobytes() in known for clip in second.pixels]
    assert sum(again) == 4
    assert set(first.texts) != set(second.texts)
