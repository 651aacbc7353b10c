"""Boxes in an answer are parsed as a person would read them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.sample import Boxes, LabelledBox, Sample
from octavius.tasks import Detection

TASK = Detection()


def sample(*objects: tuple[str, tuple[float, float, float, float]]) -> Sample:
    return Sample("s", "detection", "b", {}, "", Boxes(tuple(LabelledBox(*item) for item in objects)))


def answer(*objects: tuple[str, tuple[float, float, float, float]]) -> str:
    return TASK.answer(sample(*objects), random.Random(0))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cat [0.10, 0.20, 0.30, 0.40]", [("cat", (0.1, 0.2, 0.3, 0.4))]),
        ("cat[0.1,0.2,0.3,0.4]", [("cat", (0.1, 0.2, 0.3, 0.4))]),
        ("cat [ 0 , .5,1.0 ,1. ]", [("cat", (0.0, 0.5, 1.0, 1.0))]),
        ("cat [0, 0, 1, 1], sea lion [0, 0, 0.5, 1]", [("cat", (0, 0, 1, 1)), ("sea lion", (0, 0, 0.5, 1))]),
        ("cat [0, 0, 1, 1] and dog [0, 0, 0.5, 1].", [("cat", (0, 0, 1, 1)), ("dog", (0, 0, 0.5, 1))]),
        ("cat [0, 0, 1, 1], and dog [0, 0, 0.5, 1]", [("cat", (0, 0, 1, 1)), ("dog", (0, 0, 0.5, 1))]),
        ("cat: [0, 0, 1, 1]\ndog: [0, 0, 0.5, 1]", [("cat", (0, 0, 1, 1)), ("dog", (0, 0, 0.5, 1))]),
        ("cat [0, 0, 1, 1]; dog [0, 0, 0.5, 1];", [("cat", (0, 0, 1, 1)), ("dog", (0, 0, 0.5, 1))]),
        ("I see, here, cat [0, 0, 1, 1]", [("cat", (0, 0, 1, 1))]),
        ("sandy brand [0, 0, 1, 1]", [("sandy brand", (0, 0, 1, 1))]),
        ("cat [0.3, 0, 0.2, 1]", []),  # reversed
        ("cat [0, 0.3, 1, 0.3]", []),  # flat
        ("cat [0, 0, 1.1, 1]", []),  # outside
        ("cat [-0.1, 0, 1, 1]", []),
        ("cat [0, 0, 9" + "9" * 400 + ", 1]", []),
        ("cat [0.3, 0, 0.2, 1], dog [0, 0, 1, 1]", [("dog", (0, 0, 1, 1))]),
        ("cat [0, 0, 1]", []),
        ("cat [0, 0, 1, 1, 1]", []),
        ("cat [0 0 1 1]", []),
        ("cat [0, 0, 1, one]", []),
        ("cat [0, 0, 1, 1e0]", []),
        ("cat [0, 0, ., 1]", []),
        ("cat (0, 0, 1, 1)", []),
        ("cat [0, 0, 1, 1", []),
        ("[0, 0, 1, 1]", []),  # no name
        ("cat [0, 0, 1, 1] [0, 0, 0.5, 1]", [("cat", (0, 0, 1, 1))]),
        ("no objects", []),
        ("", []),
    ],
)
def test_texts(text: str, found: list[tuple[str, tuple[float, ...]]]) -> None:
    assert [(item.label, item.box) for item in TASK.parse(text, sample())] == found


def test_an_answer_goes_from_left_to_right() -> None:
    boxes = [("c", (0.5, 0.1, 1.0, 1.0)), ("b", (0.2, 0.3, 1.0, 1.0)), ("a", (0.2, 0.05, 0.333, 0.777))]
    assert (
        answer(*boxes) == "a [0.20, 0.05, 0.33, 0.78], b [0.20, 0.30, 1.00, 1.00], c [0.50, 0.10, 1.00, 1.00]"
    )
    assert answer() == "no objects"


EDGE = st.floats(0, 1)


@given(
    st.lists(
        st.tuples(EDGE, EDGE, EDGE, EDGE).filter(lambda box: box[0] < box[2] and box[1] < box[3]), max_size=4
    )
)
def test_no_box_is_lost_however_small(boxes: list[tuple[float, float, float, float]]) -> None:
    found = TASK.parse(answer(*(("cat", box) for box in boxes)), sample())
    assert len(found) == len(boxes)
    for said, true in zip(found, sorted(boxes, key=lambda box: (box[0], box[1])), strict=True):
        assert all(abs(one - two) <= 0.01 + 1e-9 for one, two in zip(said.box, true, strict=True))
