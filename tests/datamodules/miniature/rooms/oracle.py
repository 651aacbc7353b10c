"""An oracle for texts about rooms, which interprets them with regular expressions and the facts of the room.

It shares nothing with the code that makes the texts but the names of classes and colours.
"""

import math
import re
from typing import Any

from datamodules.miniature.rooms.furniture.catalogue import KINDS
from datamodules.miniature.rooms.furniture.palette import COLOURS

Fact = dict[str, Any]

NAME = "|".join(sorted(KINDS, key=len, reverse=True))
COLOUR = "|".join(COLOURS)
NOUN = rf"the ((?:(?:{COLOUR}) )?(?:{NAME}))"
PLURALS = {kind.plural: name for name, kind in KINDS.items()}
MANY = "|".join(sorted(PLURALS, key=len, reverse=True))

ONE_ANCHOR = {
    "on": "on",
    "carrying": "carrying",
    "above": "above",
    "below": "below",
    "closest to": "closest",
    "farthest from": "farthest",
    "next to": "next",
    "left of": "left",
    "right of": "right",
    "in front of": "front",
    "behind": "behind",
}
PLACES = {"in the corner": "corner", "against the wall": "wall", "in the middle of the room": "middle"}

THING = rf"an? (?:(?P<size>small|large) )?(?P<colour>{COLOUR}) (?P<name>{NAME})"
CAPTIONS = [
    re.compile(form)
    for form in (
        rf"This is {THING}\. It is (?P<where>.+)\.",
        rf"The (?P<name>{NAME}) is (?P<colour>{COLOUR})\. It is (?P<where>.+)\.",
        rf"There is {THING} (?P<where>.+)\.",
        rf"A{THING[1:]}\. The (?:{NAME}) is (?P<where>.+)\.",
        rf"It is {THING} and it is (?P<where>.+)\.",
        rf"choose the (?P<colour>{COLOUR}) (?P<name>{NAME}) that is (?P<where>.+)",
        rf"pick the (?P<name>{NAME}) (?P<where>.+)",
        rf"the (?P<colour>{COLOUR}) one (?P<where>.+)",
        rf"select the (?:(?P<size>small|large) )?(?P<name>{NAME}), the one (?P<where>.+)",
        rf"find the (?:(?P<size>small|large) )?(?P<name>{NAME}) that is (?P<where>.+)",
    )
]


def caption_of(text: str) -> dict[str, str]:
    """The attributes and the place that a caption tells."""
    for form in CAPTIONS:
        if match := form.fullmatch(text):
            return {key: value for key, value in match.groupdict().items() if value}
    raise AssertionError(f"no form fits {text!r}")


def relation_of(where: str) -> tuple[str, list[str]] | None:
    """The relation of a phrase and the words for its anchors; None for what is no such phrase."""
    if where in PLACES:
        return PLACES[where], []
    if match := re.fullmatch(rf"between {NOUN} and {NOUN}", where):
        return "between", [match[1], match[2]]
    for phrase, relation in ONE_ANCHOR.items():
        if match := re.fullmatch(rf"{phrase} {NOUN}", where):
            return relation, [match[1]]
    return None


def called(room: Fact, words: str) -> list[Fact]:
    """The objects that words such as `red chair` or `chair` fit."""
    return [
        thing for thing in room["objects"] if words in (thing["name"], f"{thing['colour']} {thing['name']}")
    ]


def fitting(room: Fact, told: dict[str, str]) -> list[int]:
    """The objects that a caption's attributes and place fit; a superlative is one among the first of them told."""
    first = "name" if "name" in told else "colour" if "colour" in told else ""
    pool = [thing for thing in room["objects"] if not first or thing[first] == told[first]]
    if "where" in told:
        pool = standing(room, pool, told["where"])
    return [thing["id"] for thing in pool if all(thing[key] == told[key] for key in told if key != "where")]


def standing(room: Fact, pool: list[Fact], where: str) -> list[Fact]:
    """Those of a pool that stand so."""
    parsed = relation_of(where)
    assert parsed, f"no place: {where!r}"
    relation, words = parsed
    anchors = []
    for name in words:
        found = called(room, name)
        assert len(found) == 1, f"{name!r} fits {len(found)} objects"
        anchors += found
    pool = [thing for thing in pool if thing not in anchors]
    if relation in ("closest", "farthest"):
        sign = 1 if relation == "closest" else -1
        ranked = sorted(pool, key=lambda thing: sign * apart(thing, anchors[0]))
        clear = (
            len(ranked) > 1 and sign * (apart(ranked[1], anchors[0]) - apart(ranked[0], anchors[0])) >= 0.2
        )
        return ranked[:1] if clear else []
    return [thing for thing in pool if holds(room, relation, thing, anchors)]


