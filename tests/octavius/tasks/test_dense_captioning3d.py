"""Dense captions list objects from one end of the room to the other, each with a text and a box."""

import random

import pytest

from octavius.instruction.sample import DescribedObject, DescribedObjects, Sample
from octavius.tasks import DenseCaptioning3D

TASK = DenseCaptioning3D()
CHAIR = DescribedObject((2.0, 0.123, 0.4, 0.5, 0.5, 0.8), ("A red chair; it is old.", "the chair,\n red"))
LAMP = DescribedObject((-1.5, 3.0, 1.0, 0.2, 0.004, 1.6), ("a lamp [tall]",))


def sample(*objects: DescribedObject) -> Sample:
    return Sample("s", "dense_captioning3d", "b", {}, "", DescribedObjects(objects))


def test_an_answer_by_hand() -> None:
    said = {TASK.answer(sample(CHAIR, LAMP), random.Random(seed)) for seed in range(20)}
    lamp = "a lamp [tall] [-1.50, 3.00, 1.00, 0.20, 0.01, 1.60]"  # its side of 4 mm must not vanish
    chair = "[2.00, 0.12, 0.40, 0.50, 0.50, 0.80]"
    assert said == {f"{lamp}; A red chair; it is old. {chair}", f"{lamp}; the chair, red {chair}"}


def test_what_an_answer_by_hand_says() -> None:
    text = "a lamp [tall] [-1.50, 3, 1.00, .20, 0.01, 1.60]; A red chair; it is old. [2.00,0.12,0.40,0.50,0.50,0.80]"
    assert TASK.parse(text, sample()) == (
        DescribedObject((-1.5, 3.0, 1.0, 0.2, 0.01, 1.6), ("a lamp [tall]",)),
        DescribedObject((2.0, 0.12, 0.4, 0.5, 0.5, 0.8), ("A red chair; it is old.",)),
    )


@pytest.mark.parametrize(
    "text",
    [
        "no objects",
        "[1, 2, 3, 4, 5, 6]",  # nothing is said of it
        " ; , [1, 2, 3, 4, 5, 6]",
        "a chair [1, 2, 3, 4, 5]",
        "a chair [1, 2, 3, 4, 5, 6, 7]",
        "a chair [1, 2, 3, 0, 5, 6]",  # no size
        "a chair [1, 2, 3, -4, 5, 6]",
        "a chair [1, 2, 3, 4, 5, six]",
        f"a chair [1, 2, 3, {'9' * 400}, 5, 6]",  # infinite as a number
        f"a chair [1, 2, 3, {'9' * 200}, 5, 6]",  # a volume that is infinite
    ],
)
def test_texts_without_an_object(text: str) -> None:
    assert TASK.parse(text, sample()) == ()


def test_a_bad_box_takes_only_its_own_text_along() -> None:
    found = TASK.parse("a bed [1, 2, 3, 0, 5, 6]; a box [1, 2, 3, 4, 5, 6]", sample())
    assert [item.texts for item in found] == [("a box",)]
