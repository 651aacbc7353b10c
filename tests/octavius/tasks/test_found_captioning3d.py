"""Captions of detected boxes: right are those of the true object that overlaps most."""

import random

import pytest

from octavius.instruction.sample import DescribedObject, FoundObject, Sample
from octavius.tasks import FoundCaptioning3D

CHAIR = DescribedObject((0, 0, 0, 1, 1, 1), ("a chair", " ", "the chair"))
LAMP = DescribedObject((2, 0, 0, 1, 1, 1), ("a lamp",))


def found(x: float, *objects: DescribedObject) -> Sample:
    return Sample(
        "s", "found_captioning3d", "rooms", {}, "", FoundObject("scene", (x, 0, 0, 1, 1, 1), objects)
    )


def test_the_object_with_the_largest_overlap_is_described() -> None:
    task = FoundCaptioning3D()
    assert task.value(found(0.4, CHAIR, LAMP)) == ("a chair", "the chair")
    assert task.value(found(1.6, CHAIR, LAMP)) == ("a lamp",)
    drawn = {task.answer(found(0.4, CHAIR, LAMP), random.Random(seed)) for seed in range(20)}
    assert drawn == {"a chair", "the chair"}
    assert task.right_answers(found(1.6, CHAIR, LAMP)) == {"a lamp"}


def test_scenes_without_descriptions_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing is described in scene"):
        FoundCaptioning3D().value(found(0))
    with pytest.raises(ValueError, match="nearest to its box has no text"):
        FoundCaptioning3D().value(found(0, DescribedObject((0, 0, 0, 1, 1, 1), (" ",))))
