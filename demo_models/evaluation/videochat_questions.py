"""The held-out videos and conversations that the demo VideoChat-Flash is measured with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo_models.evaluation.held_out import Rng, evaluation_rng
from demo_models.language.unanswerable import unanswerable_question
from demo_models.language.video_facts import Facts, facts_of
from demo_models.language.video_questions import STATIC_KINDS, VideoQuery, make_query, phrase
from demo_models.world.augmentation import augment
from demo_models.world.motion import Motion, clip_times
from demo_models.world.motion_rendering import render_frames
from demo_models.world.motion_sampling import MotionOptions, sample_motion
from demo_models.world.vocabulary import HELD_OUT_PAIRS

GATES_PERCENT = {
    "count": 95.0,
    "background": 95.0,
    "colour": 90.0,
    "shape": 90.0,
    "yes_no": 90.0,
    "direction": 90.0,
    "action": 90.0,
}
MAX_TURN_GAP = 5.0  # points by which the second and third answers may be worse than the first
CHANCE_PERCENT = {"direction": 25.0, "does": 50.0, "yes_no": 50.0}
"""Share of right guesses among the answers; for other kinds that of the most frequent answer."""
DIALOGUE_KINDS = tuple(GATES_PERCENT)
SINGLE = ("which", "does", "happens", "order", "describe", "turns", "no_direction", "absent")
UNSEEN = ("colour", "shape", "count", "action", "direction")
VIDEO_PX = 160


@dataclass(frozen=True)
class HeldOutVideo:
    """A video: its motion, and the seed of the degradation of its frames."""

    motion: Motion
    duration_s: float
    degradation_seed: int

    @property
    def facts(self) -> Facts:
        """Return what it shows."""
        return facts_of(self.motion)

    def frames(self, num: int) -> NDArray[np.uint8]:
        """Return evenly spread frames, (num, 160, 160, 3) uint8."""
        frames = render_frames(self.motion, clip_times(num), VIDEO_PX)
        images = (Image.fromarray(frame) for frame in frames)
        return np.stack(
            [
                np.asarray(augment(image, np.random.default_rng(self.degradation_seed)))
                for image in images
            ]
        )


@dataclass(frozen=True)
class Asked:
    """One question of a conversation, its kind as it is counted, and the right answer."""

    kind: str
    question: str
    answer: str


@dataclass(frozen=True)
class Conversation:
    """Questions about one video, asked one after another."""

    video: HeldOutVideo
    asked: tuple[Asked, ...]


def _video(rng: Rng, options: MotionOptions | None = None) -> HeldOutVideo:
    motion = sample_motion(rng, options)
    return HeldOutVideo(motion, float(rng.uniform(2, 6)), int(rng.integers(2**31)))


def conversations(seed: int, num: int) -> Iterator[Conversation]:
    """Yield conversations of three turns in which each gated kind comes `num` times or more.

    The kinds are as frequent in every turn. Wordings are those of training.
    """
    rng = evaluation_rng(seed, "videochat talk")
    todo = -(-num * len(DIALOGUE_KINDS) // 3)
    done = 0
    while done < todo:
        kinds = [
            DIALOGUE_KINDS[(done + turn * (1 + done // 7 % 6)) % len(DIALOGUE_KINDS)]
            for turn in range(3)
        ]
        video = _talk(rng, kinds)
        if video is not None:
            done += 1
            yield video


def _talk(rng: Rng, kinds: list[str]) -> Conversation | None:
    """Return a conversation of these kinds about a new video that allows them all."""
    for _ in range(60):
        video = _video(rng)
        queries: list[VideoQuery] = []
        last: int | None = None
        for kind in kinds:
            query = make_query(rng, video.facts, kind, last)
            if query is None:
                break
            queries.append(query)
            last = query.about if query.about is not None else last
        else:
            asked = tuple(Asked(q.kind, phrase(q, rng), q.answer) for q in queries)
            return Conversation(video, asked)
    return None


def single_questions(seed: int, num: int) -> Iterator[Conversation]:
    """Yield one question each: further kinds, unanswerable ones in held-out words, unseen pairs."""
    for kind in SINGLE:
        yield from _singles(seed, num, kind, kind)
    yield from _singles(seed, num, "strange", "strange")
    options = MotionOptions(pairs=HELD_OUT_PAIRS)
    for kind in UNSEEN:
        yield from _singles(seed, num, kind, f"unseen_{kind}", options)


def reworded_questions(seed: int, num: int) -> Iterator[Conversation]:
    """Yield questions in wordings that training never uses."""
    for kind in (*STATIC_KINDS, "action", "direction"):
        yield from _singles(seed, num, kind, f"held_out_words_{kind}", held_out=True)


def _singles(
    seed: int,
    num: int,
    kind: str,
    counted: str,
    options: MotionOptions | None = None,
    held_out: bool = False,
) -> Iterator[Conversation]:
    rng = evaluation_rng(seed, f"videochat {counted}")
    found = 0
    while found < num:
        video = _video(rng, options)
        query = make_query(rng, video.facts, kind)
        if query is None:
            continue
        found += 1
        text = phrase(query, rng, held_out)
        if kind == "strange":
            text = f"{unanswerable_question(rng, held_out=True)}?"
        yield Conversation(video, (Asked(counted, text, query.answer),))
