"""The videos, texts and labels of one training step of the demo ViCLIP, new in every step."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo_models.language.motion_statements import VideoClaim, View, judge_claim, view_of
from demo_models.language.motion_texts import CLAIM_KINDS, false_claim, true_claim
from demo_models.language.unrelated_texts import sample_unrelated_text
from demo_models.training.clip.data import (
    EDGE,
    EMPTY,
    GRID,
    NO_BACKGROUND,
    PATCH_PX,
    statement_corpus,
)
from demo_models.world.augmentation import augment
from demo_models.world.motion import (
    EVENT_KINDS,
    SUDDEN,
    Motion,
    clip_times,
    mirrored,
    reversed_motion,
    state_at,
    tracks,
    visible_kind,
)
from demo_models.world.motion_rendering import NO_OWNER, owner_maps, render_frames
from demo_models.world.motion_sampling import MotionOptions, sample_motion, sample_story
from demo_models.world.scenes import IMAGE_PX
from demo_models.world.unrelated_images import HELD_OUT_KINDS, KINDS, draw_unrelated_image
from demo_models.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES
from pipelines.models.viclip.processing_viclip import resize_frames

NUM_FRAMES = 8
STILL = len(EVENT_KINDS)
"""The class of an object that does nothing just now."""

LARGE_PX = 192
Rng = np.random.Generator


@dataclass(frozen=True)
class VideoSizes:
    """Numbers of videos and texts of each kind in a batch."""

    motions: int = 44
    twins: int = 12  # of the new motions; run backwards or mirrored, beside the originals
    non_scenes: int = 4
    hard_texts: int = 44
    unrelated_texts: int = 20


@dataclass
class VideoLabels:
    """Labels of one video's 8 x 64 patches and of the whole.

    `owners` (8, 64) uint8 as in `clip_data`; `shape`, `colour`, `now` (8, 64) int64, -100 for
    "ignore"; `boxes`, `pace` (8, 64, 3) float32: x, y, radius, and their change per clip;
    `ever` (8, 64, 11) float32, what the patch's object does at any time of the clip;
    `background`, `count` int; `kinds` (11,) float32, what any object does.
    """

    owners: NDArray[np.uint8]
    shape: NDArray[np.int64]
    colour: NDArray[np.int64]
    now: NDArray[np.int64]
    boxes: NDArray[np.float32]
    pace: NDArray[np.float32]
    ever: NDArray[np.float32]
    background: int
    count: int
    kinds: NDArray[np.float32]


@dataclass(frozen=True)
class VideoBatch:
    """One step's data: `pixels` (B, 8, 64, 64, 3) uint8, texts, `truth` (T, B) int8."""

    pixels: NDArray[np.uint8]
    texts: list[str]
    truth: NDArray[np.int8]
    labels: list[VideoLabels]


