"""Measures how well moments of rendered stories are found, and writes `moments.json`.

`python -m demo_models.evaluate_moments` asks the app's own pipeline;
`--via app` asks an app that it starts, or that of `--url`, through `/find_moments`.

A story is a video of 10 to 30 seconds with several events in a row at known times. For each event
whose text is true of it alone the app is asked for moments. The recall at 0.5 is the share of
events that the best moment (or one of the best three) overlaps by half of their common span. A
sudden change has no length: it counts as found where a moment of at most two windows holds it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from demo_models.evaluation.app_client import AppClient, running_app
from demo_models.evaluation.held_out import evaluation_rng, weights_hash
from demo_models.evaluation.held_out_videos import FileFormat, write_motion
from demo_models.evaluation.viclip import CHECKPOINT, TEST_SEED, open_pipeline
from demo_models.language.motion_statements import Act, VideoClaim, view_of
from demo_models.language.motion_texts import word_claim
from demo_models.world.motion import EVENT_KINDS, SUDDEN, Motion, seen_events
from demo_models.world.motion_sampling import MotionOptions, sample_story
from pipelines.viclip.checkpoints import DEMO_VICLIP
from pipelines.viclip.pipeline import ViClipPipeline
from pipelines.viclip.windows import SearchOptions

SECONDS_PER_CLIP = 4.0
"""The default window: what the model sees at once."""

NUM_EVENTS = (3, 4, 5)
TOP = 3

Span = tuple[float, float]
Ask = Callable[[Path, str], list[Span]]
"""A back end: (video file, query) -> moments (start, end) in seconds, best first."""


@dataclass(frozen=True)
class MomentQuestion:
    """A video file, a query, and when it is true, in seconds."""

    kind: str
    path: Path
    query: str
    start_s: float
    end_s: float


def overlap(first: Span, second: Span) -> float:
    """Return the length of what two spans share over that of what they cover together, 0..1."""
    shared = min(first[1], second[1]) - max(first[0], second[0])
    together = max(first[1], second[1]) - min(first[0], second[0])
    return max(0.0, shared) / together if together else 0.0


def queries(motion: Motion) -> Iterator[tuple[str, str, Span]]:
    """Yield kind, query and span in clips of each event that its words name alone."""
    found = [(index, event, view_of(motion)) for index, event, _ in seen_events(motion)]
    told = []
    for number, (index, event, view) in enumerate(found):
        act = Act(view.events[number].colour, view.objects[index].shape, event.kind)
        told.append((event.kind, word_claim(VideoClaim("", (act,))).text, (event.start, event.end)))
    texts = [text for _, text, _ in told]
    yield from (entry for entry in told if texts.count(entry[1]) == 1)


def moment_questions(seed: int, num: int, folder: Path) -> Iterator[MomentQuestion]:
    """Yield the questions of `num` stories; a bounce also moves up and down and is left out."""
    rng = evaluation_rng(seed, "stories")
    kinds = tuple(kind for kind in EVENT_KINDS if kind != "bounce")
    for index in range(num):
        count = NUM_EVENTS[index % len(NUM_EVENTS)]
        motion = sample_story(rng, count, MotionOptions(kinds=kinds))
        seconds = motion.duration * SECONDS_PER_CLIP
        path = folder / f"story-{index}.mp4"
        write_motion(path, motion, FileFormat(160, 120, 12, seconds, 23))
        for kind, query, (start, end) in queries(motion):
            span = (start * SECONDS_PER_CLIP, end * SECONDS_PER_CLIP)
            yield MomentQuestion(kind, path, query, *span)


def score(question: MomentQuestion, found: list[Span]) -> dict[str, bool]:
    """Return what counts as found by the best moment and by the best three."""
    if question.kind in SUDDEN:
        right = [
            start <= question.start_s <= end and end - start <= 2 * SECONDS_PER_CLIP
            for start, end in found[:TOP]
        ]
        return {"sudden best": any(right[:1]), f"sudden top {TOP}": any(right)}
    shares = [overlap((question.start_s, question.end_s), span) for span in found[:TOP]]
    return {
        f"IoU {level} {name}": any(share >= level for share in part)
        for level in (0.5, 0.7)
        for name, part in (("best", shares[:1]), (f"top {TOP}", shares))
    }


def measure(ask: Ask, asked: Iterator[MomentQuestion]) -> dict[str, dict[str, float | int]]:
    """Return the recall in percent and n, by criterion, and by kind of event for the best."""
    right: dict[str, list[bool]] = defaultdict(list)
    for question in asked:
        scored = score(question, ask(question.path, question.query))
        for name, value in scored.items():
            right[name].append(value)
        right[f"{question.kind}: {next(iter(scored))}"].append(next(iter(scored.values())))
    return {
        name: {"percent": round(100 * sum(values) / len(values), 2), "n": len(values)}
        for name, values in sorted(right.items())
    }


def asks(pipeline: ViClipPipeline) -> Ask:
    """Return the back end over the pipeline in this process."""

    def ask(video: Path, query: str) -> list[Span]:
        search = pipeline.moments([video], query, SearchOptions())
        return [(moment.start_s, moment.end_s) for moment in search.videos[0].moments]

    return ask


def asks_app(client: AppClient) -> Ask:
    """Return the back end over the endpoint of a running app."""

    def ask(video: Path, query: str) -> list[Span]:
        rows = client.predict_video(
            video, query=query, model=DEMO_VICLIP.key, api_name="/find_moments"
        )
        return [(row["start_s"], row["end_s"]) for row in rows]

    return ask


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--via", choices=("pipeline", "app"), default="pipeline")
    parser.add_argument("--url", default="", help="of a running app; one is started without")
    parser.add_argument("--num", type=int, default=200, help="stories")
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    chosen = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        asked = moment_questions(chosen.seed, chosen.num, Path(folder))
        if chosen.via == "app":
            with running_app(chosen.url) as url:
                figures = measure(asks_app(AppClient(url)), asked)
        else:
            with open_pipeline(chosen.checkpoint) as pipeline:
                figures = measure(asks(pipeline), asked)
    path = chosen.checkpoint / "moments.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    head: dict[str, Any] = {
        "script": "demo_models.evaluate_moments",
        "weights_sha256": weights_hash(chosen.checkpoint),
    }
    if any(report.get(key) != value for key, value in head.items()):
        report = {}
    report.update(head)
    report[chosen.via] = {"seed": chosen.seed, "stories": chosen.num, "recall": figures}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report[chosen.via], indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
