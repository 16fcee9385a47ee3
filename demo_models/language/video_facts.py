"""Facts of a moving scene that questions are made of; doubtful ones are left out."""

from __future__ import annotations

from dataclasses import dataclass

from demo_models.language.statement_wording import article
from demo_models.language.video_question_wording import VERBS
from demo_models.world.motion import DIRECTIONS, Motion, seen_events
from demo_models.world.vocabulary import COLOURS, SHAPES

VISIBILITY_KINDS = ("appear", "disappear")


@dataclass(frozen=True)
class Actor:
    """One object: its name at the beginning, and the kinds of its events in order.

    `new_colour` is what it turns into; `sure` is False where an event is not clearly seen.
    """

    shape: str
    colour: str
    kinds: tuple[str, ...]
    new_colour: str | None
    sure: bool

    @property
    def name(self) -> str:
        """Return "red circle"."""
        return f"{self.colour} {self.shape}"

    @property
    def direction(self) -> str | None:
        """Return the only direction in which it moves, if it moves once and does not bounce."""
        moves = [kind for kind in self.kinds if kind in DIRECTIONS]
        return moves[0] if len(moves) == 1 and "bounce" not in self.kinds else None

    def verb_phrase(self, kind: str) -> str:
        """Return what it does: "moves left", "turns blue"."""
        return f"turns {self.new_colour}" if kind == "recolour" else VERBS[kind][0]

    def has(self, colour: str | None, shape: str | None) -> bool | None:
        """Return whether it is of a colour and a shape; None if only for a part of the time."""
        if shape is not None and shape != self.shape:
            return False
        if colour is None or self.new_colour is None:
            return colour in (None, self.colour)
        return None if colour in (self.colour, self.new_colour) else False


@dataclass(frozen=True)
class Facts:
    """Content of a video: its objects, and all events in the order of time."""

    actors: tuple[Actor, ...]
    events: tuple[tuple[int, str], ...]
    background: str

    @property
    def sure(self) -> bool:
        """Return whether every event is clearly seen."""
        return all(actor.sure for actor in self.actors)

    @property
    def constant(self) -> bool:
        """Return whether the number of objects stays the same."""
        return not any(kind in VISIBILITY_KINDS for _, kind in self.events)

    def event_text(self, number: int) -> str:
        """Return one event as a sentence: "the red circle moves left"."""
        index, kind = self.events[number]
        return f"the {self.actors[index].name} {self.actors[index].verb_phrase(kind)}"

    def happens(self) -> str:
        """Return all events in order: "the red circle moves left, then the star grows"."""
        if not self.events:
            return "nothing happens"
        return ", then ".join(self.event_text(number) for number in range(len(self.events)))

    def description(self) -> str:
        """Return objects, background and events; objects in the order of the vocabulary."""
        order = sorted(self.actors, key=lambda a: (COLOURS.index(a.colour), SHAPES.index(a.shape)))
        names = [f"{article(actor.colour)} {actor.name}" for actor in order]
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        return f"{listed} on a {self.background} background. {self.happens()}"

    def action(self, index: int) -> str:
        """Return what one object does: "it moves left, then it grows"."""
        actor = self.actors[index]
        if not actor.kinds:
            return "it stays still"
        return ", then ".join(f"it {actor.verb_phrase(kind)}" for kind in actor.kinds)


def facts_of(motion: Motion) -> Facts:
    """Return what a motion of one clip shows."""
    seen = seen_events(motion)
    actors = []
    for index, mover in enumerate(motion.movers):
        own = [(event, sure) for number, event, sure in seen if number == index]
        after = [event.after[0] for event, _ in own if event.after is not None]
        actors.append(
            Actor(
                shape=mover.item.shape,
                colour=mover.item.colour,
                kinds=tuple(event.kind for event, _ in own),
                new_colour=after[-1] if after else None,
                sure=all(sure is True for _, sure in own),
            )
        )
    events = tuple((number, event.kind) for number, event, _ in seen)
    return Facts(tuple(actors), events, motion.page.background)