def patch_owners(motion: Motion, times: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return which object covers each patch of each frame, (T, 64) uint8, or EMPTY, or EDGE."""
    maps = owner_maps(motion, times).reshape(len(times), GRID, PATCH_PX, GRID, PATCH_PX)
    owners = np.full((len(times), GRID, GRID), EMPTY, dtype=np.uint8)
    owners[(maps != NO_OWNER).mean(axis=(2, 4)) > 0.03] = EDGE
    for index in range(len(motion.movers)):
        owners[(maps == index).mean(axis=(2, 4)) > 0.3] = index
    return owners.reshape(len(times), GRID * GRID)


def _doing(motion: Motion, index: int, time: float) -> int:
    """Return the class of what an object does at a time."""
    for event in motion.movers[index].events:
        reach = 1.0 / NUM_FRAMES if event.kind in SUDDEN else 0.0
        if event.start - reach <= time <= event.end + reach:
            return EVENT_KINDS.index(visible_kind(motion, event))
    return STILL


def label_motion(motion: Motion, view: View, times: NDArray[np.float64]) -> VideoLabels:
    """Return the labels of a window of a motion."""
    owners = patch_owners(motion, times)
    here, before, after = (tracks(motion, times + shift)[..., :3] for shift in (0, -1 / 16, 1 / 16))
    labels = empty_labels(BACKGROUNDS.index(motion.page.background))
    kinds = np.zeros((len(motion.movers) or 1, STILL), dtype=np.float32)
    for event in view.events:
        kinds[event.owner, EVENT_KINDS.index(event.kind)] = 1
    for index, mover in enumerate(motion.movers):
        for row, time in enumerate(times):
            mine = owners[row] == index
            item = state_at(mover, float(time))[0]
            labels.shape[row, mine] = SHAPES.index(item.shape)
            labels.colour[row, mine] = COLOURS.index(item.colour)
            labels.now[row, mine] = _doing(motion, index, float(time))
            labels.boxes[row, mine] = here[index, row]
            labels.pace[row, mine] = 8 * (after - before)[index, row]
            labels.ever[row, mine] = kinds[index]
    for table in (labels.shape, labels.colour, labels.now):
        table[owners == EDGE] = -100
    labels.owners[:] = owners
    labels.kinds[:] = kinds.max(axis=0)
    labels.count = sum(bool(one.colours) for one in view.objects)
    return labels


def empty_labels(background: int) -> VideoLabels:
    """Return the labels of a video without objects."""
    grid = (NUM_FRAMES, GRID * GRID)
    boxes = np.zeros((*grid, 3), dtype=np.float32)
    centres = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID
    boxes[..., 0], boxes[..., 1] = np.tile(centres, GRID), np.repeat(centres, GRID)
    return VideoLabels(
        owners=np.full(grid, EMPTY, dtype=np.uint8),
        shape=np.full(grid, len(SHAPES), dtype=np.int64),
        colour=np.full(grid, len(COLOURS), dtype=np.int64),
        now=np.full(grid, STILL, dtype=np.int64),
        boxes=boxes,
        pace=np.zeros((*grid, 3), dtype=np.float32),
        ever=np.zeros((*grid, STILL), dtype=np.float32),
        background=background,
        count=0,
        kinds=np.zeros(STILL, dtype=np.float32),
    )


def degrade(frames: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Return frames with the losses of video files: compression, noise or blur, all alike."""
    if rng.random() < 0.6:
        return frames
    seed = int(rng.integers(2**31))
    quality = int(rng.integers(25, 80)) if rng.random() < 0.5 else 0
    harmed = []
    for frame in frames:
        image = Image.fromarray(frame)
        if quality:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality)
            image = Image.open(buffer).convert("RGB")
        else:
            image = augment(image, np.random.default_rng(seed))
        harmed.append(np.asarray(image))
    return np.stack(harmed)


def render_clip(motion: Motion, times: NDArray[np.float64], rng: Rng) -> NDArray[np.uint8]:
    """Render frames (8, 64, 64, 3) uint8, half of the clips through a larger size, as in files."""
    if rng.random() < 0.5:
        return degrade(render_frames(motion, times), rng)
    large = degrade(render_frames(motion, times, LARGE_PX), rng)
    return resize_frames(large, IMAGE_PX, IMAGE_PX)


