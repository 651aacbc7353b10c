"""Templates about pictures say what is true, and only that."""

import random
import re
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from datamodules.benchmarks.documents import parse_xml
from datamodules.instructions.annotation import Annotation, Thing, read_images
from datamodules.instructions.images import (
    KINDS,
    boxes_xml,
    by_template,
    classification,
    place_of,
    presence,
    side_of,
)
from datamodules.instructions.wordings import plural


def thing(label: str, *box: float, number: int = 0) -> Thing:
    return Thing(str(number), label, label, box)


DOG, CAT = thing("dog", 0.0, 0.0, 0.2, 0.4), thing("cat", 0.5, 0.0, 0.9, 0.4, number=1)


@given(
    st.lists(st.tuples(st.text(min_size=1), st.lists(st.integers(0, 10**5), min_size=4, max_size=4))),
)
def test_xml_reads_back_to_the_same_objects(objects: list[tuple[str, list[int]]]) -> None:
    allowed = [(label, box) for label, box in objects if all(c >= " " and c.isprintable() for c in label)]
    things = [thing(label, *(edge / 10**5 for edge in box)) for label, box in allowed]
    items = list(parse_xml(boxes_xml(things), "here").iter("Item"))
    assert [item.findtext("cls") for item in items] == [label for label, _ in allowed]
    for item, (_, box) in zip(items, allowed, strict=True):
        edges = [float(item.findtext(name) or "nan") for name in ("x1", "y1", "x2", "y2")]
        assert edges == pytest.approx([edge / 10**5 for edge in box], abs=1e-6)


@pytest.mark.parametrize(
    ("things", "main"),
    [
        ([thing("dog", 0.0, 0.0, 0.5, 0.5)], "dog"),
        ([thing("dog", 0.0, 0.0, 0.3, 0.3)], None),  # too little of the picture
        (
            [thing("dog", 0.0, 0.0, 0.5, 0.5), thing("cat", 0.5, 0.5, 0.9, 0.9, number=1)],
            None,
        ),  # two as large
        ([thing("dog", 0.0, 0.0, 0.5, 0.5), thing("cat", 0.5, 0.5, 0.7, 0.9, number=1)], "dog"),
    ],
)
def test_only_a_clear_main_object_is_asked_for(things: list[Thing], main: str | None) -> None:
    talks = list(classification(Annotation("1", tuple(things), ("dog", "cat")), random.Random(0)))
    assert [main in answer.lower() for _, answer in talks if main] == ([True] if main else [])
    assert len(talks) == (main is not None)


def test_no_question_is_asked_that_a_crowd_or_a_caption_makes_doubtful() -> None:
    annotation = Annotation(
        "1", (DOG,), ("bear", "cat", "dog"), crowds=frozenset({"cat"}), captions=("Bears.",)
    )
    for seed in range(40):
        for question, answer in presence(annotation, random.Random(seed)):
            assert "dogs" in question
            assert answer.startswith("Yes")
    crowded = Annotation("1", (DOG,), ("dog",), crowds=frozenset({"dog"}))
    assert [talk for seed in range(20) for talk in KINDS["VQA"](crowded, random.Random(seed))] == []
    assert list(classification(crowded, random.Random(0))) == []


def test_places_and_sides_by_hand() -> None:
    assert [place_of(one) for one in (DOG, CAT)] == ["top left", "top right"]
    assert place_of(thing("cup", 0.4, 0.4, 0.6, 0.6)) == "middle"
    assert place_of(thing("cup", 0.4, 0.8, 0.6, 1.0)) == "bottom"
    assert [side_of(DOG, CAT, 0), side_of(CAT, DOG, 0), side_of(DOG, CAT, 1)] == ["left", "right", ""]
    assert side_of(thing("cup", 0.0, 0.8, 0.2, 1.0), DOG, 1) == "below"


def test_the_same_seed_gives_the_same_items_whatever_else_is_asked() -> None:
    annotation = Annotation("1", (DOG, CAT), ("bear", "cat", "dog"), captions=("A dog.", "A cat."))
    both = list(by_template(annotation, ["detection", "VQA"], 0, "1.jpg"))
    assert both == [
        *by_template(annotation, ["detection"], 0, "1.jpg"),
        *by_template(annotation, ["VQA"], 0, "1.jpg"),
    ]
    seeds = {str(list(by_template(annotation, list(KINDS), seed, "1.jpg"))) for seed in range(10)}
    assert len(seeds) > 5


def test_answers_about_real_pictures_are_true(shared_data: Path) -> None:
    """Every question is read again and answered from the official file, by pycocotools."""
    root = shared_data / "coco-tiny"
    coco = COCO(root / "annotations" / "instances_val2017.json")
    names = {category["id"]: category["name"] for category in coco.dataset["categories"]}
    singular = {plural(name): name for name in names.values()}
    checked: Counter[str] = Counter()
    for annotation, seed in product(read_images(root, "val2017", captions=True), range(3)):
        rows = coco.loadAnns(coco.getAnnIds([int(annotation.name)]))
        centre = {names[row["category_id"]]: row["bbox"][0] + row["bbox"][2] / 2 for row in rows}
        counts = Counter(names[row["category_id"]] for row in rows)
        for item in by_template(annotation, ["VQA"], seed, "x.jpg"):
            question, answer = (turn["value"] for turn in item["conversations"])
            asked = [name for words, name in singular.items() if f" {words}" in question]
            if found := re.fullmatch(r"(?:There are )?(\d+)\.?", answer):
                assert counts[max(asked, key=len)] == int(found[1])
                checked["count"] += 1
            elif answer.startswith(("Yes", "No")):
                assert (counts[max(asked, key=len)] > 0) is answer.startswith("Yes")
                checked[answer[:2]] += 1
            elif sides := re.fullmatch(r"Is the (.+) left or right of the (.+)\?", question):
                left = centre[sides[1]] < centre[sides[2]]
                assert ("left" in answer.lower()) is left
                checked["side"] += 1
    assert min(checked[kind] for kind in ("count", "Ye", "No", "side")) > 10, checked
