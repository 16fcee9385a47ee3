"""Random moving scenes: clips with none to two events, and stories of several clips."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from demo_models.world.motion import (
    DIRECTIONS,
    FAST,
    SLOW,
    STEPS,
    SUDDEN,
    Event,
    Motion,
    Mover,
    state_at,
)
from demo_models.world.scenes import (
    MIN_GAP,
    Scene,
    SceneObject,
    pick_rgb,
    sample_object,
    sample_page,
)
from demo_models.world.vocabulary import SEEN_PAIRS, colour_distance

COUNT_SHARES = (0.45, 0.35, 0.20)
EVENT_SHARES = (0.06, 0.39, 0.55)
KIND_SHARES = {
    "left": 0.125,
    "right": 0.125,
    "up": 0.125,
    "down": 0.125,
    "spin": 0.08,
    "grow": 0.08,
    "shrink": 0.08,
    "bounce": 0.20,  # only in spans that are long enough
    "appear": 0.06,
    "disappear": 0.06,
    "recolour": 0.06,
}
RADIUS_RANGES = ((0.09, 0.22), (0.085, 0.16), (0.08, 0.13))
MIN_WAY = 0.28
LONGEST_WAY = 0.75
BOUNCE_HEIGHTS = (0.20, 0.40)
BOUNCE_CLIPS = 0.6  # shortest span that shows a bounce at 8 frames
FACTORS = (1.7, 2.4)
TURN_DEG_PER_CLIP = (200.0, 320.0)
SMALLEST, LARGEST = 0.065, 0.34  # radius in image widths
MARGIN = 0.01
RECOLOUR_DISTANCE = 200.0

Span = tuple[float, float]
Rng = np.random.Generator


@dataclass(frozen=True)
class MotionOptions:
    """Options of the motions to sample."""

    pairs: tuple[tuple[str, str], ...] = SEEN_PAIRS
    count_shares: tuple[float, ...] = COUNT_SHARES  # of 1, 2, 3 objects
    event_shares: tuple[float, ...] = EVENT_SHARES  # of 0, 1, 2 events
    kinds: tuple[str, ...] = tuple(KIND_SHARES)
    even: bool = False  # all kinds equally often, in place of `KIND_SHARES`
    distinct: bool = True  # no two objects of the same colour and shape
    plan: tuple[str, ...] = ()  # the kinds in this order, in place of random ones
    page: Scene | None = None  # the background, in place of a random one


def _inside(item: SceneObject) -> bool:
    low, high = MARGIN + item.reach, 1 - MARGIN - item.reach
    return low <= item.x <= high and low <= item.y <= high


def _room(item: SceneObject, direction: str) -> float:
    """Return how far an object can move before it leaves the image, in image widths."""
    dx, dy = STEPS[direction]
    place, sign = (item.x, dx) if dx else (item.y, dy)
    return (1 - MARGIN - item.reach - place) if sign > 0 else (place - MARGIN - item.reach)


def _move(rng: Rng, item: SceneObject, kind: str, span: Span) -> Event | None:
    room = min(_room(item, kind), LONGEST_WAY)
    if room < MIN_WAY:
        return None
    way = float(rng.uniform(MIN_WAY, room))
    start, end = span
    if rng.random() < 0.3:  # fast, at any time of the span
        length = way / float(rng.uniform(FAST + 0.1, 2.0))
        if 0.25 <= length < end - start:
            start = float(rng.uniform(start, end - length))
            return Event(kind, start, start + length, way)
    elif rng.random() < 0.4:
        way = min(way, (end - start) * (SLOW - 0.05))
        if way < MIN_WAY:
            return None
    return Event(kind, start, end, way)


def _sudden(rng: Rng, kind: str, mover: Mover, page: Scene, span: Span) -> Event | None:
    middle, half = (span[0] + span[1]) / 2, (span[1] - span[0]) * 0.2
    time = float(rng.uniform(middle - half, middle + half))
    visible = state_at(mover, time)[1]
    if kind == "recolour":
        return _recolour(rng, mover, page, time) if visible else None
    if visible == (kind == "appear"):
        return None
    return Event(kind, time, time)


def _recolour(rng: Rng, mover: Mover, page: Scene, time: float) -> Event | None:
    item, _ = state_at(mover, time)
    names = [c for c, shape in SEEN_PAIRS if shape == item.shape and c != item.colour]
    colour = names[int(rng.integers(len(names)))]
    rgb = pick_rgb(rng, colour, page)
    if rgb is None or colour_distance(rgb, item.rgb) < RECOLOUR_DISTANCE:
        return None
    return Event("recolour", time, time, 0.0, (item.colour, item.rgb), (colour, rgb))


def _event(rng: Rng, kind: str, mover: Mover, page: Scene, span: Span) -> Event | None:
    """Return an event of a kind that fits into a span, or None where it does not."""
    if kind in SUDDEN:
        return _sudden(rng, kind, mover, page, span)
    item, visible = state_at(mover, span[0])
    if not visible:
        return None
    if kind in DIRECTIONS:
        return _move(rng, item, kind, span)
    if kind == "spin":
        if item.shape in ("circle", "ring"):
            return None
        turn = float(rng.uniform(*TURN_DEG_PER_CLIP)) * (span[1] - span[0])
        return Event(kind, *span, turn if rng.random() < 0.5 else -turn)
    if kind == "bounce":
        height = float(rng.uniform(*BOUNCE_HEIGHTS))
        fits = span[1] - span[0] >= BOUNCE_CLIPS and height <= _room(item, "up")
        return Event(kind, *span, height) if fits else None
    factor = float(rng.uniform(*FACTORS))
    radius = item.radius * factor if kind == "grow" else item.radius / factor
    if not SMALLEST <= radius <= LARGEST or not _inside(replace(item, radius=radius)):
        return None
    return Event(kind, *span, factor)


def _free(movers: list[Mover], duration: float) -> bool:
    """Return whether the objects never touch and never leave the image."""
    for time in np.linspace(0, duration, 1 + int(16 * duration)):
        items = [state_at(mover, float(time))[0] for mover in movers]
        for index, item in enumerate(items):
            if not _inside(item):
                return False
            for other in items[:index]:
                gap = np.hypot(item.x - other.x, item.y - other.y)
                if gap <= MIN_GAP * (item.reach + other.reach):
                    return False
    return True


def _pick_kinds(rng: Rng, spans: list[Span], options: MotionOptions) -> tuple[str, ...]:
    if options.plan:
        return options.plan
    chosen = []
    for start, end in spans:
        names = [k for k in options.kinds if k != "bounce" or end - start >= BOUNCE_CLIPS]
        shares = np.array([1.0 if options.even else KIND_SHARES[name] for name in names])
        chosen.append(names[int(rng.choice(len(names), p=shares / shares.sum()))])
    return tuple(chosen)


def _with_event(rng: Rng, movers: list[Mover], page: Scene, span: Span, kind: str) -> bool:
    """Add an event of a kind to one of the objects; return whether it could be done."""
    index = int(rng.integers(len(movers)))
    mover = movers[index]
    if kind == "appear" and not mover.events:
        mover = replace(mover, visible=False)
    event = _event(rng, kind, mover, page, span)
    if event is None:
        return False
    movers[index] = replace(mover, events=(*mover.events, event))
    return True


def _still_movers(rng: Rng, page: Scene, num: int, options: MotionOptions) -> list[Mover] | None:
    """Return objects at free places, without events, or None where a colour cannot be seen."""
    low, high = RADIUS_RANGES[min(num, len(RADIUS_RANGES)) - 1]
    chosen: list[tuple[str, str]] = []
    while len(chosen) < num:
        pair = options.pairs[int(rng.integers(len(options.pairs)))]
        if not (options.distinct and pair in chosen):
            chosen.append(pair)
    squash = float(rng.uniform(-0.32, 0.32)) if rng.random() < 0.5 else 0.0
    movers = []
    for pair in chosen:
        rgb = pick_rgb(rng, pair[0], page)
        if rgb is None:
            return None
        item = sample_object(rng, pair, rgb, float(rng.uniform(low, high)), squash)
        edge = item.reach + MARGIN
        x, y = (float(value) for value in rng.uniform(edge, 1 - edge, 2))
        movers.append(Mover(replace(item, x=x, y=y)))
    return movers


def _sample(rng: Rng, spans: list[Span], duration: float, options: MotionOptions) -> Motion:
    """Return a motion with one event in each span.

    The number of objects and the kinds are drawn first and kept, so that what seldom fits is
    not rarer for it.
    """
    num = int(rng.choice(len(options.count_shares), p=options.count_shares)) + 1
    kinds = _pick_kinds(rng, spans, options)
    tries = 0
    while True:
        tries += 1
        if tries % 60 == 0:
            kinds = _pick_kinds(rng, spans, options)
        page = options.page or sample_page(rng)
        movers = _still_movers(rng, page, num, options)
        if movers is None or not _free(movers, 0.0):
            continue
        if not all(
            any(_with_event(rng, movers, page, span, kind) for _ in range(4))
            for span, kind in zip(spans, kinds, strict=True)
        ):
            continue
        if _free(movers, duration):
            return Motion(page, tuple(movers), duration)


def sample_motion(rng: Rng, options: MotionOptions | None = None) -> Motion:
    """Draw a clip: one to three objects, none to two events, one after the other.

    Each object is named by its colour and shape alone, if `distinct`. An event fills most of
    the clip, or of its half if there are two.
    """
    options = options or MotionOptions()
    num = int(rng.choice(len(options.event_shares), p=options.event_shares))
    spans: list[Span] = []
    if num == 1:
        spans = [(float(rng.uniform(0, 0.2)), float(rng.uniform(0.75, 1.0)))]
    elif num == 2:
        middle = float(rng.uniform(0.44, 0.56))
        spans = [
            (float(rng.uniform(0, 0.06)), middle - float(rng.uniform(0, 0.05))),
            (middle + float(rng.uniform(0, 0.05)), float(rng.uniform(0.94, 1.0))),
        ]
    return _sample(rng, spans, 1.0, options)


def sample_story(
    rng: Rng,
    num_events: int,
    options: MotionOptions | None = None,
    lengths: Span = (0.6, 1.4),
    pauses: Span = (0.5, 1.5),
) -> Motion:
    """Draw a motion of several clips: events one after the other with pauses between them.

    Args:
        rng: Source of randomness.
        num_events: How many events.
        options: Which objects and kinds.
        lengths: Range of an event's span, in clips.
        pauses: Range of the pauses before, between and after them, in clips.
    """
    spans: list[Span] = []
    time = float(rng.uniform(*pauses))
    for _ in range(num_events):
        length = float(rng.uniform(*lengths))
        spans.append((time, time + length))
        time += length + float(rng.uniform(*pauses))
    return _sample(rng, spans, time, options or MotionOptions())
