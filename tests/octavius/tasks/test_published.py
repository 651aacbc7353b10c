"""Boxes and options that the published evaluation finds in sentences."""

import pytest

from octavius.instruction.sample import Boxes, LabelledBox, Sample
from octavius.tasks import TASKS
from octavius.tasks.published import option, sentence_boxes

BOX = "[0.10, 0.20, 0.30, 0.40]"


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        (f"The dog object is at {BOX}", "dog"),
        (f"There is something classified as person within {BOX}", "person"),
        (f"It is categorized as bus at {BOX}", "bus"),
        (
            f"It is classified as bus at {BOX}",
            "bus at [0",
        ),  # nothing ends the class before the dot of a number
        (f"It belongs to the category of cow at {BOX}", "cow"),
        (f"It belongs to the sheep category, {BOX}", "sheep"),
        (f"{BOX} falls under the category of train.", "train"),
        (f"{BOX} falls under the boat category", "boat"),
        (f"At {BOX}, its category is tvmonitor.", "tvmonitor"),
        (f"The dog object at {BOX} is classified as cat, I say", "cat"),  # the last pattern wins
        (f"dog {BOX}", None),
        ("The dog object is here", None),
        ("The dog object [0.3, 0.2, 0.1, 0.4]", None),  # reversed
        ("The dog object [-0.3, 0.2, 0.1, 0.4]", None),
        ("The dog object [0.1.2, 0.2, 0.3, 0.4]", None),
        ("The dog object [0.1, 0.2, 1.3, 0.4]", "dog"),  # outside the image
    ],
)
def test_one_sentence(sentence: str, label: str | None) -> None:
    assert [box.label for box, _ in sentence_boxes(sentence)] == ([] if label is None else [label])


def test_one_box_a_sentence_and_its_place_among_the_brackets() -> None:
    text = f"I see [two]. The dog object {BOX}, {BOX}. None. It is classified as cat within {BOX}."
    assert [(box.label, closed) for box, closed in sentence_boxes(text)] == [("dog", 2), ("cat", 4)]


def test_scores_follow_their_box_by_either_protocol() -> None:
    one = Sample("s", "detection", "b", {}, "", Boxes((LabelledBox("cat", (0, 0, 1, 1)),)))
    task = TASKS["detection"]
    text = f"dog [1, 2], cat {BOX}, cow {BOX}"
    assert [box.score for box in task.scored(text, one, [0.1, 0.2, 0.3])] == [0.2, 0.3]
    assert [box.score for box in task.parse(text, one)] == [1, 1 / 2]
    # Cut off before its score: it ranks with the lowest.
    assert [box.score for box in task.scored(text, one, [-0.1, -0.2])] == [-0.2, -0.2]


OPTIONS = ("red", "blue", "dark blue")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("The answer is B.", 1),
        ("So the answer is (C), as I said", 2),
        ("The answer is (A). No, the answer is B!", None),
        ("The answer is B", None),  # nothing follows the letter
        ("ANSWER: A", 0),
        ("The answer is B. ANSWER: A", 1),
        ("I take (C)", 2),
        ("(A) or (B)", None),
        ("it is Red", 0),
        ("it is blue", 1),
        ("it is dark blue", None),  # two of the options are in it
        ("The answer is E.", None),
        ("", None),
    ],
)
def test_options(text: str, place: int | None) -> None:
    assert option(text, OPTIONS) == place
