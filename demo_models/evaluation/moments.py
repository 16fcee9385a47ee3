"""Recall of moments by demo-viclip in videos of 10 to 30 seconds with several events in a row.

For each event whose text is true of it alone the pipeline, or /find_moments of an app, is asked for
moments. The recall at 0.5 is the share of events that the best moment (or one of the best three)
overlaps by half of their common span. A sudden change has no length: it counts as found where a
moment of at most two windows holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from demo_models.evaluation.app_client import AppClient
from demo_models.evaluation.held_out import evaluation_rng
from demo_models.evaluation.metrics import Figures, shares
from demo_models.evaluation.request import Request
from demo_models.evaluation.viclip import open_viclip
from demo_models.language.motion_statements import view_of
from demo_models.language.motion_texts import event_claim
from demo_models.world.motion import EVENT_KINDS, SUDDEN, Motion, seen_events
from demo_models.world.motion_sampling import MotionOptions, sample_story
from demo_models.world.video_files import FileFormat, write_motion
from pipelines.models.viclip.checkpoints import DEMO_VICLIP
from pipelines.models.viclip.pipeline import ViClipPipeline
from pipelines.models.viclip.windows import SearchOptions

SECONDS_PER_CLIP = 4.0
"""The default window: what the model sees at once."""

NUM_EVENTS = (3, 4, 5)
TOP = 3

Span = tuple[float, float]
Ask = Callable[[Path, str], list[Span]]
"""A back end: (video file, query) -> moments (start, end) in seconds, best first."""


@dataclass(frozen=True)
class MomentQuestion:
    """A video file, a query, and the span in seconds in which it is true."""

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
    view = view_of(motion)
    events = [event for _, event, _ in seen_events(motion)]
    texts = [event_claim(view, number).text for number in range(len(events))]
    for event, text in zip(events, texts, strict=True):
        if texts.count(text) == 1:
            yield event.kind, text, (event.start, event.end)


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
    """Return by criterion whether the best moment, or one of the best three, is right."""
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


def measure(ask: Ask, asked: Iterable[MomentQuestion]) -> Figures:
    """Return the recall by criterion, and by kind of event for the best moment."""
    answers: list[tuple[str, bool]] = []
    for question in asked:
        scored = list(score(question, ask(question.path, question.query)).items())
        name, right = scored[0]
        answers += [*scored, (f"{question.kind}: {name}", right)]
    return dict(sorted(shares(answers).items()))


def pipeline_backend(pipeline: ViClipPipeline) -> Ask:
    """Return the back end over the pipeline in this process."""

    def ask(video: Path, query: str) -> list[Span]:
        search = pipeline.moments([video], query, SearchOptions())
        return [(moment.start_s, moment.end_s) for moment in search.videos[0].moments]

    return ask


def app_backend(client: AppClient) -> Ask:
    """Return the back end over the endpoint of a running app."""

    def ask(video: Path, query: str) -> list[Span]:
        rows = client.predict_video(
            video, query=query, model=DEMO_VICLIP.key, api_name="/find_moments"
        )
        return [(row["start_s"], row["end_s"]) for row in rows]

    return ask


def evaluate(request: Request) -> dict[str, Any]:
    """Return the recall of one back end."""
    with TemporaryDirectory() as folder:
        asked = moment_questions(request.seed, request.num, Path(folder))
        if request.url:
            return {"recall": measure(app_backend(AppClient(request.url)), asked)}
        with open_viclip(request.checkpoint) as viclip:
            return {"recall": measure(pipeline_backend(viclip), asked)}