def motion_corpus(seed: int, num: int) -> list[str]:
    """Return true texts about `num` motions, each kind equally often, and as many of images."""
    rng = np.random.default_rng(seed)
    kinds = tuple(CLAIM_KINDS)
    views = (view_of(sample_motion(rng)) for _ in range(num))
    texts = [true_claim(rng, view, kinds[i % len(kinds)]).text for i, view in enumerate(views)]
    return texts + statement_corpus(seed, num // 2)


SIMPLE = MotionOptions(count_shares=(0.7, 0.3), event_shares=(0.0, 1.0))
"""One or two objects and one event, to learn motion at all."""

EVEN = MotionOptions(even=True)
"""Every kind of event as often as the others."""

WEAK = MotionOptions(
    event_shares=(0.06, 0.50, 0.44),
    kinds=(*EVENT_KINDS, "bounce", "grow", "shrink", "appear", "appear", "disappear", "recolour"),
    even=True,
)
"""The kinds with the lowest accuracy come twice or three times as often as the rest."""

MIXES = {"all": MotionOptions(), "simple": SIMPLE, "even": EVEN, "weak": WEAK}


def _window(rng: Rng, mix: str) -> tuple[Motion, float]:
    """Return a motion and the start of a window over it: a clip, or a part of a story."""
    if mix == "simple" or rng.random() < 0.72:
        return sample_motion(rng, MIXES[mix]), 0.0
    story = sample_story(rng, 2, MIXES[mix], pauses=(0.3, 1.0))
    return story, float(rng.uniform(0, story.duration - 1))


def unrelated_video(rng: Rng, held_out: bool = False) -> NDArray[np.uint8]:
    """Return a video (8, 64, 64, 3) uint8 of what this world does not have, some of it panned.

    With `held_out` it is of a kind that training never shows.
    """
    kinds = HELD_OUT_KINDS if held_out else KINDS
    image, _ = draw_unrelated_image(rng, kinds[int(rng.integers(len(kinds)))])
    pixels = np.asarray(image.convert("RGB").resize((IMAGE_PX, IMAGE_PX)))
    step = rng.integers(-3, 4, 2) if rng.random() < 0.6 else np.zeros(2, dtype=int)
    moved = [np.roll(pixels, tuple(int(i * s) for s in step), (0, 1)) for i in range(NUM_FRAMES)]
    return degrade(np.stack(moved), rng)


VideoSample = tuple[NDArray[np.uint8], VideoLabels, View]


def draw_samples(rng: Rng, twins: int, num: int, mix: str = "all") -> list[VideoSample]:
    """Return `num` rendered motions, the first `twins` of them mirrored or reversed as well.

    `mix` is one of `MIXES`.
    """
    samples: list[VideoSample] = []
    for index in range(num):
        motion, start = _window(rng, mix)
        times = clip_times(NUM_FRAMES, start, start + 1)
        times = times + rng.uniform(-0.02, 0.02, NUM_FRAMES) * (rng.random() < 0.5)
        frames = render_clip(motion, times, rng)
        view = view_of(motion, start, start + 1)
        samples.append((frames, label_motion(motion, view, times), view))
        if index < twins:
            samples.append(_twin(rng, motion, frames, start, times))
    return samples


def _twin(
    rng: Rng, motion: Motion, frames: NDArray[np.uint8], start: float, times: NDArray[np.float64]
) -> VideoSample:
    """Return a sample reversed or mirrored, with the labels that then hold."""
    if rng.random() < 0.35:
        other, frames = mirrored(motion), frames[:, :, ::-1]
    else:
        other, frames = reversed_motion(motion), frames[::-1]
        start, times = motion.duration - start - 1, motion.duration - times[::-1]
    view = view_of(other, start, start + 1)
    return frames, label_motion(other, view, times), view


class SamplePool:
    """Pool of the motions rendered last; each is used in about `uses` batches, with new texts."""

    def __init__(self, sizes: VideoSizes, uses: int = 1, mix: str = "all") -> None:
        """Start empty; `mix` is one of `MIXES`."""
        self.sizes, self.uses, self.mix = sizes, uses, mix
        self.samples: list[VideoSample] = []

    def draw(self, rng: Rng) -> list[VideoSample]:
        """Render a few new motions and return a batch of the pool with the new ones among them."""
        batch = self.sizes.motions + self.sizes.twins
        new = -(-self.sizes.motions // self.uses) if self.samples else self.sizes.motions
        twins = round(new * self.sizes.twins / self.sizes.motions)
        drawn = draw_samples(rng, twins, new, self.mix)
        others = self.samples[: 4 * batch]
        chosen = rng.permutation(len(others))[: batch - len(drawn)]
        self.samples = drawn + others
        return drawn + [others[int(index)] for index in chosen]


def make_batch(rng: Rng, sizes: VideoSizes, pool: SamplePool) -> VideoBatch:
    """Take motions from the pool, write new texts for them and judge every pair."""
    samples = pool.draw(rng)
    views = [view for _, _, view in samples]
    claims: list[VideoClaim] = [true_claim(rng, view) for view in views]
    for index in rng.permutation(len(views))[: sizes.hard_texts]:
        changed = false_claim(rng, views[index], claims[index])
        if changed is not None:
            claims.append(changed)
    for _ in range(sizes.unrelated_texts):
        claims.append(VideoClaim(sample_unrelated_text(rng), possible=False))
    strange = [unrelated_video(rng) for _ in range(sizes.non_scenes)]
    views += [View(None)] * sizes.non_scenes
    truth = [[judge_claim(claim, view) for view in views] for claim in claims]
    codes = {True: 1, False: 0, None: -1}
    return VideoBatch(
        pixels=np.stack([frames for frames, _, _ in samples] + strange),
        texts=[claim.text for claim in claims],
        truth=np.array([[codes[value] for value in row] for row in truth], dtype=np.int8),
        labels=[labels for _, labels, _ in samples]
        + [empty_labels(NO_BACKGROUND) for _ in strange],
    )
