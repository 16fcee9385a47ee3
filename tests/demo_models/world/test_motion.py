"""Moving scenes: their truth agrees with their frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from demo_models.world.motion import (
    OPPOSITES,
    clip_times,
    mirrored,
    reversed_motion,
    seen_events,
    state_at,
    states_at,
    tracks,
)
from demo_models.world.motion_rendering import NO_OWNER, owner_maps, render_frames
from demo_models.world.motion_sampling import MotionOptions, sample_motion, sample_story
from demo_models.world.vocabulary import HELD_OUT_PAIRS

TIMES = clip_times(8)


def _centres(maps: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y (T,) of an object in picture widths, as its pixels tell."""
    side = maps.shape[1]
    weights = (maps == index).astype(float)
    total = weights.sum(axis=(1, 2))
    axis = (np.arange(side) + 0.5) / side
    return weights.sum(axis=1) @ axis / total, weights.sum(axis=2) @ axis / total


@pytest.mark.parametrize("kind", ["left", "right", "up", "down"])
@pytest.mark.parametrize("change", [None, mirrored, reversed_motion])
def test_what_is_told_of_a_move_is_what_the_pixels_do(kind, change) -> None:
    options = MotionOptions(kinds=(kind,), event_shares=(0, 1, 0), count_shares=(1.0,))
    for seed in range(5):
        motion = sample_motion(np.random.default_rng(seed), options)
        motion = change(motion) if change else motion
        ((index, event, seen),) = seen_events(motion)
        x, y = _centres(owner_maps(motion, TIMES, 128), index)
        offset = {"left": -1, "right": 1, "up": -1, "down": 1}[event.kind]
        moved = (x if event.kind in ("left", "right") else y)[[0, -1]]
        assert seen is True
        assert offset * (moved[1] - moved[0]) > 0.8 * event.amount > 0.2


def test_frames_of_a_reversed_motion_are_the_frames_in_reverse() -> None:
    for seed in range(20):
        motion = sample_motion(np.random.default_rng(seed))
        forth = render_frames(motion, TIMES).astype(int)
        back = render_frames(reversed_motion(motion), TIMES).astype(int)
        assert (np.abs(forth - back[::-1]) > 3).mean() < 0.002
        kinds = [event.kind for _, event, _ in seen_events(motion)]
        swapped = [event.kind for _, event, _ in seen_events(reversed_motion(motion))]
        assert swapped == [OPPOSITES.get(kind, kind) for kind in reversed(kinds)]


def test_a_mirrored_motion_is_rendered_and_told_mirrored() -> None:
    motion = sample_motion(np.random.default_rng(3))
    other = mirrored(motion)
    assert np.array_equal(render_frames(other, TIMES), render_frames(motion, TIMES)[:, :, ::-1])
    assert np.array_equal(owner_maps(other, TIMES), owner_maps(motion, TIMES)[:, :, ::-1])
    assert np.allclose(tracks(other, TIMES)[..., 0], 1 - tracks(motion, TIMES)[..., 0])
    assert mirrored(other) == motion


def test_objects_stay_apart_and_inside() -> None:
    for seed in range(40):
        motion = sample_motion(np.random.default_rng(seed))
        for time in np.linspace(0, 1, 33):
            items = [state_at(mover, float(time))[0] for mover in motion.movers]
            for index, item in enumerate(items):
                assert min(item.x, item.y, 1 - item.x, 1 - item.y) >= 0.99 * item.reach
                for other in items[:index]:
                    gap = np.hypot(item.x - other.x, item.y - other.y)
                    assert gap > item.reach + other.reach


def test_an_object_that_appears_is_in_no_frame_before() -> None:
    options = MotionOptions(kinds=("appear",), event_shares=(0, 1, 0), count_shares=(1.0,))
    motion = sample_motion(np.random.default_rng(0), options)
    ((index, event, _),) = seen_events(motion)
    there = (owner_maps(motion, TIMES) != NO_OWNER).any(axis=(1, 2))
    assert there.tolist() == (event.start <= TIMES).tolist()
    assert states_at(motion, 0.0)[index] is None
    assert states_at(motion, 1.0)[index] is not None


def test_held_out_pairs_never_appear() -> None:
    pairs = set()
    for seed in range(300):
        motion = sample_motion(np.random.default_rng(seed))
        for time in (0.0, 1.0):
            pairs |= {(item.colour, item.shape) for item in states_at(motion, time) if item}
    assert len(pairs) > 60
    assert not pairs & set(HELD_OUT_PAIRS)


def test_a_window_shows_what_lies_in_it() -> None:
    story = sample_story(np.random.default_rng(1), 4)
    events = seen_events(story)
    assert [seen for _, _, seen in events] == [True] * 4
    assert all(a[1].end < b[1].start for a, b in zip(events, events[1:], strict=False))
    for _, event, _ in events:
        around = seen_events(story, event.start - 0.5, event.end + 0.5)
        assert [seen for _, other, seen in around if other == event] == [True]
        before = seen_events(story, max(0.0, event.start - 1.0), event.start - 0.01)
        assert event not in [other for _, other, _ in before]


def test_a_window_over_a_part_of_an_event_is_undecided() -> None:
    options = MotionOptions(kinds=("left",), event_shares=(0, 1, 0))
    motion = sample_motion(np.random.default_rng(1), options)
    ((_, event, _),) = seen_events(motion)
    third = event.start + (event.end - event.start) / 3
    assert [seen for _, _, seen in seen_events(motion, 0.0, third)] == [None]
    assert seen_events(replace(motion, movers=motion.movers[:0])) == ()


def test_the_same_seed_gives_the_same_motion() -> None:
    first, second = (sample_motion(np.random.default_rng(5)) for _ in range(2))
    assert first == second
    assert np.array_equal(render_frames(first, TIMES), render_frames(second, TIMES))
