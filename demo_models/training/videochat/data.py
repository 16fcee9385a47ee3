"""The cached videos that the demo VideoChat-Flash learns from, and their labels.

A video is eight frames of one clip of a `Motion`, at the middles of eight equal parts, as the
checkpoint's own sampler takes them. The vision tower reads them four at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo_models.training.checkpoints import cached
from demo_models.world.augmentation import augment
from demo_models.world.motion import (
    EVENT_KINDS,
    OPPOSITES,
    SUDDEN,
    Event,
    Motion,
    clip_times,
    mirrored,
    reversed_motion,
    states_at,
    tracks,
    visible_kind,
)
from demo_models.world.motion_rendering import owner_maps, render_frames
from demo_models.world.motion_sampling import MotionOptions, sample_motion
from demo_models.world.vocabulary import COLOURS, SHAPES

SIDE_PX = 72
PATCH_PX = 8
GRID = SIDE_PX // PATCH_PX
NUM_FRAMES = 8
CLIP_FRAMES = 4
NUM_CLIPS = NUM_FRAMES // CLIP_FRAMES
MAX_OBJECTS = 3
EDGE, EMPTY = 255, 254  # owners of a patch besides the number of an object
COVERED_SHARE = 0.25  # of a patch that an object covers to own it
FINE_SHARE = 0.12  # of the videos that are rendered larger and then reduced
UNKNOWN = -1
MIRRORED_KINDS = tuple(
    OPPOSITES[kind] if kind in ("left", "right") else kind for kind in EVENT_KINDS
)
REVERSED_KINDS = tuple(OPPOSITES.get(kind, kind) for kind in EVENT_KINDS)

Rng = np.random.Generator


@dataclass(frozen=True)
class ObjectTables:
    """Labels of the objects of V videos; O = `MAX_OBJECTS`, T = `NUM_FRAMES`, K event kinds.

    `shape` (V, O) int64, `UNKNOWN` where there is no such object; `colour` (V, O, T) int64;
    `track` (V, O, T, 4) float32: x, y, radius, 1 where visible; `actions` (V, O, clips, K) int8:
    1 done in this clip of four frames, 0 not, `UNKNOWN` undecided; `events` (V, O, K) int8:
    what is done in the whole video.
    """

    shape: NDArray[np.int64]
    colour: NDArray[np.int64]
    track: NDArray[np.float32]
    actions: NDArray[np.int8]
    events: NDArray[np.int8]


@dataclass(frozen=True)
class VideoCache:
    """Rendered videos with their labels; row i of each belongs together.

    `pixels` (V, T, S, S, 3) uint8; `owners` (V, T, G * G) uint8: the object that covers a patch,
    `EMPTY`, or `EDGE` for a patch that is neither.
    """

    pixels: NDArray[np.uint8]
    owners: NDArray[np.uint8]
    motions: list[Motion]
    tables: ObjectTables


def patch_owners(maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (T, G * G) owners of patches for maps (T, S, S) of owners of pixels.

    Every visible object owns at least the patch that it covers most.
    """
    frames = len(maps)
    cut = maps.reshape(frames, GRID, PATCH_PX, GRID, PATCH_PX).transpose(0, 1, 3, 2, 4)
    cut = cut.reshape(frames, GRID * GRID, PATCH_PX**2)
    shares = np.stack([(cut == item).mean(axis=2) for item in range(MAX_OBJECTS)], axis=2)
    best = shares.argmax(axis=2)
    most = shares.max(axis=2)
    owners = np.where(most >= COVERED_SHARE, best, np.where(most > 0, EDGE, EMPTY))
    for frame in range(frames):
        for item in range(MAX_OBJECTS):
            place = int(shares[frame, :, item].argmax())
            if shares[frame, place, item] > 0 and not (owners[frame] == item).any():
                owners[frame, place] = item
    return owners.astype(np.uint8)


def _done_in(event: Event, times: NDArray[np.float64]) -> int:
    """Return whether the frames at these times show an event: 1, 0, or `UNKNOWN`."""
    if event.kind in SUDDEN:
        return int(times[0] < event.start <= times[-1])
    overlap = min(times[-1], event.end) - max(times[0], event.start)
    share = overlap / (event.end - event.start)
    if overlap <= 0.02:
        return 0
    return 1 if share >= 0.6 or overlap >= 0.2 else UNKNOWN


def object_tables(motion: Motion, times: NDArray[np.float64]) -> ObjectTables:
    """Return the tables of one video, without their first axis."""
    shape = np.full(MAX_OBJECTS, UNKNOWN, dtype=np.int64)
    colour = np.zeros((MAX_OBJECTS, len(times)), dtype=np.int64)
    track = np.zeros((MAX_OBJECTS, len(times), 4), dtype=np.float32)
    actions = np.zeros((MAX_OBJECTS, NUM_CLIPS, len(EVENT_KINDS)), dtype=np.int8)
    events = np.zeros((MAX_OBJECTS, len(EVENT_KINDS)), dtype=np.int8)
    track[: len(motion.movers)] = tracks(motion, times)
    colours = [item.item.colour for item in motion.movers]
    for frame, time in enumerate(times):
        for index, state in enumerate(states_at(motion, float(time))):
            colours[index] = state.colour if state is not None else colours[index]
            colour[index, frame] = COLOURS.index(colours[index])
    for index, mover in enumerate(motion.movers):
        shape[index] = SHAPES.index(mover.item.shape)
        for event in mover.events:
            kind = EVENT_KINDS.index(visible_kind(motion, event))
            events[index, kind] = 1
            for clip in range(NUM_CLIPS):
                part = times[clip * CLIP_FRAMES : (clip + 1) * CLIP_FRAMES]
                done = _done_in(event, part)
                actions[index, clip, kind] = done or actions[index, clip, kind]
    return ObjectTables(shape, colour, track, actions, events)


