"""The held-out captions and questions that the demo BLIP-2 is measured with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from demo_models.evaluation.held_out import Rng, drawing_cases, evaluation_rng, unrelated_images
from demo_models.language.question_wording import FRAME
from demo_models.language.questions import KIND_SHARES, Query, caption_text, make_query, phrase
from demo_models.language.statement_wording import article
from demo_models.language.unanswerable import DONT_KNOW, unanswerable_question
from demo_models.world.augmentation import augment
from demo_models.world.scenes import Scene, SceneOptions, render, sample_scene
from demo_models.world.vocabulary import HELD_OUT_PAIRS, SEEN_PAIRS

GATED = ("colour", "shape", "count", "yes_no", "size", "background")
REWORDED = (*GATED, "where")
"""Kinds that are also asked in other words."""
GATES_PERCENT = {
    "caption": 95.0,
    **dict.fromkeys(GATED, 95.0),
    "where": 90.0,
    "paint_tool_colour": 97.0,
    "paint_freehand_colour": 97.0,
    "paint_tool_shape": 93.0,
    "paint_freehand_shape": 93.0,
    "same_answer_in_other_words": 95.0,
    "strange": 90.0,
}
SINGLE = (1.0, 0.0, 0.0, 0.0)
ASKED = tuple(kind for kind in KIND_SHARES if kind not in ("describe", "strange"))


@dataclass(frozen=True)
class Case:
    """One image, a prompt ("" for a caption) and the right answer."""

    kind: str
    image: Image.Image
    prompt: str
    answer: str

    @property
    def question(self) -> str:
        """The prompt without the frame of questions."""
        before, after = FRAME.split("{}")
        return self.prompt.removeprefix(before).removesuffix(after)


def _scenes(rng: Rng, one: bool, seen: bool = True) -> Iterator[tuple[Scene, Image.Image]]:
    pairs = SEEN_PAIRS if seen else HELD_OUT_PAIRS
    options = SceneOptions(pairs=pairs, count_shares=SINGLE) if one else SceneOptions(pairs=pairs)
    while True:
        scene = sample_scene(rng, options)
        yield scene, augment(render(scene), rng)


def _captions(seed: int, num: int) -> Iterator[Case]:
    for kind, one, seen in (
        ("caption", True, True),
        ("caption_of_1_to_4", False, True),
        ("unseen_caption", True, False),
    ):
        scenes = _scenes(evaluation_rng(seed, f"blip2 {kind}"), one, seen)
        for _ in range(num):
            scene, image = next(scenes)
            yield Case(kind, image, "", caption_text(scene))


def _queries(
    seed: int, num: int, kind: str, one: bool = False, seen: bool = True
) -> Iterator[tuple[Query, Image.Image, Rng]]:
    """Yield questions of one kind, each about a new scene."""
    rng = evaluation_rng(seed, f"blip2 {kind} {one} {seen}")
    scenes = _scenes(rng, one, seen)
    found = 0
    while found < num:
        scene, image = next(scenes)
        query = make_query(rng, scene, kind)
        if query is not None:
            found += 1
            yield query, image, rng


def questions(seed: int, num: int, gated_only: bool = False) -> Iterator[Case]:
    """Yield `num` cases of every kind in canonical wording, on scenes of 1 to 4 objects.

    "one_object_..." asks the same of scenes of one object, "unseen_..." of colour-shape pairs
    that training never shows, "strange" what no image can answer, in held-out words.
    """
    for kind in ASKED:
        if gated_only and kind not in GATES_PERCENT:
            continue
        for query, image, _ in _queries(seed, num, kind):
            yield Case(kind, image, FRAME.format(phrase(query)), query.answer)
    for query, image, rng in _queries(seed, num, "strange"):
        text = f"{unanswerable_question(rng, held_out=True)}?"
        text = f"{text[:1].upper()}{text[1:]}"
        yield Case("strange", image, FRAME.format(text), query.answer)
    if gated_only:
        return
    for kind in (*GATED, "where"):
        for query, image, _ in _queries(seed, num, kind, one=True):
            prompt = FRAME.format(phrase(query))
            yield Case(f"one_object_{kind}", image, prompt, query.answer)
    for kind in ("colour", "shape"):
        for query, image, _ in _queries(seed, num, kind, one=True, seen=False):
            yield Case(f"unseen_{kind}", image, FRAME.format(phrase(query)), query.answer)


def drawing_questions(seed: int, num: int) -> Iterator[Case]:
    """Yield questions about, and captions of, images of the other renderer."""
    for technique in ("tool", "freehand"):
        for drawing in drawing_cases(seed, num, technique):
            name = f"paint_{technique}"
            colour, shape = "What colour is it?", "What shape is this?"
            yield Case(f"{name}_colour", drawing.image, FRAME.format(colour), drawing.colour)
            yield Case(f"{name}_shape", drawing.image, FRAME.format(shape), drawing.shape)
            text = (
                f"{article(drawing.colour)} {drawing.colour} {drawing.shape} on a white background"
            )
            yield Case(f"{name}_caption", drawing.image, "", text)


def reworded(seed: int, num: int, held_out: bool) -> Iterator[tuple[Case, Case]]:
    """Yield one question in canonical and in other words, the kinds in turn.

    Args:
        seed: Fixes the set.
        num: Questions of each kind.
        held_out: Take the wordings that training never uses; otherwise those of training,
            in lower case, some without a question mark.
    """
    for kind in REWORDED:
        for query, image, rng in _queries(seed + 1, num, kind):
            plain = FRAME.format(phrase(query))
            other = FRAME.format(phrase(query, rng, "held out" if held_out else "all"))
            name = f"held_out_words_{kind}" if held_out else "same_answer_in_other_words"
            yield Case(kind, image, plain, query.answer), Case(name, image, other, query.answer)


def all_cases(seed: int, num: int) -> Iterator[Case]:
    """Yield every case whose answer is known, kind by kind."""
    yield from _captions(seed, num)
    yield from questions(seed, num)
    yield from drawing_questions(seed, num)
    for _, other in reworded(seed, max(1, num // 4), held_out=True):
        yield other
    for image in unrelated_images(seed, num):
        yield Case("caption_of_no_scene", image, "", DONT_KNOW)


def gated_cases(seed: int, num: int) -> Iterator[Case]:
    """Yield the cases of `all_cases` whose kind has a gate."""
    yield from (case for case in _captions(seed, num) if case.kind in GATES_PERCENT)
    yield from questions(seed, num, gated_only=True)
    yield from (case for case in drawing_questions(seed, num) if case.kind in GATES_PERCENT)
