"""Evaluation sets: fixed by their seed, balanced, and of the right pairs."""

from demo_models.evaluation.held_out import (
    PAIR_KINDS,
    caption_cases,
    drawing_cases,
    labelled_pairs,
    localisation_cases,
    scene_cases,
    unrelated_images,
    unrelated_texts,
)
from demo_models.world.vocabulary import HELD_OUT_PAIRS, SEEN_PAIRS


def test_evaluation_sets_are_fixed_by_their_seed():
    makers = (
        lambda seed: [case.image.tobytes() for case in scene_cases(seed, 4)],
        lambda seed: [case.image.tobytes() for case in drawing_cases(seed, 3, "tool")],
        lambda seed: [image.tobytes() for image in unrelated_images(seed, 3)],
        lambda seed: [case.captions for case in caption_cases(seed, 3)],
        lambda seed: [(p.text, p.image.tobytes()) for p in labelled_pairs(seed, 16)],
        lambda seed: unrelated_texts(seed, 5),
    )
    for make in makers:
        assert make(1) == make(1)
        assert make(1) != make(2)


def test_unseen_scenes_show_only_held_out_pairs():
    for case in scene_cases(3, 20, None, seen_pairs=False):
        assert {(o.colour, o.shape) for o in case.scene.objects} <= set(HELD_OUT_PAIRS)


def test_labelled_pairs_are_balanced_within_every_prefix():
    pairs = labelled_pairs(4, 64)
    assert [pair.is_true for pair in pairs] == [False, True] * 32
    assert {pair.kind for pair in pairs} == set(PAIR_KINDS)
    always_false = {"off-world", "non-scene"}
    assert not any(pair.is_true for pair in pairs if pair.kind in always_false)


def test_pointing_cases_name_one_object_and_its_place():
    for case in localisation_cases(6, 10, size=96):
        assert case.image.size == (96, 96)
        assert case.mask.shape == (96, 96)
        assert case.mask.dtype == bool
        assert 0.005 < case.mask.mean() < 0.3
        assert tuple(case.label.split()) in SEEN_PAIRS