def _render(motion: Motion, times: NDArray[np.float64], rng: Rng) -> NDArray[np.uint8]:
    """Render one video with the small harms of files, the same in every frame."""
    size = 2 * SIDE_PX if rng.random() < FINE_SHARE else SIDE_PX
    degradation_seed = int(rng.integers(2**31))
    frames = []
    for frame in render_frames(motion, times, size):
        image = Image.fromarray(frame)
        if size != SIDE_PX:
            image = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        frames.append(np.asarray(augment(image, np.random.default_rng(degradation_seed))))
    return np.stack(frames)


def draw_video(
    rng: Rng, options: MotionOptions | None = None
) -> tuple[Motion, NDArray[np.uint8], NDArray[np.uint8], ObjectTables]:
    """Draw one video: its motion, frames (T, S, S, 3), owners (T, G * G) and tables."""
    motion = sample_motion(rng, options)
    times = clip_times(NUM_FRAMES) + rng.uniform(-0.012, 0.012, NUM_FRAMES)
    owners = patch_owners(owner_maps(motion, times, SIDE_PX))
    return motion, _render(motion, times, rng), owners, object_tables(motion, times)


def combine_tables(
    combine: Callable[[list[NDArray[Any]]], NDArray[Any]], tables: list[ObjectTables]
) -> ObjectTables:
    """Return tables whose fields are those of several ones, stacked or concatenated."""
    names = [field.name for field in fields(ObjectTables)]
    return ObjectTables(*(combine([getattr(table, name) for table in tables]) for name in names))


def load_or_make_cache(data: Path, seed: int, num: int) -> VideoCache:
    """Return the videos of a seed and number, drawn into the folder `data` at the first call."""
    folder = data / f"videos-{seed}-{num}"

    def make(target: Path) -> tuple[Any, ...]:
        rng = np.random.default_rng([seed, 31])
        shape = (num, NUM_FRAMES, SIDE_PX, SIDE_PX, 3)
        pixels = np.lib.format.open_memmap(target / "pixels.npy", "w+", np.uint8, shape)
        owners = np.zeros((num, NUM_FRAMES, GRID * GRID), dtype=np.uint8)
        motions, tables = [], []
        for row in range(num):
            motion, pixels[row], owners[row], table = draw_video(rng)
            motions.append(motion)
            tables.append(table)
        pixels.flush()
        return owners, motions, combine_tables(np.stack, tables)

    owners, motions, tables = cached(folder, make)
    return VideoCache(np.load(folder / "pixels.npy", mmap_mode="r"), owners, motions, tables)


@dataclass(frozen=True)
class Flip:
    """Flip of a video in space (left and right exchanged) and in time (run from the end)."""

    mirror: bool
    backwards: bool


def flipped_pixels(pixels: NDArray[np.uint8], flip: Flip) -> NDArray[np.uint8]:
    """Return frames (T, S, S, 3) turned."""
    if flip.backwards:
        pixels = pixels[::-1]
    return pixels[:, :, ::-1] if flip.mirror else pixels


def flipped_owners(owners: NDArray[np.uint8], flip: Flip) -> NDArray[np.uint8]:
    """Return owners of patches (T, G * G) turned."""
    grids = owners.reshape(-1, GRID, GRID)
    if flip.backwards:
        grids = grids[::-1]
    if flip.mirror:
        grids = grids[:, :, ::-1]
    return grids.reshape(owners.shape)


def flipped_motion(motion: Motion, flip: Flip) -> Motion:
    """Return a motion turned."""
    if flip.backwards:
        motion = reversed_motion(motion)
    return mirrored(motion) if flip.mirror else motion


def flipped_tables(tables: ObjectTables, row: int, flip: Flip) -> ObjectTables:
    """Return one row of the tables turned, without its first axis."""
    colour, track = tables.colour[row], tables.track[row].copy()
    actions, events = tables.actions[row], tables.events[row]
    if flip.backwards:
        order = [EVENT_KINDS.index(kind) for kind in REVERSED_KINDS]
        colour, track = colour[:, ::-1], track[:, ::-1].copy()
        actions, events = actions[:, ::-1][..., order], events[:, order]
    if flip.mirror:
        order = [EVENT_KINDS.index(kind) for kind in MIRRORED_KINDS]
        track[..., 0] = 1 - track[..., 0]
        actions, events = actions[..., order], events[:, order]
    return ObjectTables(tables.shape[row], colour, track, actions, events)