def holds(room: Fact, relation: str, thing: Fact, anchors: list[Fact]) -> bool:
    """Whether a thing stands so to its anchors."""
    x1, y1, z1, x2, y2, _ = thing["box"]
    w, d, _ = room["size"]
    beside_x, beside_y = min(x1 + w / 2, w / 2 - x2) < 0.15, min(y1 + d / 2, d / 2 - y2) < 0.15
    if relation in ("corner", "wall"):
        return beside_x and beside_y if relation == "corner" else beside_x or beside_y
    if relation == "middle":
        near = abs((x1 + x2) / 2) < 0.2 * w and abs((y1 + y2) / 2) < 0.2 * d
        return near and not beside_x and not beside_y
    if relation == "between":
        return any(_in_the_gap(thing["box"], [a["box"] for a in anchors], axis) for axis in (0, 1))
    anchor = anchors[0]
    if relation == "carrying":
        return holds(room, "on", anchor, [thing])
    if relation == "below":
        return holds(room, "above", anchor, [thing])
    common = _overlap(thing["box"], anchor["box"]) / min(_floor(thing["box"]), _floor(anchor["box"]))
    rise = z1 - anchor["box"][5]
    rests = abs(rise) <= 0.15 and common >= 0.3 and _floor(thing["box"]) <= 1.5 * _floor(anchor["box"])
    if relation == "on":
        return rests
    if relation == "above":
        return rise >= 0.06 and common >= 0.2
    if relation == "next":
        return apart(thing, anchor) < 0.5 and not rests and not holds(room, "on", anchor, [thing])
    return _on_the_side(relation, thing, anchor)


def _on_the_side(relation: str, thing: Fact, anchor: Fact) -> bool:
    """By the angle at which the thing stands from the anchor, which appearances at 0 degrees."""
    if anchor["front"] is None or apart(thing, anchor) > 1.5:
        return False
    low, high = max(thing["box"][2], anchor["box"][2]), min(thing["box"][5], anchor["box"][5])
    if low >= high:
        return False
    (x, y), (ax, ay) = _centre(thing), _centre(anchor)
    angle = (
        math.degrees(math.atan2(y - ay, x - ax) - math.atan2(anchor["front"][1], anchor["front"][0])) % 360
    )
    if min(abs(angle - diagonal) for diagonal in (45, 135, 225, 315)) < 1e-9:
        return False
    side = {0: "front", 1: "left", 2: "behind", 3: "right"}[int(((angle + 45) % 360) // 90)]
    width, depth = (anchor["box"][i + 3] - anchor["box"][i] for i in range(2))
    along_x = (side in ("front", "behind")) == (anchor["front"][0] != 0)
    beyond = abs(x - ax) > width / 2 if along_x else abs(y - ay) > depth / 2
    return side == relation and beyond


def apart(first: Fact, second: Fact) -> float:
    """Metres between two boxes."""
    a, b = first["box"], second["box"]
    return math.sqrt(sum(max(0.0, a[i] - b[i + 3], b[i] - a[i + 3]) ** 2 for i in range(3)))


def volume(thing: Fact) -> float:
    """Cubic metres of a box."""
    x1, y1, z1, x2, y2, z2 = thing["box"]
    return (x2 - x1) * (y2 - y1) * (z2 - z1)


def _in_the_gap(box: list[float], sides: list[list[float]], axis: int) -> bool:
    if any(min(box[5], side[5]) <= max(box[2], side[2]) for side in sides):
        return False
    near, far = sorted(sides, key=lambda side: side[axis])
    other = 1 - axis
    along = min(box[axis + 3], far[axis]) - max(box[axis], near[axis + 3])
    across = min(box[other + 3], near[other + 3], far[other + 3]) - max(box[other], near[other], far[other])
    return along > 0 and across > 0 and along * across / _floor(box) > 0.51


def _overlap(a: list[float], b: list[float]) -> float:
    x, y = (min(a[i + 3], b[i + 3]) - max(a[i], b[i]) for i in range(2))
    return max(0.0, x) * max(0.0, y)


def _floor(box: list[float]) -> float:
    return (box[3] - box[0]) * (box[4] - box[1])


def _centre(thing: Fact) -> tuple[float, float]:
    x1, y1, _, x2, y2, _ = thing["box"]
    return (x1 + x2) / 2, (y1 + y2) / 2
