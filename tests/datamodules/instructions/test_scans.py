"""Templates about rooms say what is true of the boxes, and only that."""

import random

import pytest

from datamodules.instructions.annotation import Annotation, Thing
from datamodules.instructions.scans import by_template, carried, closest, describing, measured, single, vqa

TABLE = Thing("1", "coffee table", "table", (0.5, 0.25, 0.25, 1.0, 0.5, 0.5))
CUP = Thing("3", "cup", "", (0.25, 0.15, 0.55, 0.1, 0.1, 0.1))
CHAIR = Thing("2", "chair", "chair", (2.25, 1.25, 0.5, 0.5, 0.5, 1.0))
ARMCHAIR = Thing("4", "arm chair", "chair", (2.25, 2.25, 0.45, 0.5, 0.5, 0.9))
ROOM = Annotation("scene0000_00", (TABLE, CHAIR, CUP, ARMCHAIR), ("chair", "table", "bed"))


def test_only_what_a_name_tells_from_all_else_is_spoken_of_by_it() -> None:
    """Both chairs count as chairs, so `the chair` could mean either."""
    assert single(ROOM) == [TABLE, CUP]


def test_what_rests_on_what_by_hand() -> None:
    assert carried(ROOM, TABLE) == [CUP]
    assert carried(ROOM, CHAIR) == carried(ROOM, CUP) == []
    floating = Thing("5", "lamp", "", (0.25, 0.15, 1.2, 0.1, 0.1, 0.1))
    beside = Thing("6", "book", "", (1.4, 0.15, 0.55, 0.2, 0.1, 0.1))
    room = Annotation("room", (TABLE, floating, beside), ())
    assert carried(room, TABLE) == []


def test_the_closest_has_a_clear_lead() -> None:
    assert closest(ROOM, ARMCHAIR) == CHAIR  # 0.5 m, the table 2.1 m
    twins = Annotation("room", (TABLE, CHAIR, Thing("7", "bed", "bed", (2.25, 1.3, 0.5, 0.5, 0.5, 1.0))), ())
    assert closest(twins, TABLE) is None
    assert closest(Annotation("room", (TABLE,), ()), TABLE) is None


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (CUP, "A cup, about 0.1 m wide and 0.1 m high, on the coffee table."),
        (CHAIR, "A chair, about 0.5 m wide and 1.0 m high."),
        (TABLE, "A coffee table, about 1.0 m wide and 0.5 m high, next to the cup."),
    ],
)
def test_sentences_from_boxes(thing: Thing, text: str) -> None:
    assert measured(thing, single(ROOM)) == text


def test_what_annotators_said_goes_before_sizes() -> None:
    room = Annotation("room", (TABLE, CUP), (), descriptions={"1": ("A low table.",)})
    said = {
        thing.id: answer for thing, (_, answer) in describing(room, random.Random(0)) if thing is not None
    }
    assert said["1"] == "A low table."
    assert said["3"].startswith("A cup, about 0.1 m wide")


def test_questions_about_the_room_are_answered_rightly() -> None:
    answers: dict[str, set[str]] = {}
    for seed in range(60):
        for thing, (question, answer) in vqa(ROOM, random.Random(seed)):
            assert thing is None
            answers.setdefault(question, set()).add(answer)
    assert answers["How many chairs are there?"] == {"2"}
    assert answers["Are there any tables?"] == {"Yes"}
    assert answers["Are there any beds?"] == {"No"}
    assert answers["What is on the coffee table?"] == {"A cup"}
    assert answers["What is closest to the cup?"] == {"The coffee table."}
    assert not [question for question in answers if "the chair " in question or "the chair?" in question]


def test_items_are_in_the_form_of_scan2inst() -> None:
    kinds = ["classification3d", "description3d", "VQA3D"]
    items = list(by_template(ROOM, kinds, 0))
    about = [(item["task_type"], item.get("object_id"), item.get("object_name")) for item in items]
    objects = [("1", "coffee_table"), ("2", "chair"), ("3", "cup"), ("4", "arm_chair")]
    assert about[:8] == [(kind, *thing) for kind in kinds[:2] for thing in objects]
    assert set(about[8:]) == {("VQA3D", None, None)}
    assert {item["scene_id"] for item in items} == {"scene0000_00"}
    asked = [item["conversations"][0]["value"] for item in items[8:]]
    assert len(asked) == len({str(item["conversations"]) for item in items[8:]})
    assert items == list(by_template(ROOM, kinds, 0))
    assert items != list(by_template(ROOM, kinds, 1))
