"""Golds as JSON: every kind comes back as it was, and damaged objects are refused."""

import json
from typing import Any

import pytest

from octavius.instruction.golds import from_json, to_json
from octavius.instruction.sample import (
    Boxes,
    Boxes3D,
    Choice,
    ClassName,
    DescribedObject,
    DescribedObjects,
    FoundObject,
    Gold,
    LabelledBox,
    References,
)

ROOM = (DescribedObject((0.0, 1.0, 2.0, 1.0, 1.0, 1.0), ("a chair", "a red chair")),)


@pytest.mark.parametrize(
    "gold",
    [
        Choice(("red", "blue"), 1),
        ClassName("cat", ("cat", "dog")),
        References(("a cat", "one cat"), "scene0000_00"),
        Boxes((LabelledBox("dog", (0.1, 0.2, 0.5, 1.0)), LabelledBox("cat", (0, 0, 1, 1), ignored=True))),
        Boxes(()),
        DescribedObjects(ROOM),
        FoundObject("scene0000_00", (0.5, 1.0, 2.0, 1.0, 1.0, 1.0), ROOM),
    ],
    ids=lambda gold: type(gold).__name__,
)
def test_a_gold_comes_back(gold: Gold) -> None:
    assert from_json(json.loads(json.dumps(to_json(gold)))) == gold


def test_a_reason_is_dropped_and_boxes_of_clouds_have_no_text() -> None:
    assert from_json(to_json(Choice(("a",), 0, "because"))) == Choice(("a",), 0)
    with pytest.raises(ValueError, match="Boxes3D belongs to no task that answers in text"):
        to_json(Boxes3D(()))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "expected a gold with options, names, texts, boxes or described"),
        ({"options": ["a"], "answer": True}, "expected a int, found 'True'"),
        ({"options": ["a"]}, "is malformed: KeyError"),
        ({"names": "cat", "name": "cat"}, "expected a list"),
        ({"texts": [3]}, "expected a str"),
        ({"boxes": [{"label": "a", "box": [0, 0, 1]}]}, "is malformed"),
        ({"boxes": [{"label": "a", "box": [0, 0, 1, float("nan")]}]}, "expected a number"),
        ({"described": [{"texts": ["a"], "box": [0, 0, 0, 1, 1, 1e10]}]}, "expected a number"),
    ],
)
def test_damaged_objects_are_refused(record: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(record)
