"""Writes what can be asked about the example clips: `python -m demo_models.make_chat_videos`.

The clips of `make_videos` and some more, each with questions and their true answers.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from demo_models import make_videos
from demo_models.evaluation.held_out import evaluation_rng
from demo_models.evaluation.held_out_videos import FileFormat, write_motion
from demo_models.language.statement_wording import NUMBER_WORDS
from demo_models.language.video_facts import Facts, facts_of
from demo_models.make_videos import SECONDS_PER_CLIP, Wish, find_motion

CLIP = FileFormat(320, 240, 12, SECONDS_PER_CLIP, 26)
MORE = (
    Wish("triangle-appears", (("blue", "square"), ("orange", "triangle")), ("appear",), "white"),
    Wish("ring-and-moon", (("purple", "ring"), ("white", "moon")), ("up", "down"), "grey"),
)
"""Clips that `make_videos` does not have."""


@dataclass(frozen=True)
class Asking:
    """A clip and what to ask about it: (question, how the facts answer it)."""

    name: str
    questions: tuple[tuple[str, str], ...]


ASKINGS = (
    Asking("circle-moves-left", (("What does the circle do?", "action of circle"),
                                 ("What colour is it?", "colour of circle"),
                                 ("How many shapes are there?", "count"))),
    Asking("star-then-square", (("What does the square do?", "action of square"),
                                ("What colour is the star?", "colour of star"),
                                ("What colour is the background?", "background"))),
    Asking("heart-grows", (("What happens to the heart?", "action of heart"),
                           ("What colour is it?", "colour of heart"),
                           ("Is there a cross?", "yes"))),
    Asking("triangle-appears", (("What does the triangle do?", "action of triangle"),
                                ("What colour is the background?", "background"),
                                ("Is there a circle?", "no"))),
    Asking("ring-and-moon", (("Which way does the ring move?", "direction of ring"),
                             ("What colour is it?", "colour of ring"),
                             ("Which way does the moon move?", "direction of moon"))),
)  # fmt: skip


def true_answer(facts: Facts, wanted: str) -> str:
    """Return an answer from the facts: "colour of star", "count", or what is wanted itself."""
    what, _, whom = wanted.partition(" ")
    if what == "count":
        return NUMBER_WORDS[len(facts.actors)]
    if what == "background":
        return facts.background
    if not whom:
        return wanted
    name = whom.removeprefix("of ")
    index = next(i for i, a in enumerate(facts.actors) if name in (a.shape, a.colour))
    actor = facts.actors[index]
    if what == "action":
        return facts.action(index)
    return {"colour": actor.colour, "shape": actor.shape, "direction": actor.direction or ""}[what]


def wish_named(name: str) -> Wish:
    """Return what a clip should show."""
    return next(wish for wish in (*make_videos.WISHES, *MORE) if wish.name == name)


def make_entry(seed: int, asking: Asking, folder: Path) -> dict[str, object]:
    """Return the entry of one clip for `chat_videos.json`; a clip of our own is written too."""
    rng = evaluation_rng(seed, f"example video {asking.name}")
    motion = find_motion(rng, wish_named(asking.name))
    file = f"{asking.name}.mp4"
    if any(wish.name == asking.name for wish in MORE):
        write_motion(folder / file, motion, CLIP)
    facts = facts_of(motion)
    questions = [
        {"question": question, "answer": true_answer(facts, wanted)}
        for question, wanted in asking.questions
    ]
    return {"file": file, "seed": seed, "shows": facts.description(), "questions": questions}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/examples"))
    parser.add_argument("--seed", type=int, default=23)
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    entries = [make_entry(chosen.seed, asking, chosen.out) for asking in ASKINGS]
    text = json.dumps(entries, indent=1) + "\n"
    (chosen.out / "chat_videos.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
