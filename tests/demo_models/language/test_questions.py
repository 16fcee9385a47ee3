"""Questions about scenes: every answer is true, evaluation wordings are never trained on."""

from dataclasses import replace

import numpy as np
import pytest

from demo_models.language import unanswerable
from demo_models.language.question_wording import HELD_OUT, MORE, TRAINED, with_unknown_word
from demo_models.language.questions import (
    Query,
    caption_text,
    make_query,
    phrase,
    place_name,
)
from demo_models.language.statement_wording import NUMBER_WORDS, RELATION_WORDS, article
from demo_models.language.statements import has_size
from demo_models.language.unanswerable import unanswerable_question
from demo_models.language.unrelated_texts import nouns, unrelated_strings
from demo_models.world.scenes import (
    SceneObject,
    sample_scene,
)
from demo_models.world.vocabulary import COLOURS, SHAPES

SINGULAR = {"crosses": "cross", **{f"{shape}s": shape for shape in SHAPES}}

NUM_SCENES = 400


def meant(scene, words):
    """Return the objects that words such as "the red circle" or "it" can mean."""
    names = [SINGULAR.get(word, word) for word in words.split()]
    colours = [word for word in names if word in COLOURS]
    shapes = [word for word in names if word in SHAPES]
    return [
        item
        for item in scene.objects
        if (not colours or item.colour in colours) and (not shapes or item.shape in shapes)
    ]


def queries(kind):
    rng = np.random.default_rng([3, *kind.encode()])
    scenes = (sample_scene(rng) for _ in range(NUM_SCENES))
    asked = ((scene, make_query(rng, scene, kind)) for scene in scenes)
    found = [(scene, query, dict(query.slots)) for scene, query in asked if query is not None]
    assert len(found) > 100
    return found


@pytest.mark.parametrize("kind", ["colour", "shape", "size", "where"])
def test_a_question_about_one_object_means_one_and_answers_it(kind):
    for scene, query, slots in queries(kind):
        words = slots.get("ref", "it")
        items = meant(scene, words)
        answers = {
            "colour": [item.colour for item in items],
            "shape": [item.shape for item in items],
            "size": ["large" if item.radius > 0.17 else "small" for item in items],
            "where": [place_name(item) for item in items],
        }[kind]
        assert set(answers) == {query.answer}, (words, scene)
        assert len(items) == 1 or query.family == "the colour"
        assert query.answer not in words.split()
        if kind == "size":
            assert has_size(items[0], query.answer) is True


@pytest.mark.parametrize("kind", ["colour", "shape", "size", "where", "relation"])
def test_the_object_that_the_language_model_is_pointed_to_is_the_one_that_is_named(kind):
    for scene, query, slots in queries(kind):
        names = [slots[name] for name in ("ref", "first", "second") if name in slots]
        assert [scene.objects[index] for index in query.about] == [
            item for name in names for item in meant(scene, name)
        ]


def test_every_object_is_told_with_its_place():
    for scene, query, _ in queries("places"):
        told = set(query.answer.split(", "))
        assert told == {
            f"{article(item.colour)} {item.colour} {item.shape} {place_name(item)}"
            for item in scene.objects
        }
        assert len(told) == len(scene.objects)


def test_a_word_that_means_nothing_leaves_the_others_as_they_were():
    rng, words = np.random.default_rng(4), ["is", "there", "a", "red", "circle"]
    for _ in range(50):
        told = with_unknown_word(" ".join(words), rng).split()
        assert len(told) == len(words) + 1
        (unknown,) = set(told) - set(words)
        assert [word for word in told if word != unknown] == words


def test_counts_are_right():
    for scene, query, slots in queries("count"):
        items = meant(scene, slots["many"]) if query.family == "count of" else scene.objects
        assert query.answer == NUMBER_WORDS[len(items)]


def test_yes_and_no_are_right_and_about_even():
    found = queries("yes_no")
    for scene, query, slots in found:
        if query.family == "is background":
            truth = slots["value"] == scene.background
        elif query.family == "is colour":
            truth = [item.colour for item in meant(scene, slots["ref"])] == [slots["value"]]
        else:
            truth = bool(meant(scene, slots["a"]))
        assert query.answer == ("yes" if truth else "no")
    assert 0.35 < np.mean([query.answer == "yes" for _, query, _ in found]) < 0.65


def test_relations_are_right():
    ways = {words: name for name, choices in RELATION_WORDS.items() for words in choices}
    for scene, query, slots in queries("relation"):
        (first,), (second,) = meant(scene, slots["first"]), meant(scene, slots["second"])
        dx, dy = second.x - first.x, second.y - first.y
        offsets = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}
        offset = offsets[ways[slots["relation"]]]
        assert abs(offset) < 0.04 or (offset > 0) == (query.answer == "yes")
        assert query.answer == "no" or offset > 0.13


def test_absent_things_are_absent():
    for scene, query, slots in queries("absent"):
        assert not meant(scene, slots["ref"])
        assert query.answer == slots["ref"].replace("the", "there is no", 1)


@pytest.mark.parametrize(
    ("x", "y", "place"),
    [
        (0.5, 0.5, "in the middle"),
        (0.2, 0.45, "on the left"),
        (0.8, 0.5, "on the right"),
        (0.5, 0.2, "at the top"),
        (0.55, 0.8, "at the bottom"),
        (0.2, 0.8, "in the bottom left corner"),
        (0.8, 0.1, "in the top right corner"),
        (0.36, 0.5, None),
        (0.2, 0.36, None),
    ],
)
def test_places(x, y, place):
    item = SceneObject(
        "ring", "red", (0, 0, 0), x, y, 0.1, (1, 1), 0, 0, (0.0,) * 6, 0, (0,) * 3, False
    )
    assert place_name(item) == place


def test_captions_name_everything_in_one_order():
    scene = sample_scene(np.random.default_rng(1))
    red = replace(scene.objects[0], colour="red", shape="circle")
    blue = replace(red, colour="blue", shape="cross")
    scene = replace(scene, objects=(blue, red, blue), background="grey")
    assert caption_text(scene) == "a red circle and two blue crosses on a grey background"
    assert caption_text(replace(scene, objects=(red, blue, blue))) == caption_text(scene)


def test_wordings_for_evaluation_are_never_trained_on():
    assert set(MORE) <= set(HELD_OUT) == set(TRAINED)
    tables = (TRAINED, MORE)
    trained = {wording for table in tables for family in table.values() for wording in family}
    held_out = {wording for family in HELD_OUT.values() for wording in family}
    assert not trained & held_out
    for name in ("things", "others", "places"):
        assert not set(unanswerable.TRAINED[name]) & set(unanswerable.HELD_OUT[name])
    rng = np.random.default_rng(5)
    asked = {unanswerable_question(rng) for _ in range(3000)}
    assert not asked & {unanswerable_question(rng, held_out=True) for _ in range(3000)}


def test_canonical_and_other_words():
    query = Query("colour", "colour", "red", (("ref", "the ring"),))
    assert phrase(query) == "What colour is the ring?"
    rng = np.random.default_rng(8)
    ways = {phrase(query, rng, "first") for _ in range(300)}
    assert len(ways) > 30
    assert len({phrase(query, rng) for _ in range(300)}) > 50
    assert "what color is the ring" in ways


def test_off_world_words_for_evaluation_are_not_trained_on():
    assert not set(nouns(True)) & set(nouns(False))
    assert not set(unrelated_strings(True)) & set(unrelated_strings(False))
    assert len(nouns(True)) >= 50
