"""Videos that no training run has seen, as files, and questions about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from demo_models.evaluation.held_out import evaluation_rng
from demo_models.language.motion_statements import Act, VideoClaim, View, judge_claim, view_of
from demo_models.language.motion_texts import false_claim, true_claim, word_claim
from demo_models.world.motion import DIRECTIONS, EVENT_KINDS, Motion
from demo_models.world.motion_rendering import render_frames
from demo_models.world.motion_sampling import MotionOptions, sample_motion
from demo_models.world.vocabulary import HELD_OUT_PAIRS, SEEN_PAIRS

Rng = np.random.Generator
NUM_TEXTS = 20
CLAIMS = ("action", "action", "order", "object", "listing")
"""Kinds of the texts of which one in twenty is true."""


@dataclass(frozen=True)
class FileFormat:
    """How a video is written."""

    width: int
    height: int
    fps: int
    seconds: float
    crf: int  # of H.264: 0 is lossless, more is worse

    @property
    def name(self) -> str:
        """Say it shortly."""
        return f"{self.width}x{self.height} at {self.fps} fps, {self.seconds:g} s, crf {self.crf}"


FORMATS = (
    FileFormat(320, 240, 25, 4.0, 23),
    FileFormat(320, 240, 12, 2.0, 23),
    FileFormat(320, 240, 30, 6.0, 28),
    FileFormat(64, 64, 8, 2.0, 0),
    FileFormat(160, 120, 15, 3.0, 30),
    FileFormat(128, 128, 25, 4.0, 35),
)


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


def write_video(path: Path, frames: NDArray[np.uint8], fps: int, crf: int = 23) -> None:
    """Write (T, H, W, 3) uint8 frames of even sizes as H.264; crf 0 keeps every luma value."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        stream: Any = container.add_stream("libx264", rate=Fraction(fps), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_motion(path: Path, motion: Motion, form: FileFormat) -> None:
    """Render a whole motion into a video file."""
    count = round(form.seconds * form.fps)
    times = np.arange(count) / count * motion.duration
    write_video(path, render_frames(motion, times, form.height, form.width), form.fps, form.crf)


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


def _act(view: View, kind: str) -> Act:
    event = view.events[0]
    return Act(event.colour, view.objects[event.owner].shape, kind)


def _say(act: Act) -> str:
    return word_claim(VideoClaim("", (act,))).text


def direction_questions(seed: int, num: int, folder: Path, seen: bool) -> Iterator[VideoQuestion]:
    """Yield one of 4: where does this object move? One event, one to three objects."""
    pairs = SEEN_PAIRS if seen else HELD_OUT_PAIRS
    options = MotionOptions(pairs=pairs, kinds=DIRECTIONS, event_shares=(0, 1, 0))
    kind = "direction_of_4" if seen else "unseen_direction_of_4"
    for index, (motion, view, rng) in enumerate(held_out_motions(seed, num, kind, options)):
        path = folder / f"{kind}-{index}.mp4"
        form = FORMATS[index % len(FORMATS)]
        write_motion(path, motion, form)
        texts = [_say(_act(view, way)) for way in DIRECTIONS]
        right = _say(_act(view, view.events[0].kind))
        also = (f"{kind} {form.name}",) if seen else ()
        yield VideoQuestion(kind, path, _shuffled(rng, texts), right, also)


def event_questions(seed: int, num: int, folder: Path) -> Iterator[VideoQuestion]:
    """Yield one of 11: what does this object do?"""
    options = MotionOptions(event_shares=(0, 1, 0))
    for index, (motion, view, rng) in enumerate(held_out_motions(seed, num, "events", options)):
        path = folder / f"event-{index}.mp4"
        write_motion(path, motion, FORMATS[index % len(FORMATS)])
        texts = [_say(_act(view, kind)) for kind in EVENT_KINDS]
        does = view.events[0].kind
        right, also = _say(_act(view, does)), (f"event_of_11 {does}",)
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


def text_questions(seed: int, num: int, folder: Path, seen: bool) -> Iterator[VideoQuestion]:
    """Yield one of 20: texts of other videos, and texts that differ in a word or two.

    Texts of two events in the wrong order are asked apart, one of 2.
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
        write_motion(path, motion, FORMATS[index % len(FORMATS)])
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
