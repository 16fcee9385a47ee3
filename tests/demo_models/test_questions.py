"""Questions about scenes: every answer is true, evaluation wordings are never trained on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from demo_models.evaluation.blip2_questions import (
    ASKED,
    all_cases,
    paint_questions,
    questions,
    reworded,
)
from demo_models.language.question_wording import MORE, with_unknown_word
from demo_models.language.question_wording import HELD_OUT, TRAINED
from demo_models.language.questions import (
    KIND_SHARES,
    PLACES_OF_OBJECTS,
    Query,
    caption_text,
    make_query,
    phrase,
    place_of,
)
from demo_models.language.statement_wording import NUMBER_WORDS, RELATION_WORDS, article
from demo_models.language.statements import has_size
from demo_models.language.unanswerable import (
    ABOUT_OTHERS,
    ABOUT_OTHERS_HELD_OUT,
    ABOUT_THINGS,
    ABOUT_THINGS_HELD_OUT,
    DONT_KNOW,
    PLACES,
    PLACES_HELD_OUT,
    strange_question,
)
from demo_models.training.blip2.data import (
    MAX_PACKED,
    TextCoder,
    TextPair,
    attention_mask,
    pack,
    sample_text,
)
from demo_models.training.blip2.heads import IGNORE, pointing_loss, slot_labels, slots_of
from demo_models.training.blip2.model import build_tokenizer, question_corpus
from demo_models.world.scenes import SceneObject, sample_scene
from demo_models.world.vocabulary import COLOURS, HELD_OUT_PAIRS, SHAPES

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
            "where": [place_of(item) for item in items],
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
            f"{article(item.colour)} {item.colour} {item.shape} {place_of(item)}"
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
    assert place_of(item) == place


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
    assert not set(ABOUT_THINGS) & set(ABOUT_THINGS_HELD_OUT)
    assert not set(ABOUT_OTHERS) & set(ABOUT_OTHERS_HELD_OUT)
    assert not set(PLACES) & set(PLACES_HELD_OUT)
    rng = np.random.default_rng(5)
    asked = {strange_question(rng) for _ in range(3000)}
    assert not asked & {strange_question(rng, held_out=True) for _ in range(3000)}


def test_training_texts_never_name_a_held_out_pair():
    rng = np.random.default_rng(6)
    for _ in range(1500):
        scene = sample_scene(rng)
        text = sample_text(rng, scene, scene.background, True)
        if text.answer == DONT_KNOW or DONT_KNOW in text.prompt:
            continue
        told = f"{text.prompt} {text.answer}"
        assert not [pair for pair in HELD_OUT_PAIRS if " ".join(pair) in told], told


def test_no_scene_is_answered_with_i_do_not_know():
    rng = np.random.default_rng(7)
    scene = sample_scene(rng)
    assert {sample_text(rng, scene, None, False).answer for _ in range(100)} == {DONT_KNOW}
    blank = {sample_text(rng, scene, "pink", False).answer for _ in range(300)}
    assert blank == {DONT_KNOW, "pink", "zero", "no", "a pink background"}


def test_canonical_and_other_words():
    query = Query("colour", "colour", "red", (("ref", "the ring"),))
    assert phrase(query) == "What colour is the ring?"
    rng = np.random.default_rng(8)
    ways = {phrase(query, rng, "first") for _ in range(300)}
    assert len(ways) > 30
    assert len({phrase(query, rng) for _ in range(300)}) > 50
    assert "what color is the ring" in ways


def test_evaluation_cases_are_fixed_and_complete():
    first, again = ([*questions(3, 2)] for _ in range(2))
    assert [(c.kind, c.prompt, c.answer) for c in first] == [
        (c.kind, c.prompt, c.answer) for c in again
    ]
    assert {case.kind for case in first} >= {*ASKED, "strange"}
    assert {case.answer for case in first if case.kind == "strange"} == {DONT_KNOW}
    assert all(case.prompt.startswith("Question: ") for case in first)
    assert all(a.answer == b.answer for a, b in reworded(3, 2, held_out=False))
    assert len({case.kind for case in paint_questions(3, 1)}) == 6
    assert set(KIND_SHARES) - {"describe"} <= {case.kind for case in all_cases(3, 1)}


def test_tokenizer_reads_lower_case_and_writes_i_do_not_know():
    tokenizer = build_tokenizer(question_corpus(1, 600))
    assert tokenizer("A RED Circle")["input_ids"] == tokenizer("a red circle")["input_ids"]
    ids = tokenizer(f" {DONT_KNOW}", add_special_tokens=False)["input_ids"]
    assert len(ids) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == DONT_KNOW
    assert tokenizer.decode(tokenizer("再见 🐈")["input_ids"][1:]) == "再见 🐈"


def test_every_object_has_its_own_slot_near_its_place():
    rng = np.random.default_rng(9)
    for _ in range(200):
        scene = sample_scene(rng)
        cells = slots_of(scene)
        assert len(set(cells)) == len(scene.objects)
        largest = max(range(len(cells)), key=lambda i: scene.objects[i].radius)
        item = scene.objects[largest]
        assert cells[largest] == 4 * min(3, int(item.y * 4)) + min(3, int(item.x * 4))
        labels = slot_labels([scene, None], [scene.background, None])
        assert (labels["shape"] < len(SHAPES)).sum(dim=1).tolist() == [len(cells), 0]


def test_slots_name_place_and_size_of_what_lies_there():
    rng = np.random.default_rng(10)
    for _ in range(100):
        scene = sample_scene(rng)
        labels, cells = slot_labels([scene], [scene.background]), slots_of(scene)
        assert labels["number"].tolist() == [len(cells)]
        assert labels["cells"][0].tolist() == [*cells, *[-1] * (4 - len(cells))]
        for cell, item in zip(cells, scene.objects, strict=True):
            place, size = int(labels["place"][0, cell]), int(labels["size"][0, cell])
            assert (PLACES_OF_OBJECTS[place] if place != IGNORE else None) == place_of(item)
            assert size == IGNORE or has_size(item, ("small", "large")[size]) is True


def test_pointing_is_the_share_that_the_answer_looks_at_the_right_query():
    coder = TextCoder(build_tokenizer(question_corpus(1, 300)))
    texts = [TextPair("where is the ring", "at the top", (1,)), TextPair("", "a red ring")]
    packed = pack([texts], coder, 4)
    _, targets = coder(texts[0])
    written = [index for index, target in enumerate(targets) if target >= 0]
    assert (packed.about >= 0).any(dim=1)[0].nonzero().flatten().tolist() == written
    attention = torch.full((1, 2, 4 + packed.ids.shape[1], 4 + packed.ids.shape[1]), 0.1)
    attention[0, 0, :, 3] = 0.5  # the first head looks at the second object, which is in cell 3
    loss = pointing_loss(attention, packed.about, torch.tensor([[0, 3, -1, -1]]))
    assert loss.item() == pytest.approx(-(np.log(0.501) + np.log(0.101)) / 2, abs=1e-5)


def test_packed_texts_read_the_picture_and_themselves_only():
    coder = TextCoder(build_tokenizer(question_corpus(1, 300)))
    pair, other = TextPair("what shape", "ring"), TextPair("", "a red ring")
    packed = pack([[pair, other], [other]], coder, 4)
    first, second = len(coder(pair)[0]), len(coder(other)[0])
    assert packed.positions[0].tolist() == [*range(4, 4 + first), *range(4, 4 + second)]
    assert packed.targets[0, first + second - 1] == coder.tokenizer.eos_token_id
    assert (packed.segments[1, second:] == -1).all()
    mask = attention_mask(packed.segments, 4)[0, 0]
    assert mask[4 + first, :4].all()  # the second text reads the picture
    assert not mask[4 + first :, 4 : 4 + first].any()  # and nothing of the first
    assert torch.equal(mask, mask.tril())
    long = [TextPair("", "ring " * MAX_PACKED), other]
    assert pack([long], coder, 4).ids.shape[1] == second
