"""Renders the example videos of the app: `python -m demo_models.make_videos`.

Clips are as long as what the model sees at once and come with texts to match; stories hold
several events in a row and come with one to find.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo_models.evaluation.held_out import evaluation_rng
from demo_models.evaluation.held_out_videos import FileFormat, write_motion
from demo_models.language.motion_statements import Act, VideoClaim, View, judge_claim, view_of
from demo_models.language.motion_texts import false_claim, word_claim
from demo_models.world.motion import Motion, seen_events
from demo_models.world.motion_sampling import MotionOptions, sample_motion, sample_story
from demo_models.world.scenes import Scene, sample_page

SECONDS_PER_CLIP = 4.0
NUM_TEXTS = 5


@dataclass(frozen=True)
class Wish:
    """What an example should show; `find` is the kind of the event to find in a story."""

    name: str
    pairs: tuple[tuple[str, str], ...]
    kinds: tuple[str, ...]  # in the order of time
    background: str
    find: str = ""


WISHES = (
    Wish("circle-moves-left", (("red", "circle"),), ("left",), "white"),
    Wish("star-then-square", (("yellow", "star"), ("green", "square")), ("right", "spin"), "blue"),
    Wish("heart-grows", (("pink", "heart"), ("black", "cross")), ("grow", "down"), "green"),
    Wish(
        "circle-and-triangle",
        (("red", "circle"), ("blue", "triangle")),
        ("right", "spin", "left", "down"),
        "white",
        find="left",
    ),
    Wish(
        "three-shapes",
        (("purple", "ring"), ("orange", "triangle"), ("white", "moon")),
        ("up", "left", "grow", "right"),
        "grey",
        find="grow",
    ),
)


def _page(rng: np.random.Generator, background: str) -> Scene:
    while True:
        page = sample_page(rng)
        if page.background == background and page.style in ("plain", "gradient") and page.smooth:
            return page


def _suits(motion: Motion, wish: Wish) -> bool:
    names = sorted((mover.item.colour, mover.item.shape) for mover in motion.movers)
    undistorted = all(max(mover.item.stretch) < 1.1 for mover in motion.movers)
    return names == sorted(wish.pairs) and undistorted


def find_motion(rng: np.random.Generator, wish: Wish) -> Motion:
    """Sample until a clip or a story is as wished."""
    num = len(wish.kinds)
    options = MotionOptions(
        pairs=wish.pairs,
        count_shares=tuple(float(count == len(wish.pairs)) for count in (1, 2, 3)),
        event_shares=tuple(float(count == num) for count in range(num + 1)),
        plan=wish.kinds,
        page=_page(rng, wish.background),
    )
    while True:
        if wish.find:
            motion = sample_story(rng, num, options, (0.7, 1.0), (0.4, 0.8))
        else:
            motion = sample_motion(rng, options)
        if _suits(motion, wish):
            return motion


def _told(view: View, number: int) -> VideoClaim:
    event = view.events[number]
    act = Act(event.colour, view.objects[event.owner].shape, event.kind)
    return word_claim(VideoClaim("", (act,)))


def _texts(rng: np.random.Generator, view: View) -> tuple[list[str], list[str]]:
    """Return texts, shuffled, and those of them that are true."""
    claims = [_told(view, number) for number in range(len(view.events))]
    true_ones = [claim.text for claim in claims]
    texts = dict.fromkeys(true_ones)
    while len(texts) < NUM_TEXTS:
        source = claims[int(rng.integers(len(claims)))]
        false = false_claim(rng, view, source, canonical=True)
        if false is not None:
            texts[false.text] = None
    listed = list(texts)
    return [listed[index] for index in rng.permutation(len(listed))], true_ones


def make_example(seed: int, wish: Wish, folder: Path) -> dict[str, object]:
    """Write one video and return its entry for `videos.json`."""
    rng = evaluation_rng(seed, f"example video {wish.name}")
    motion = find_motion(rng, wish)
    seconds = motion.duration * SECONDS_PER_CLIP
    file = f"{wish.name}.mp4"
    write_motion(folder / file, motion, FileFormat(256, 256, 12, seconds, 26))
    entry: dict[str, object] = {"file": file, "seed": seed, "texts": [], "query": ""}
    view = view_of(motion)
    if not wish.find:
        entry["texts"], entry["true_texts"] = _texts(rng, view)
        return entry
    number = wish.kinds.index(wish.find)
    claim = _told(view, number)
    assert [judge_claim(claim, view), wish.kinds.count(wish.find)] == [True, 1]
    event = seen_events(motion)[number][1]
    entry["query"] = claim.text
    entry["truth_s"] = [round(t * SECONDS_PER_CLIP, 2) for t in (event.start, event.end)]
    return entry


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/examples"))
    parser.add_argument("--seed", type=int, default=23)
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    entries = [make_example(chosen.seed, wish, chosen.out) for wish in WISHES]
    text = json.dumps(entries, indent=1) + "\n"
    (chosen.out / "videos.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
