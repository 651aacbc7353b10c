"""Pairs that the annotation proves are accepted, all others are rejected with the reason."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.instructions.annotation import Annotation, Thing
from datamodules.instructions.images import boxes_xml
from datamodules.instructions.prompts import ASKED, Job
from datamodules.instructions.validation import check, vocabulary
from tests.datamodules.instructions.annotated import DOG, PICTURE, PUPPY, ROOM

NAMES = vocabulary([PICTURE, ROOM, Annotation("x", (Thing("1", "coffee table", "table", (0.0,) * 6),), ())])
LOOKING = Job(PICTURE, ("detection", "description", "classification", "VQA"))
WALKING = Job(ROOM, ("classification3d", "description3d", "VQA3D"), ROOM.things[:1])

ONE, TWO, THREE = (
    {"class": thing.label, "box": [round(edge, 2) for edge in thing.box]} for thing in PICTURE.things
)
CHAIR, TABLE = {"id": "3", "class": "office_chair"}, {"id": 5, "class": "table"}


def pair(kind: str, question: str, answer: str, *objects: Any, absent: Any = ()) -> dict[str, Any]:
    rows = {"objects": list(objects), "absent": list(absent)}
    return {"kind": kind, "question": question, "answer": answer, **rows}


def answer_of(*pairs: Any) -> str:
    return json.dumps({"pairs": list(pairs)})


GOOD = {
    "all boxes": (LOOKING, pair("detection", "Box everything you see.", "", ONE, TWO, THREE)),
    "boxes of a class": (LOOKING, pair("detection", "Where are the dogs?", "ignored", ONE, TWO)),
    "a sentence": (
        LOOKING,
        pair("description", "What is here?", "Two dogs beside a cup and people.", ONE, TWO),
    ),
    "told in a caption": (LOOKING, pair("description", "What is here?", "A dog like a bear.", ONE)),
    "a class": (LOOKING, pair("classification", "What is it mainly?", "A dog.", ONE)),
    "a count": (LOOKING, pair("VQA", "How many dogs are there?", "There are two.", ONE, TWO)),
    "a count of none": (LOOKING, pair("VQA", "How many hot dogs are there?", "0", absent=["hot dog"])),
    "presence": (LOOKING, pair("VQA", "Are there any cups in the picture?", "Yes, one cup.", THREE)),
    "people in a crowd": (LOOKING, pair("VQA", "Is there a person?", "Yes.")),
    "absence": (LOOKING, pair("VQA", "Is there a hot dog?", "No, none.", absent=["hot dog"])),
    "its box": (LOOKING, pair("VQA", "Where is the cup?", "At [0.70, 0.10, 0.80, 0.20].", THREE)),
    "an object's name": (WALKING, pair("classification3d", "What is it?", "An office chair.", CHAIR)),
    "an object": (WALKING, pair("description3d", "Describe it.", "A chair, 1 m high, by the table.", CHAIR)),
    "the room": (WALKING, pair("VQA3D", "How many chairs are there?", "1", CHAIR)),
    "kind for label": (WALKING, pair("VQA3D", "Is there a chair?", "Yes", CHAIR | {"class": "chair"})),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_the_annotation_proves_is_taken(case: str) -> None:
    job, said = GOOD[case]
    good, bad = check(job, answer_of(said), NAMES)
    assert bad == []
    assert good[0].kind == said["kind"]
    assert good[0].talk[0] == said["question"]
    about = ROOM.things[0] if said["kind"] in ("classification3d", "description3d") else None
    assert good[0].thing == about
    if said["kind"] != "detection":
        assert good[0].talk[1] == said["answer"]


def test_a_detection_is_answered_with_the_annotated_boxes() -> None:
    """Two decimals were told; the answer has those of the annotation."""
    good, _ = check(LOOKING, answer_of(GOOD["boxes of a class"][1]), NAMES)
    assert good[0].talk[1] == boxes_xml([DOG, PUPPY])
    assert "<x1>0.123456</x1>" in good[0].talk[1]


BAD = {
    "no object": (LOOKING, "a dog", "it is not a JSON object"),
    "kind": (LOOKING, pair("VQA3D", "What?", "This."), "the kind 'VQA3D' was not asked for"),
    "no question": (LOOKING, pair("VQA", " ", "This."), "it has no question"),
    "no answer": (LOOKING, pair("VQA", "What?", ""), "it has no answer"),
    "no list": (LOOKING, pair("VQA", "What?", "This.") | {"objects": "dog"}, "should be lists"),
    "no class": (LOOKING, pair("VQA", "What?", "This.", [1]), r"an object should have a class, found \[1\]"),
    "class": (
        LOOKING,
        pair("VQA", "What?", "This.", {"class": "unicorn", "box": [0, 0, 1, 1]}),
        "'unicorn' is not in",
    ),
    "box": (
        LOOKING,
        pair("VQA", "What?", "A dog.", ONE | {"box": [0.1, 0.2, 0.5, 0.8]}),
        r"the box \[0.1, 0.2, 0.5, 0.8\] of 'dog' is not in the annotation",
    ),
    "box of another": (LOOKING, pair("VQA", "What?", "It.", ONE | {"class": "cup"}), "of 'cup' is not in"),
    "words for a box": (LOOKING, pair("VQA", "What?", "It.", ONE | {"box": "left"}), "the box 'left' of"),
    "twice": (LOOKING, pair("VQA", "What?", "It.", ONE, ONE), "an object is listed twice"),
    "named class": (
        LOOKING,
        pair("VQA", "What?", "A hot dog."),
        "names the class 'hot dog', which is not in",
    ),
    "present": (LOOKING, pair("VQA", "A cup?", "No.", absent=["cup"]), "'cup' is said to be absent"),
    "told": (LOOKING, pair("VQA", "A bear?", "No.", absent=["bear"]), "'bear' is said to be absent"),
    "crowd": (LOOKING, pair("VQA", "Anyone?", "No.", absent=["person"]), "'person' is said to be absent"),
    "box in words": (
        LOOKING,
        pair("VQA", "Where?", "At [0.70, 0.10, 0.80, 0.30]."),
        "0.30. is not in the annotation",
    ),
    "count": (
        LOOKING,
        pair("VQA", "How many dogs are there?", "Three dogs."),
        "it counts 'Three dogs.', .* 2 dog",
    ),
    "no number": (LOOKING, pair("VQA", "How many dogs are there?", "Some."), "it counts 'Some.'"),
    "crowd count": (LOOKING, pair("VQA", "How many people are there?", "5"), "not all annotated"),
    "count of all": (LOOKING, pair("VQA", "How many things are there?", "3"), "not all annotated"),
    "too many": (
        LOOKING,
        pair("description", "What is here?", "Three brown dogs."),
        "mentions 'Three brown dogs', .* 2",
    ),
    "yes": (
        LOOKING,
        pair("VQA", "Is there a hot dog?", "Yes.", absent=["hot dog"]),
        "it says 'Yes.', .* 0 hot dog",
    ),
    "no": (LOOKING, pair("VQA", "Are there any dogs here?", "No."), "it says 'No.', .* 2 dog"),
    "left out": (
        LOOKING,
        pair("detection", "Box all.", "", ONE, THREE),
        r"it leaves out a dog at \[0.12, 0.20",
    ),
    "some of all": (
        LOOKING,
        pair("detection", "Box all.", "", THREE),
        "not those that its question asks for",
    ),
    "other class": (LOOKING, pair("detection", "Box the cup.", "", ONE, TWO), "not those that its question"),
    "nothing": (LOOKING, pair("detection", "Box all.", ""), "a detection lists no object"),
    "two classes": (
        LOOKING,
        pair("classification", "What?", "A dog and a cup.", ONE),
        "should list and name one class",
    ),
    "wrong class": (
        LOOKING,
        pair("classification", "What?", "A cup.", ONE),
        "should list and name one class",
    ),
    "number": (WALKING, pair("VQA3D", "What?", "It.", {"id": "9", "class": "table"}), "object 9 is not in"),
    "label": (
        WALKING,
        pair("VQA3D", "What?", "It.", {"id": "3", "class": "table"}),
        "object 3 .* is no table",
    ),
    "not asked": (
        WALKING,
        pair("description3d", "What?", "A table.", TABLE),
        "one of the objects that were asked for",
    ),
    "none": (WALKING, pair("description3d", "What?", "A table."), "one of the objects that were asked for"),
    "unnamed": (WALKING, pair("classification3d", "What?", "A seat.", CHAIR), "does not name the object"),
    "raw category": (WALKING, pair("VQA3D", "What?", "A coffee table."), "names the class 'coffee table'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_it_does_not_prove_is_rejected(case: str) -> None:
    job, said, reason = BAD[case]
    fine = GOOD["a sentence" if job is LOOKING else "the room"][1]
    good, bad = check(job, answer_of(said, fine), NAMES)
    assert len(good) == len(bad) == 1
    with pytest.raises(ValueError, match=reason):
        raise ValueError(bad[0][0])
    assert bad[0][1] == said


def test_the_same_pair_counts_once() -> None:
    said = GOOD["presence"][1]
    good, bad = check(LOOKING, answer_of(said, said), NAMES)
    assert (len(good), bad) == (1, [("it repeats an earlier pair", said)])


def test_json_in_a_fence_is_read() -> None:
    text = f"```json\n{answer_of(GOOD['presence'][1])}\n```"
    assert len(check(LOOKING, text, NAMES)[0]) == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.sampled_from(sorted(ASKED)),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(("kind", "question", "answer", "objects", "absent", "class", "box", "id")),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_no_answer_raises(content: Any) -> None:
    for job in (LOOKING, WALKING):
        for text in (json.dumps(content), json.dumps({"pairs": content}), json.dumps({"pairs": [content]})):
            check(job, text, NAMES)
