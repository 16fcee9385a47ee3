"""Moving scenes as plain data: the events of objects in time, and the content of a window.

A `Motion` is a scene whose objects have events on a time line. Time is counted in clips: 1.0 is
the span that a video model sees at once, whatever its length in seconds. `motion_sampling` draws
motions, `motion_rendering` turns them into frames; here is the exact truth about them::

    rng = np.random.default_rng(7)
    motion = sample_motion(rng)                           # one clip, 0.0..1.0, one to three objects
    frames = render_frames(motion, clip_times(8))         # (8, 64, 64, 3) uint8
    states_at(motion, 0.5)                                # each object then, None where invisible
    tracks(motion, clip_times(8))                         # (N, 8, 4): x, y, radius, visible
    seen_events(motion)                                   # ((object, Event, True or None), ...)
    backwards = reversed_motion(motion)                   # runs from the end, labels exchanged
    mirror = mirrored(motion)                             # left and right exchanged
    story = sample_story(rng, num_events=5)               # several clips long
    seen_events(story, 1.5, 2.5)                          # what the window 1.5..2.5 shows

Only what is visible at eight frames a clip is counted as true or false; the rest is None.
Pairs of colour and shape that are held out never appear, not even as what an object turns into.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from demo_models.world.scenes import Scene, SceneObject
from demo_models.world.vocabulary import Rgb

DIRECTIONS = ("left", "right", "up", "down")
SUDDEN = ("appear", "disappear", "recolour")
EVENT_KINDS = (*DIRECTIONS, "spin", "grow", "shrink", "bounce", *SUDDEN)
"""Kinds of events; an object without an event stays still."""

OPPOSITES = {
    "left": "right",
    "right": "left",
    "up": "down",
    "down": "up",
    "grow": "shrink",
    "shrink": "grow",
    "appear": "disappear",
    "disappear": "appear",
}
STEPS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}

SLOW, FAST = 0.6, 1.1  # at most, at least; image widths per clip
SURE_SHARE, UNSURE_SHARE = 0.5, 0.15  # of an event that a window shows
SUDDEN_MARGIN = 0.13  # clips between a sudden change and a window's edge: one of 8 frames


@dataclass(frozen=True)
class Event:
    """Event of one object from `start` to `end`, in clips; a sudden change has both equal.

    `amount` is the way in image widths for the directions and the height of a bounce, degrees
    (clockwise positive) for a spin, the factor on the radius (above 1) for grow and shrink, and
    0 for the sudden ones. `before` and `after` are (name, RGB) of a recolouring.
    """

    kind: str
    start: float
    end: float
    amount: float = 0.0
    before: tuple[str, Rgb] | None = None
    after: tuple[str, Rgb] | None = None

    @property
    def speed(self) -> str | None:
        """Return "slow" or "fast" for a move, None where it is neither or no move."""
        if self.kind not in DIRECTIONS:
            return None
        pace = self.amount / (self.end - self.start)
        return "slow" if pace <= SLOW else "fast" if pace >= FAST else None


@dataclass(frozen=True)
class Mover:
    """An object as it is at time 0, whether it is visible then, and its events in order."""

    item: SceneObject
    events: tuple[Event, ...] = ()
    visible: bool = True


@dataclass(frozen=True)
class Motion:
    """A moving scene. Equal motions render to equal frames.

    `page` is the background, a scene without objects; `duration` is in clips; with `mirror`
    left and right are exchanged in frames and labels.
    """

    page: Scene
    movers: tuple[Mover, ...]
    duration: float = 1.0
    mirror: bool = False


def clip_times(num_frames: int, start: float = 0.0, end: float = 1.0) -> NDArray[np.float64]:
    """Return the middles of `num_frames` equal pieces of a window, (num_frames,), in clips."""
    return start + (np.arange(num_frames) + 0.5) / num_frames * (end - start)


def state_at(mover: Mover, time: float) -> tuple[SceneObject, bool]:
    """Return how an object looks at a time, before any mirroring, and whether it is visible."""
    item, visible = mover.item, mover.visible
    for event in mover.events:
        if time < event.start:
            break
        item = _changed(item, event, time)
        if event.kind in ("appear", "disappear"):
            visible = event.kind == "appear"
    return item, visible


def _changed(item: SceneObject, event: Event, time: float) -> SceneObject:
    """Return what an event has made of an object by a time after its start."""
    length = event.end - event.start
    share = min(1.0, (time - event.start) / length) if length else 1.0
    if event.kind in DIRECTIONS:
        dx, dy = STEPS[event.kind]
        way = share * event.amount
        return replace(item, x=item.x + dx * way, y=item.y + dy * way)
    if event.kind == "bounce":
        return replace(item, y=item.y - event.amount * abs(float(np.sin(2 * np.pi * share))))
    if event.kind == "spin":
        return replace(item, angle_deg=item.angle_deg + share * event.amount)
    if event.kind in ("grow", "shrink"):
        factor = event.amount**share
        return replace(item, radius=item.radius * (factor if event.kind == "grow" else 1 / factor))
    if event.kind == "recolour" and event.after is not None:
        return replace(item, colour=event.after[0], rgb=event.after[1])
    return item


def states_at(motion: Motion, time: float) -> list[SceneObject | None]:
    """Return each object as it is at a time, None where it is invisible.

    Under `mirror` the centre is mirrored; the outline's own parameters are not.
    """
    states = []
    for mover in motion.movers:
        item, visible = state_at(mover, time)
        if motion.mirror:
            item = replace(item, x=1 - item.x)
        states.append(item if visible else None)
    return states


def tracks(motion: Motion, times: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float32]:
    """Return where the objects are at each time.

    Returns:
        (N, T, 4) float32: x, y, radius in image widths, and 1 where visible. Positions of
        an invisible object are those where it was or will be.
    """
    table = np.zeros((len(motion.movers), len(times), 4), dtype=np.float32)
    for row, mover in enumerate(motion.movers):
        for column, time in enumerate(times):
            item, visible = state_at(mover, float(time))
            x = 1 - item.x if motion.mirror else item.x
            table[row, column] = (x, item.y, item.radius, visible)
    return table


def visible_kind(motion: Motion, event: Event) -> str:
    """Return the kind of an event as it looks, left and right exchanged under `mirror`."""
    if motion.mirror and event.kind in ("left", "right"):
        return OPPOSITES[event.kind]
    return event.kind


def visible_in(event: Event, start: float, end: float) -> bool | None:
    """Return whether a window shows an event: True, False, or None where it is undecidable.

    A sudden change must lie at least one of eight frames inside the window. Of other events
    the window must show half, and a bounce whole.
    """
    if event.kind in SUDDEN:
        if not start < event.start < end:
            return False
        margin = SUDDEN_MARGIN * (end - start)
        return True if start + margin <= event.start <= end - margin else None
    share = (min(end, event.end) - max(start, event.start)) / (event.end - event.start)
    if share <= UNSURE_SHARE:
        return False if share <= 0.02 else None
    return True if share >= (0.9 if event.kind == "bounce" else SURE_SHARE) else None


def seen_events(
    motion: Motion, start: float = 0.0, end: float | None = None
) -> tuple[tuple[int, Event, bool | None], ...]:
    """Return what a window shows, in the order of time.

    Args:
        motion: The moving scene.
        start: Start of the window, in clips.
        end: Its end; None for the end of the motion.

    Returns:
        (number of the object, event, True or None) of each event that is at least perhaps
        visible; `kind` is as it looks, mirrored where the motion is.
    """
    stop = motion.duration if end is None else end
    found = []
    for index, mover in enumerate(motion.movers):
        for event in mover.events:
            seen = visible_in(event, start, stop)
            if seen is not False:
                found.append((index, replace(event, kind=visible_kind(motion, event)), seen))
    return tuple(sorted(found, key=lambda entry: entry[1].start))


def _reversed_event(event: Event, duration: float) -> Event:
    kind = event.kind
    return replace(
        event,
        kind=OPPOSITES.get(kind, kind),
        start=duration - event.end,
        end=duration - event.start,
        amount=-event.amount if kind == "spin" else event.amount,
        before=event.after,
        after=event.before,
    )


def reversed_motion(motion: Motion) -> Motion:
    """Return the motion run from its end to its beginning, with the labels that then hold."""
    movers = []
    for mover in motion.movers:
        item, visible = state_at(mover, motion.duration)
        events = tuple(_reversed_event(event, motion.duration) for event in mover.events[::-1])
        movers.append(Mover(item, events, visible))
    return replace(motion, movers=tuple(movers))


def mirrored(motion: Motion) -> Motion:
    """Return the motion with left and right exchanged."""
    return replace(motion, mirror=not motion.mirror)
