"""Statements: their truth, their wordings, and false changes of them."""

import numpy as np
import pytest

from demo_models.language.statement_sampling import STATEMENT_KINDS, false_statement, true_statement
from demo_models.language.statement_wording import caption, item_words, word
from demo_models.language.statements import Item, Statement, all_of, any_of, is_true, judge
from demo_models.world.scenes import Scene, SceneObject, sample_scene
from demo_models.world.vocabulary import HELD_OUT_PAIRS


def thing(colour, shape, x, y, radius=0.1):
    return SceneObject(
        shape=shape,
        colour=colour,
        rgb=(0, 0, 0),
        x=x,
        y=y,
        radius=radius,
        stretch=(1.0, 1.0),
        angle_deg=0.0,
        trait=0.5,
        waves=(0.0,) * 6,
        line=0.0,
        line_rgb=(0, 0, 0),
        hollow=False,
    )


SCENE = Scene(
    objects=(
        thing("red", "circle", 0.2, 0.2),
        thing("red", "circle", 0.2, 0.8, radius=0.14),
        thing("blue", "star", 0.8, 0.5, radius=0.25),
    ),
    background="yellow",
    style="plain",
    tones=((255, 240, 0), (255, 240, 0)),
    texture_seed=0,
)

RED, BLUE = Item("red", "circle"), Item("blue", "star")


def of(*items, **claim):
    return Statement("", items=items, **claim)


TRUTHS = [
    (of(RED), True),
    (of(Item("blue", "circle")), False),
    (of(Item(shape="star")), True),
    (of(Item(colour="green")), False),
    (of(Item(colour="yellow")), False),
    (of(Item(colour="yellow", bare_colour=True)), None),  # only the background is yellow
    (of(Item(colour="blue", bare_colour=True)), True),
    (of(Item("red", "circle", count=2)), True),
    (of(Item("red", "circle", count=1)), False),
    (of(Item(shape="star", count=1)), True),
    (of(Item("red", "circle", size="small")), True),
    (of(Item("red", "circle", size="small", count=2)), None),  # the second is middling
    (of(Item("blue", "star", size="large")), True),
    (of(Item("blue", "star", size="small")), False),
    (of(Item("blue", "star", place="right")), True),
    (of(Item("blue", "star", place="left")), False),
    (of(Item("red", "circle", place="top left")), True),
    (of(Item("red", "circle", place="top right")), False),
    (of(RED, BLUE), True),
    (of(RED, Item("green", "star")), False),
    (of(total=3), True),
    (of(total=2), False),
    (of(background="yellow"), True),
    (of(RED, background="white"), False),
    (of(RED, BLUE, relation="left of"), True),
    (of(BLUE, RED, relation="left of"), False),
    (of(BLUE, RED, relation="right of"), True),
    (of(RED, BLUE, relation="above"), True),
    (of(RED, BLUE, relation="below"), True),
    (Statement("a dog", possible=False), False),
]


@pytest.mark.parametrize(("statement", "truth"), TRUTHS)
def test_truth_table(statement, truth):
    assert judge(statement, SCENE) is truth
    assert is_true(statement, SCENE) is (truth is True)


def test_an_offset_between_sure_and_unsure_is_undecided():
    nearly = Scene((thing("red", "circle", 0.36, 0.5),), "white", "plain", ((255,) * 3,) * 2, 0)
    assert judge(of(Item("red", "circle", place="left")), nearly) is None
    assert judge(of(Item("red", "circle", place="right")), nearly) is False
    assert judge(of(Item("red", "circle", place="middle")), nearly) is None


def test_three_valued_logic():
    assert all_of([True, None]) is None
    assert all_of([False, None]) is False
    assert any_of([True, None]) is True
    assert any_of([False, None]) is None
    assert any_of([]) is False
    assert all_of([]) is True


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (Item("red", "circle"), "a red circle"),
        (Item("orange", "ring"), "an orange ring"),
        (Item("blue", "cross", count=3), "three blue crosses"),
        (Item("red", "moon", count=1), "one red moon"),
        (Item(colour="green"), "a green object"),
        (Item("pink", "heart", size="small", place="left"), "a small pink heart on the left"),
        (Item(shape="star", place="top right"), "a star in the top right corner"),
    ],
)
def test_canonical_words(item, words):
    assert item_words(item) == words


def test_canonical_captions():
    assert caption(SCENE).text == "a photo of two red circles and a blue star"
    named = caption(SCENE, with_background=True)
    assert named.text.endswith("and a blue star on a yellow background")
    assert word(of(background="grey")).text == "a grey background"


@pytest.mark.parametrize("kind", STATEMENT_KINDS)
def test_sampled_statements_are_true_and_their_changes_false(kind):
    rng = np.random.default_rng(1)
    num_false = 0
    for _ in range(60):
        scene = sample_scene(rng)
        claim = true_statement(rng, scene, kind)
        assert judge(claim, scene) is True
        assert claim.text
        changed = false_statement(rng, scene, claim)
        if changed is not None:
            num_false += 1
            assert judge(changed, scene) is False
            pairs = {(item.colour, item.shape) for item in changed.items}
            assert not pairs & set(HELD_OUT_PAIRS)
    assert num_false > 45


def test_texts_are_fixed_by_the_seed():
    texts = []
    for _ in range(2):
        rng = np.random.default_rng(9)
        texts.append([true_statement(rng, sample_scene(rng)).text for _ in range(20)])
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 15
