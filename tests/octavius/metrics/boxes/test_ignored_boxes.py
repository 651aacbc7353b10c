"""Ignored ground-truth boxes are neither missed nor found."""

from octavius.instruction.sample import Boxes, LabelledBox
from octavius.metrics import BoxRecallPrecision
from octavius.metrics.boxes.box_matching import box_counts
from octavius.tasks import TASKS
from tests.octavius.callbacks.fake_module import sample

WHOLE, HALF = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.4)
GOLD = Boxes((LabelledBox("cat", WHOLE), LabelledBox("dog", HALF, ignored=True)))


def test_recall_and_precision_by_hand() -> None:
    """A cat that is found, a dog that need not be, a cow that is not there."""
    found = [LabelledBox("cat", WHOLE), LabelledBox("dog", HALF), LabelledBox("cow", WHOLE)]
    assert box_counts([found], [GOLD]) == [(1, 2, 1)]
    metric = BoxRecallPrecision()
    metric.update([found, None], [GOLD, GOLD])
    assert metric.compute() == {
        "recall50": 0.5,
        "precision50": 0.5,
    }


def test_a_second_box_of_a_found_object_is_still_an_error() -> None:
    twice = [LabelledBox("cat", WHOLE)] * 2
    assert box_counts([twice], [Boxes((*GOLD.objects, LabelledBox("cat", WHOLE, ignored=True)))]) == [
        (1, 2, 1)
    ]


def test_nobody_is_asked_to_say_it() -> None:
    one = sample("s", "detection", GOLD)
    assert [item.label for item in TASKS["detection"].value(one)] == ["cat"]
    assert TASKS["detection"].answer(one, None) == "cat [0.00, 0.00, 1.00, 1.00]"  # type: ignore[arg-type]
