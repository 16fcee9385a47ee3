"""Statements about moving scenes and their truth: the meaning behind `motion_texts`.

Truth is three-valued, as in `statements`: what eyes cannot decide is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from demo_models.language.statements import all_of, any_of
from demo_models.world.motion import DIRECTIONS, SUDDEN, Motion, clip_times, seen_events, state_at

NUM_LOOKS = 8


@dataclass(frozen=True)
class Act:
    """Claim about one object; None leaves a property open.

    `kind` is an event kind, "move" for any direction, "still", or None: it is only there.
    """

    colour: str | None = None
    shape: str | None = None
    kind: str | None = None
    speed: str | None = None
    after: str | None = None  # the colour that it turns into


@dataclass(frozen=True)
class VideoClaim:
    """One text and what it claims.

    `in_order` says that the first act ends before the second begins; `nothing` that no object
    does anything; `possible` is False for texts about things that this world does not have.
    """

    text: str
    acts: tuple[Act, ...] = ()
    in_order: bool = False
    total: int | None = None
    background: str | None = None
    nothing: bool = False
    possible: bool = True


@dataclass(frozen=True)
class SeenEvent:
    """An event in a window; `colour` is the owner's when it begins, `sure` is True or None."""

    owner: int
    kind: str
    colour: str
    speed: str | None
    after: str | None
    start: float
    sure: bool | None


@dataclass(frozen=True)
class SeenObject:
    """An object in a window: how surely it shows each colour it has there."""

    shape: str
    colours: dict[str, bool | None] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """Content of one window of a motion; that of a video outside this world is empty.

    `counts` holds the numbers of objects that its frames show; `background` is None where
    the video is no scene.
    """

    background: str | None
    objects: tuple[SeenObject, ...] = ()
    events: tuple[SeenEvent, ...] = ()
    counts: frozenset[int] = frozenset({0})


def view_of(motion: Motion, start: float = 0.0, end: float | None = None) -> View:
    """Return what a window of a motion shows; None for its end means the motion's end."""
    stop = motion.duration if end is None else end
    looks = clip_times(NUM_LOOKS, start, stop)
    states = [[state_at(mover, float(time)) for time in looks] for mover in motion.movers]
    objects = []
    for row in states:
        shown = [item.colour for item, visible in row if visible]
        colours = {c: True if shown.count(c) > 1 else None for c in dict.fromkeys(shown)}
        objects.append(SeenObject(row[0][0].shape, colours))
    events = tuple(
        SeenEvent(
            owner=index,
            kind=event.kind,
            colour=event.before[0]
            if event.before
            else state_at(motion.movers[index], event.start)[0].colour,
            speed=event.speed,
            after=event.after[0] if event.after else None,
            start=event.start,
            sure=seen,
        )
        for index, event, seen in seen_events(motion, start, stop)
    )
    counts = frozenset(
        sum(visible for _, visible in column) for column in zip(*states, strict=True)
    )
    return View(motion.page.background, tuple(objects), events, counts)


def _kind_fits(asked: str, kind: str) -> bool | None:
    if asked == kind:
        return True
    if asked == "move":
        if kind in DIRECTIONS:
            return True
        return False if kind in SUDDEN else None
    return None if kind == "bounce" and asked in ("up", "down") else False


def event_fits(act: Act, event: SeenEvent, view: View) -> bool | None:
    """Return whether an event is what an act says."""
    owner = view.objects[event.owner]
    if act.shape not in (None, owner.shape):
        return False
    parts = [_kind_fits(act.kind or "", event.kind), event.sure]
    if act.colour not in (None, event.colour):
        parts.append(None if act.colour in owner.colours else False)
    if act.speed is not None:
        parts.append(None if event.speed is None else act.speed == event.speed)
    if act.after is not None:
        parts.append(act.after == event.after)
    return all_of(parts)


def _object_fits(act: Act, index: int, view: View) -> bool | None:
    """Return whether an object is there, or still, as an act says."""
    one = view.objects[index]
    if act.shape not in (None, one.shape) or not one.colours:
        return False
    there = any_of(one.colours.values()) if act.colour is None else one.colours.get(act.colour)
    if act.colour is not None and act.colour not in one.colours:
        return False
    if act.kind is None:
        return there
    does = any_of(event.sure for event in view.events if event.owner == index)
    return all_of((there, None if does is None else not does))


def act_holds(act: Act, view: View) -> bool | None:
    """Return whether any object of a view is or does what an act says."""
    if act.kind in (None, "still"):
        return any_of(_object_fits(act, index, view) for index in range(len(view.objects)))
    return any_of(event_fits(act, event, view) for event in view.events)


def _order_holds(first: Act, second: Act, view: View) -> bool | None:
    return any_of(
        all_of((event_fits(first, a, view), event_fits(second, b, view)))
        for a in view.events
        for b in view.events
        if a.start < b.start
    )


def _count_holds(total: int, view: View) -> bool | None:
    ever = sum(bool(one.colours) for one in view.objects)
    if view.counts == {total} and ever == total:
        return True
    return None if total in view.counts or total == ever else False


def judge_claim(claim: VideoClaim, view: View) -> bool | None:
    """Return whether a claim is true of what a window shows; None where it is undecidable."""
    if not claim.possible:
        return False
    if claim.background not in (None, view.background):
        return None if view.background is None and not claim.acts else False
    if claim.nothing:
        if view.background is None:
            return None
        does = any_of(event.sure for event in view.events)
        return None if does is None else not does
    if claim.total is not None:
        return _count_holds(claim.total, view)
    if claim.in_order:
        return _order_holds(claim.acts[0], claim.acts[1], view)
    return all_of(act_holds(act, view) for act in claim.acts)
