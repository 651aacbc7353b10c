"""What an exercise says of a room is true, as an oracle reads it that shares nothing with what made it."""

import re
from typing import Any

import numpy as np
import pytest

from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.layout import make_room
from datamodules.miniature.rooms.room import Room
from datamodules.miniature.rooms.texts.exercises import EXERCISES, WORDINGS
from datamodules.miniature.rooms.texts.relations import HELD_OUT_RELATION_PAIRS
from datamodules.miniature.world import generator
from tests.datamodules.miniature.rooms.oracle import ONE_ANCHOR, PLURALS, Fact, called, holds, standing
from tests.selection import mostly_slow

COUNT = 60
SIDED = {
    phrase: relation for phrase, relation in ONE_ANCHOR.items() if relation not in ("closest", "farthest")
}


def facts(room: Room) -> Fact:
    return {
        "size": room.size,
        "objects": [
            {
                "id": piece.number,
                "name": piece.name,
                "colour": piece.colour,
                "box": piece.box,
                "front": piece.front,
            }
            for piece in room.pieces
        ],
    }


def asked(name: str) -> list[tuple[Fact, str, str]]:
    """Rooms, questions and answers of an exercise."""
    found = []
    for index in range(COUNT):
        room = make_room(generator(2, "exercise room", index))
        exercise = EXERCISES[name](room, generator(2, name, index))
        if exercise is not None:
            found.append((facts(room), *exercise))
    assert len(found) > COUNT / 2
    return found


def one(room: Fact, words: str) -> dict[str, Any]:
    """The one thing that words mean."""
    (thing,) = called(room, words)
    return thing


def numbers(text: str) -> list[float]:
    assert re.fullmatch(r"\[-?\d\.\d\d(, -?\d\.\d\d)+\]", text)
    return [float(number) for number in text[1:-1].split(", ")]


def middle(thing: dict[str, Any]) -> np.ndarray:
    return np.array(thing["box"]).reshape(2, 3).mean(0)


def test_inventory() -> None:
    for room, _, answer in asked("inventory"):
        things = sorted(room["objects"], key=lambda thing: middle(thing)[0].round(3))
        assert answer.split(", ") == [f"{thing['colour']} {thing['name']}" for thing in things]


def test_colours() -> None:
    for room, question, answer in asked("colours"):
        names = question.removeprefix("Name the colour of each: ").removesuffix(".").split(", ")
        said = [re.fullmatch(rf"(.+) ({'|'.join(COLOURS)})", row) for row in answer.split("; ")]
        assert [match[1] for match in said if match] == names
        assert [match[2] for match in said if match] == [one(room, name)["colour"] for name in names]


def test_standing() -> None:
    seen = set[str]()
    for room, question, answer in asked("standing"):
        labels = question.removeprefix("Say where each stands: ").removesuffix(".").split(", ")
        for label, row in zip(labels, answer.split("; "), strict=True):
            where = row.removeprefix(f"{label} ")
            seen.add(where.split()[0])
            assert one(room, label) in standing(room, room["objects"], where)
    assert seen == {"on", "in", "against"}


def test_around() -> None:
    seen = set[str]()
    for room, question, answer in asked("around"):
        match = re.fullmatch(r"How do these stand to the (.+): (.+)\?", question)
        assert match
        anchor = one(room, match[1])
        for label, row in zip(match[2].split(", "), answer.split("; "), strict=True):
            how, thing = row.removeprefix(f"{label} "), one(room, label)
            true = {phrase for phrase, relation in SIDED.items() if holds(room, relation, thing, [anchor])}
            assert how in true if true else how == "apart"
            assert not {(SIDED[phrase], anchor["name"]) for phrase in true} & HELD_OUT_RELATION_PAIRS
            seen.add(how)
    assert len(seen) > 6


def test_listed() -> None:
    empty = 0
    for room, question, answer in asked("listed"):
        (name,) = (
            PLURALS[words] for words in PLURALS if re.search(rf"(?:List the|all|Which) {words}\b", question)
        )
        things = [f"{thing['colour']} {name}" for thing in room["objects"] if thing["name"] == name]
        assert sorted(answer.split(", ")) == sorted(things) if things else answer == "none"
        empty += not things
    assert 3 < empty < COUNT / 2


def test_locate() -> None:
    for room, question, answer in asked("locate"):
        thing = one(room, question.partition(" box of the ")[2].rstrip(".?"))
        low, high = np.array(thing["box"]).reshape(2, 3)
        np.testing.assert_allclose(numbers(answer), [*((low + high) / 2), *(high - low)], atol=0.006)


def test_at() -> None:
    for room, question, answer in asked("at"):
        place = numbers(question[question.index("[") : question.index("]") + 1])
        near = [thing for thing in room["objects"] if np.abs(middle(thing) - place).max() < 0.006]
        assert answer in [f"{thing['colour']} {thing['name']}" for thing in near]


@pytest.mark.parametrize("name", mostly_slow(EXERCISES, 3))
def test_every_wording_is_known_beforehand(name: str) -> None:
    forms = [re.compile(re.sub(r"\\{\w+\\}", ".+", re.escape(form))) for form in WORDINGS]
    for _, question, _ in asked(name):
        assert sum(form.fullmatch(question) is not None for form in forms) == 1
