"""Statements about a scene and their truth: the meaning behind the words of `texts`.

A statement is a conjunction: objects that must be there, a relation, the number of objects
and the background. Its truth is three-valued: what eyes cannot decide (a shape almost in the
middle, a middling size) is None, is never asked and never counted as right or wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from demo_models.world.scenes import Scene, SceneObject

PLACES = ("left", "right", "top", "bottom", "middle")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
RELATIONS = ("left of", "right of", "above", "below")
SIZES = ("small", "large")

PLACE_SURE, PLACE_UNSURE = 0.19, 0.09  # offset from the centre in image widths
RELATION_SURE, RELATION_UNSURE = 0.13, 0.04
SMALL_SURE, SMALL_NOT = 0.12, 0.16  # radius in image widths
LARGE_SURE, LARGE_NOT = 0.22, 0.17


@dataclass(frozen=True)
class Item:
    """Objects that a statement speaks of; None leaves a property open."""

    colour: str | None = None
    shape: str | None = None
    count: int = 0  # 0: at least one; otherwise exactly so many
    size: str | None = None
    place: str | None = None
    bare_colour: bool = False  # only a colour word: the background may be meant as well


@dataclass(frozen=True)
class Statement:
    """One text and what it claims.

    `possible` is False for texts about things that this world does not have; they are true
    of no image.
    """

    text: str
    items: tuple[Item, ...] = ()
    relation: str | None = None  # between items[0] and items[1]
    total: int | None = None
    background: str | None = None
    possible: bool = True


def all_of(values: Iterable[bool | None]) -> bool | None:
    """Return the three-valued "and": one False decides, otherwise one None leaves it open."""
    result: bool | None = True
    for value in values:
        if value is False:
            return False
        if value is None:
            result = None
    return result


def any_of(values: Iterable[bool | None]) -> bool | None:
    """Return the three-valued "or": one True decides, otherwise one None leaves it open."""
    result: bool | None = False
    for value in values:
        if value:
            return True
        if value is None:
            result = None
    return result


def _beyond(offset: float, sure: float, unsure: float) -> bool | None:
    if offset > sure:
        return True
    return None if offset > unsure else False


def at_place(item: SceneObject, place: str) -> bool | None:
    """Return whether an object lies at a place such as "left" or "top right"."""
    dx, dy = item.x - 0.5, item.y - 0.5
    if " " in place:
        vertical, horizontal = place.split(" ")
        return all_of((at_place(item, vertical), at_place(item, horizontal)))
    if place == "middle":
        away = _beyond(max(abs(dx), abs(dy)), PLACE_SURE, PLACE_UNSURE)
        return None if away is None else not away
    offset = {"left": -dx, "right": dx, "top": -dy, "bottom": dy}[place]
    return _beyond(offset, PLACE_SURE, PLACE_UNSURE)


def has_size(item: SceneObject, size: str) -> bool | None:
    """Return whether an object is "small" or "large"."""
    if size == "small":
        return _beyond(-item.radius, -SMALL_SURE, -SMALL_NOT)
    return _beyond(item.radius, LARGE_SURE, LARGE_NOT)


def related(first: SceneObject, second: SceneObject, relation: str) -> bool | None:
    """Return whether the first object lies "left of", "right of", "above", "below" the second."""
    dx, dy = second.x - first.x, second.y - first.y
    offset = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation]
    return _beyond(offset, RELATION_SURE, RELATION_UNSURE)


def fits(item: Item, candidate: SceneObject) -> bool | None:
    """Return whether one object has the properties of an item, its count apart."""
    if item.shape is not None and candidate.shape != item.shape:
        return False
    if item.colour is not None and candidate.colour != item.colour:
        return False
    if item.size is None and item.place is None:
        return True
    parts = []
    if item.size is not None:
        parts.append(has_size(candidate, item.size))
    if item.place is not None:
        parts.append(at_place(candidate, item.place))
    return all_of(parts)


def _item_holds(item: Item, scene: Scene) -> bool | None:
    found = [fits(item, candidate) for candidate in scene.objects]
    if item.count == 0:
        present = any_of(found)
        if item.bare_colour and present is False and item.colour == scene.background:
            return None
        return present
    sure, open_ones = found.count(True), found.count(None)
    if sure == item.count and not open_ones:
        return True
    return None if sure <= item.count <= sure + open_ones else False


def _relation_holds(statement: Statement, scene: Scene) -> bool | None:
    first, second = statement.items[:2]
    relation = statement.relation or ""
    return any_of(
        all_of((fits(first, a), fits(second, b), related(a, b, relation)))
        for a in scene.objects
        for b in scene.objects
        if a is not b
    )


def judge(statement: Statement, scene: Scene) -> bool | None:
    """Return whether a statement is true of a scene; None where eyes could not decide."""
    if not statement.possible:
        return False
    if statement.total is not None and statement.total != len(scene.objects):
        return False
    if statement.background is not None and statement.background != scene.background:
        return False
    if statement.relation is not None:
        return _relation_holds(statement, scene)
    return all_of(_item_holds(item, scene) for item in statement.items)


def is_true(statement: Statement, scene: Scene) -> bool:
    """Return whether a statement is surely true of a scene."""
    return judge(statement, scene) is True
