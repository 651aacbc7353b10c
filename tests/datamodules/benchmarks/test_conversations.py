"""LAMM's and LLaVA's conversation JSON becomes a sample for every answer."""

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.conversations import TASK_TYPES, read
from octavius.instruction.sample import Boxes, LabelledBox, Media, References, Sample

Item = dict[str, Any]


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def write(root: Path, items: Any, name: str = "train.json") -> Path:
    (root / "coco").mkdir(exist_ok=True)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(items))
    return root


def item(*texts: str, **values: Any) -> Item:
    return {"id": "000033471", "image": "coco/1.jpg", "conversations": talk(*texts), **values}


def box_xml(*objects: tuple[str, tuple[object, ...]], root: str = "DetectionAnswer") -> str:
    parts = []
    for label, edges in objects:
        tags = "".join(
            f"<{tag}>{edge}</{tag}>" for tag, edge in zip(("x1", "y1", "x2", "y2"), edges, strict=True)
        )
        parts.append(f"<Item>\n  {tags}<cls>{escape(label)}</cls></Item>")
    return f"<{root}>{''.join(parts)}</{root}>"


def only(root: Path, *items: Item) -> Sample:
    [sample] = read(write(root, list(items)), "train")
    return sample


def test_each_answer_is_a_sample_with_its_history(tmp_path: Path) -> None:
    write(tmp_path, [item("What is it?\n<image>", " A bus.", "Colour?", "Red.")])
    media = {"image": Media(path=tmp_path / "coco" / "1.jpg")}
    first = Sample(
        "000033471-0-0",
        "conversation",
        "conversations",
        media,
        "What is it?",
        References(("A bus.",)),
        (),
        "normal",
    )
    second = Sample(
        "000033471-0-1",
        "conversation",
        "conversations",
        media,
        "Colour?",
        References(("Red.",)),
        (("What is it?", "A bus."),),
        "normal",
    )
    assert read(tmp_path, "train") == [first, second]


@pytest.mark.parametrize(
    "asked", ["<image>\nWhat is it?", "What is it?\n<image>", "<image> What is it?", " What is it? "]
)
def test_the_place_holder_is_stripped(tmp_path: Path, asked: str) -> None:
    assert only(tmp_path, item(asked, "A bus.")).question == "What is it?"


def test_without_an_image_it_is_text_only(tmp_path: Path) -> None:
    plain = {"id": 4, "conversations": talk("What does `<image>` mean in SVG?", "A picture.")}
    sample = only(tmp_path, plain)
    assert (sample.media, sample.question) == ({}, "What does `<image>` mean in SVG?")
    assert only(tmp_path, {**plain, "image": None}).media == {}


def test_ids_differ_where_items_repeat(tmp_path: Path) -> None:
    write(tmp_path, [item("a", "b", "c", "d"), item("a", "b")])
    assert [sample.id for sample in read(tmp_path, "train")] == [
        "000033471-0-0",
        "000033471-0-1",
        "000033471-1-0",
    ]


def test_the_file_may_lie_in_meta_file(tmp_path: Path) -> None:
    write(tmp_path, [item("a", "b")], "meta_file/LAMM_instruct.json")
    [sample] = read(tmp_path, "LAMM_instruct")
    assert sample.media["image"].path == tmp_path / "coco" / "1.jpg"


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_every_task_type_has_its_task(tmp_path: Path, kind: str) -> None:
    answer = box_xml(("dog", (0, 0, 0.5, 1)))
    sample = only(tmp_path, item("Find all.", answer, task_type=kind))
    assert sample.group == kind
    if kind == "detection":
        assert (sample.task, sample.gold) == ("detection", Boxes((LabelledBox("dog", (0.0, 0.0, 0.5, 1.0)),)))
    else:
        assert (sample.task, sample.gold) == ("conversation", References((answer,)))


def test_detection_turns_stand_alone(tmp_path: Path) -> None:
    answers = [
        box_xml(("dog", (0, 0, 0.5, 1))),
        box_xml(("cat & dog", (0.25, 0, 1.004, 1)), ("cat", (0, 0, 1, 1))),
    ]
    write(tmp_path, [item("<image>", answers[0], "And now?", answers[1], task_type="detection")])
    first, second = read(tmp_path, "train")
    assert (first.question, first.history, second.question, second.history) == ("", (), "And now?", ())
    both = (LabelledBox("cat & dog", (0.25, 0.0, 1.0, 1.0)), LabelledBox("cat", (0.0, 0.0, 1.0, 1.0)))
    assert second.gold == Boxes(both)


label = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=8)
fraction = st.integers(0, 99)
objects = st.lists(
    st.tuples(label, fraction, fraction, st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5
)


@given(objects, st.sampled_from(["a", "Items", "detection"]))
def test_any_detection_comes_back(
    tmp_path_factory: pytest.TempPathFactory, facts: list[Any], root: str
) -> None:
    gold = tuple(
        LabelledBox(name, (x / 100, y / 100, min(1.0, (x + w) / 100), min(1.0, (y + h) / 100)))
        for name, x, y, w, h in facts
    )
    answer = box_xml(*((found.label, found.box) for found in gold), root=root)
    folder = tmp_path_factory.mktemp("lamm")
    assert only(folder, item("Find all.", answer, task_type="detection")).gold == Boxes(gold)


def detection(answer: str) -> Item:
    return item("Find all.", answer, task_type="detection")


BAD = {
    "no object": (
        "text",
        r"item 0 \(id 'none'\): expected an object with the key 'conversations', found 'text'",
    ),
    "no conversations": (
        {"id": "a"},
        r"item 0 \(id 'a'\): the key 'conversations' is missing; found the keys \['id'",
    ),
    "no turn": (item(), "expected pairs of a human and a gpt turn, found 0 turns"),
    "no answer": (item("a"), "expected pairs of a human and a gpt turn, found 1 turns"),
    "empty answer": (item("a", " "), r"the answer conversations\[1\] is empty"),
    "empty question": (item("<image>", "b"), "the question of turn 0 is empty"),
    "wrong order": (
        item(conversations=[{"from": "human", "value": "b"}, {"from": "human", "value": "a"}]),
        r"conversations\[1\] should be from 'gpt', found 'human'",
    ),
    "twice the same": (
        item(conversations=[*talk("a", "b"), {"from": "gpt", "value": "c"}]),
        r"conversations\[2\] should be from 'human', found 'gpt'",
    ),
    "no speaker": (item(conversations=[{"value": "a"}]), "the key 'from' is missing"),
    "no value": (item(conversations=[{"from": "human"}]), "the key 'value' is missing"),
    "a number": (item(conversations=[{"from": "human", "value": 3}]), "'value' should be a string, found 3"),
    "unknown type": (
        item("a", "b", task_type="VQA3D"),
        "unknown task_type 'VQA3D'; known ones are VQA, classific",
    ),
    "escape": (item("a", "b", image="../1.jpg"), "the path '../1.jpg' leads out of the data folder"),
    "absolute": (item("a", "b", image="/etc/1.jpg"), "the path '/etc/1.jpg' leads out of the data folder"),
    "no folder": (item("a", "b", image="gone/1.jpg"), "gone, which should hold '1.jpg', cannot be read"),
    "empty image": (item("a", "b", image=""), "the name of the file is empty"),
    "many images": (item("a", "b", image=["1.jpg"]), r"'image' should be a string, found \['1.jpg'\]"),
    "place-holder inside": (
        item("see <image> here", "b"),
        "expected <image> at an end of the question",
    ),
    "two place-holders": (
        item("<image>\na\n<image>", "b"),
        "<image> stands 2 times, but an item has one image",
    ),
    "shows no image": (
        {"conversations": talk("<image>\na", "b")},
        "shows <image>, but the item has no 'image'",
    ),
    "detection without": (
        {"task_type": "detection", "conversations": talk("a", "b")},
        "detection needs an 'image'",
    ),
    "malformed XML": (
        detection("<a><Item></a>"),
        "the detection answer is not valid XML: mismatched tag: line 1",
    ),
    "no item": (detection("<a></a>"), "the detection answer has no element Item"),
    "no class": (
        detection("<a><Item><x1>0</x1></Item></a>"),
        "Item 0 of the detection answer lacks y1, x2, y2, cls",
    ),
    "no number": (
        detection(box_xml(("dog", ("left", 0, 1, 1)))),
        "expected a number as a box edge, found 'left'",
    ),
    "reversed": (detection(box_xml(("dog", (0.6, 0, 0.2, 1)))), "bad box: x1 = 0.6 is not left of x2 = 0.2"),
    "outside": (detection(box_xml(("dog", (0.6, 0, 1.01, 1)))), "bad box: box coordinates outside 0..1"),
    "in pixels": (detection(box_xml(("dog", (10, 20, 64, 48)))), "bad box: box coordinates outside 0..1"),
    "not a number": (
        detection(box_xml(("dog", ("nan", 0, 1, 1)))),
        "expected a number as a box edge, found 'nan'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_items(tmp_path: Path, case: str) -> None:
    bad, message = BAD[case]
    write(tmp_path, [bad, item("a", "b")])
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, "train")
    assert f"{tmp_path / 'train.json'}, item 0 (id" in str(caught.value)
    with pytest.warns(UserWarning, match="1 bad item left out"):
        samples = read(tmp_path, "train", bad="skip")
    assert [sample.id for sample in samples] == ["000033471-1-0"]


def test_another_kind_of_file_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"data": []})
    with pytest.raises(ValueError, match=r"train\.json: expected a list at its top level, found an object"):
        read(tmp_path, "train")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"train\.json and meta_file/train\.json not found"):
        read(tmp_path, "train")
