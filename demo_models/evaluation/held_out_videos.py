"""Videos that no training run has seen, as files, and questions about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from demo_models.evaluation.held_out import evaluation_rng
from demo_models.language.motion_statements import VideoClaim, View, judge_claim, view_of
from demo_models.language.motion_texts import event_claim, false_claim, true_claim, word_claim
from demo_models.world.motion import DIRECTIONS, EVENT_KINDS, Motion
from demo_models.world.motion_sampling import MotionOptions, sample_motion
from demo_models.world.video_files import FORMATS, FileFormat, write_motion
from demo_models.world.vocabulary import HELD_OUT_PAIRS, SEEN_PAIRS

Rng = np.random.Generator
NUM_TEXTS = 20
CLAIMS = ("action", "action", "order", "object", "listing")
"""Kinds of the texts of which one in twenty is true."""


@dataclass(frozen=True)
class VideoQuestion:
    """A video file, texts in random order, and the one that is true.

    The answer counts for `kind` and for those of `also`.
    """

    kind: str
    path: Path
    texts: tuple[str, ...]
    right: str
    also: tuple[str, ...] = ()


def held_out_motions(
    seed: int, num: int, salt: str, options: MotionOptions
) -> Iterator[tuple[Motion, View, Rng]]:
    """Yield new motions with what they show, and the generator they came from."""
    rng = evaluation_rng(seed, f"videos {salt}")
    for _ in range(num):
        motion = sample_motion(rng, options)
        yield motion, view_of(motion), rng


def _shuffled(rng: Rng, texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(texts[int(index)] for index in rng.permutation(len(texts)))


def direction_questions(
    seed: int, num: int, folder: Path, seen: bool, formats: Sequence[FileFormat] = FORMATS
) -> Iterator[VideoQuestion]:
    """Yield one of 4: where does this object move? One event, one to three objects."""
    pairs = SEEN_PAIRS if seen else HELD_OUT_PAIRS
    options = MotionOptions(pairs=pairs, kinds=DIRECTIONS, event_shares=(0, 1, 0))
    kind = "direction_of_4" if seen else "unseen_direction_of_4"
    for index, (motion, view, rng) in enumerate(held_out_motions(seed, num, kind, options)):
        path = folder / f"{kind}-{index}.mp4"
        form = formats[index % len(formats)]
        write_motion(path, motion, form)
        texts = [event_claim(view, 0, way).text for way in DIRECTIONS]
        right = event_claim(view, 0).text
        also = (f"{kind} {form.name}",) if seen else ()
        yield VideoQuestion(kind, path, _shuffled(rng, texts), right, also)


def event_questions(seed: int, num: int, folder: Path) -> Iterator[VideoQuestion]:
    """Yield one of 11: what does this object do?"""
    options = MotionOptions(event_shares=(0, 1, 0))
    for index, (motion, view, rng) in enumerate(held_out_motions(seed, num, "events", options)):
        path = folder / f"event-{index}.mp4"
        write_motion(path, motion, FORMATS[index % len(FORMATS)])
        texts = [event_claim(view, 0, kind).text for kind in EVENT_KINDS]
        does = view.events[0].kind
        right, also = event_claim(view, 0).text, (f"event_of_11 {does}",)
        yield VideoQuestion("event_of_11", path, _shuffled(rng, texts), right, also)


def _others(rng: Rng, view: View, pool: Sequence[VideoClaim], right: str) -> list[str] | None:
    found: dict[str, None] = {}
    for index in rng.permutation(len(pool)):
        claim = pool[int(index)]
        if claim.text != right and judge_claim(claim, view) is False:
            found[claim.text] = None
        if len(found) == NUM_TEXTS - 1:
            return list(found)
    return None


def _nearly(rng: Rng, view: View, claim: VideoClaim) -> list[str] | None:
    found: dict[str, None] = {}
    for attempt in range(120):
        changed = false_claim(rng, view, claim, 1 + attempt % 2, canonical=True)
        if changed is not None and changed.text != claim.text:
            found[changed.text] = None
        if len(found) == NUM_TEXTS - 1:
            return list(found)
    return None


def text_questions(
    seed: int, num: int, folder: Path, seen: bool, formats: Sequence[FileFormat] = FORMATS
) -> Iterator[VideoQuestion]:
    """Yield one of 20: texts of other videos, and texts that differ in a word or two.

    Texts of two events in the wrong order are a kind of their own, one of 2.
    """
    pairs = SEEN_PAIRS if seen else HELD_OUT_PAIRS
    start = "" if seen else "unseen_"
    options = MotionOptions(pairs=pairs)
    cases: list[tuple[Motion, View, Rng, VideoClaim]] = []
    for motion, view, rng in held_out_motions(seed, 2 * num, f"texts {seen}", options):
        kind = CLAIMS[len(cases) % len(CLAIMS)]
        claim = word_claim(true_claim(rng, view, kind))
        if claim.acts:
            cases.append((motion, view, rng, claim))
        if len(cases) == num:
            break
    pool = [case[3] for case in cases]
    for index, (motion, view, rng, claim) in enumerate(cases):
        path = folder / f"{start}text-{index}.mp4"
        write_motion(path, motion, formats[index % len(formats)])
        for name, others in (
            ("text_of_20", _others(rng, view, pool, claim.text)),
            ("hard_text_of_20", _nearly(rng, view, claim)),
        ):
            if others is not None:
                texts = _shuffled(rng, [claim.text, *others])
                yield VideoQuestion(start + name, path, texts, claim.text)
        if not claim.in_order:
            continue
        swapped = word_claim(replace(claim, acts=claim.acts[::-1]))
        if judge_claim(swapped, view) is False:
            texts = _shuffled(rng, [claim.text, swapped.text])
            yield VideoQuestion(f"{start}order_of_2", path, texts, claim.text)


def video_questions(seed: int, num: int, folder: Path) -> Iterator[VideoQuestion]:
    """Yield all questions; their videos are written to `folder`."""
    yield from direction_questions(seed, num, folder, seen=True)
    yield from text_questions(seed, num, folder, seen=True)
    yield from event_questions(seed, num // 2, folder)
    yield from direction_questions(seed, num // 2, folder, seen=False)
    yield from text_questions(seed, num // 2, folder, seen=False)
