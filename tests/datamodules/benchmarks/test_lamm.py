"""LAMM's benchmark JSON states the same as the official layouts, with questions of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules.benchmarks import lamm
from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.images import celeba, cifar10, flickr30k, scienceqa, voc
from octavius.instruction.sample import ClassName, Media, Sample
from octavius.tasks import TASKS
from tests.datamodules.benchmarks import cifar_files
from tests.datamodules.benchmarks.bad_items import kept

HAIR, SMILE = "Facial_Classification_CelebA(Hair)", "Facial_Classification_CelebA(Smile)"
ASKED = "What is in the picture?"


def item(**answer: Any) -> dict[str, Any]:
    return {"id": "7", "image": "some_images/7.jpg", "query": ASKED, **answer}


def write(root: Path, split: str, *items: Any) -> Path:
    (root / "meta_file").mkdir(parents=True, exist_ok=True)
    (root / "some_images").mkdir(exist_ok=True)
    (root / "meta_file" / f"{split}.json").write_text(json.dumps(items))
    return root


def official_voc(root: Path) -> list[Sample]:
    box = "<bndbox><xmin>1</xmin><ymin>6</ymin><xmax>5</xmax><ymax>20</ymax></bndbox>"
    thing = f"<object><name>dog</name><difficult>0</difficult>{box}</object>"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    size = "<size><width>10</width><height>20</height></size>"
    (root / "Annotations" / "7.xml").write_text(f"<annotation>{size}{thing}</annotation>")
    (root / "ImageSets" / "Main" / "val.txt").write_text("7\n")
    return voc.read(root, "val")


def official_scienceqa(root: Path) -> list[Sample]:
    problem = {
        "question": "Which is highest?",
        "choices": ["hill", "peak"],
        "answer": 1,
        "image": "image.png",
    }
    (root / "images" / "test" / "7").mkdir(parents=True)
    (root / "problems.json").write_text(json.dumps({"7": {**problem, "hint": "Look.", "split": "test"}}))
    (root / "pid_splits.json").write_text(json.dumps({"test": ["7"]}))
    return scienceqa.read(root, "test")


def official_cifar10(root: Path) -> list[Sample]:
    cifar_files.write(root, [bytes(3072)], [8])
    return cifar10.read(root, "test")


def official_flickr30k(root: Path) -> list[Sample]:
    (root / "images").mkdir(parents=True)
    told = [{"raw": "Two dogs ."}, {"raw": "Dogs run ."}]
    images = [{"filename": "7.jpg", "split": "test", "sentences": told}]
    (root / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))
    return flickr30k.read(root, "test")


def official_celeba(read: Callable[..., list[Sample]]) -> Callable[[Path], list[Sample]]:
    def write_and_read(root: Path) -> list[Sample]:
        (root / "img_align_celeba").mkdir(parents=True)
        names = "Black_Hair Blond_Hair Brown_Hair Gray_Hair Smiling"
        (root / "list_attr_celeba.txt").write_text(f"1\n{names}\n7.jpg -1 -1 1 -1 -1\n")
        (root / "list_eval_partition.txt").write_text("7.jpg 2\n")
        return read(root, "test")

    return write_and_read


SAME: dict[str, tuple[Callable[[Path], list[Sample]], dict[str, Any]]] = {
    "Detection_VOC2012": (official_voc, {"object": [{"label": "dog", "bbox": [0.0, 0.25, 0.5, 1.0]}]}),
    "VQA_SQAimage": (
        official_scienceqa,
        {
            "gt_choice": 1,
            "gt_choices": ["hill", "peak"],
            "query": "Which is highest?\nContext: Look.\nOptions: (A) hill (B) peak\n",
        },
    ),
    "Classification_CIFAR10": (official_cifar10, {"label": "ship"}),
    "Caption_flickr30k": (official_flickr30k, {"sentences": ["Two dogs .", "Dogs run ."]}),
    HAIR: (official_celeba(celeba.read_hair), {"attr": "brown"}),
    SMILE: (official_celeba(celeba.read_smile), {"attr": "-1"}),
}


@pytest.mark.parametrize("split", SAME)
def test_both_layouts_state_the_same(tmp_path: Path, split: str) -> None:
    official, answer = SAME[split]
    [expected] = official(tmp_path / "official")
    [found] = lamm.read(write(tmp_path / "lamm", split, item(**answer)), split)
    assert (found.task, found.gold) == (expected.task, expected.gold)
    assert found.media == {"image": Media(path=tmp_path / "lamm" / "some_images" / "7.jpg")}
    assert (found.id, found.benchmark) == ("7-0", "lamm")
    task = TASKS[found.task]
    assert task.value(found) == task.value(expected)


@pytest.mark.parametrize("split", ["Detection_VOC2012", "Caption_flickr30k", HAIR, SMILE])
def test_questions_are_the_files_own(tmp_path: Path, split: str) -> None:
    write(tmp_path, split, item(**SAME[split][1]))
    assert lamm.read(tmp_path, split)[0].question == ASKED


@pytest.mark.parametrize("written", ["\nOptions: (A) hill (B) peak\n", "\nOptions: (A)hill (B)  peak", ""])
def test_options_are_left_to_the_task(tmp_path: Path, written: str) -> None:
    answer = {**SAME["VQA_SQAimage"][1], "query": f"Which is highest? {written}"}
    [found] = lamm.read(write(tmp_path, "VQA_SQAimage", item(**answer)), "VQA_SQAimage")
    assert found.question == "Which is highest?"


def test_classes_are_named_in_an_order_of_the_items_own(tmp_path: Path) -> None:
    write(tmp_path, "Classification_CIFAR10", *[item(label="Ship")] * 6)
    samples = lamm.read(tmp_path, "Classification_CIFAR10")
    said = [sample.question.removeprefix(f"{ASKED} Choose one of these: ") for sample in samples]
    orders = [tuple(text.removesuffix(".").split(", ")) for text in said]
    assert {frozenset(order) for order in orders} == {frozenset(cifar10.CLASSES)}
    assert len(set(orders)) == 6
    assert [sample.question for sample in lamm.read(tmp_path, "Classification_CIFAR10")] == [
        sample.question for sample in samples
    ]


def test_a_fifth_hair_is_possible_where_it_occurs(tmp_path: Path) -> None:
    write(tmp_path, HAIR, item(attr="black"), item(attr="bald"))
    names = ("black", "blond", "brown", "gray", "bald")
    assert [found.gold for found in lamm.read(tmp_path, HAIR)] == [
        ClassName("black", names),
        ClassName("bald", names),
    ]


def test_items_without_id_count(tmp_path: Path) -> None:
    answers = [{"image": f"some_images/{n}.jpg", "query": ASKED, "attr": 1} for n in range(2)]
    assert [found.id for found in lamm.read(write(tmp_path, SMILE, *answers), SMILE)] == ["0-0", "1-1"]


BAD: dict[str, tuple[str, Any, str]] = {
    "no object": (SMILE, "text", "expected an object with the key 'image', found 'text'"),
    "no image": (SMILE, {"query": ASKED, "attr": "1"}, "the key 'image' is missing"),
    "escape": (SMILE, item(attr="1", image="../7.jpg"), "leads out of the data folder"),
    "no folder": (
        SMILE,
        item(attr="1", image="gone/7.jpg"),
        "the folder .*gone, which should hold '7.jpg', cannot",
    ),
    "no question": (SMILE, item(attr="1", query=" "), "'query' is empty"),
    "odd smile": (SMILE, item(attr="yes"), "'attr' should be 1 or -1, found 'yes'"),
    "odd hair": (HAIR, item(attr="green"), "'attr' should be one of black, .*bald, found 'green'"),
    "odd class": (
        "Classification_CIFAR10",
        item(label="car"),
        "'label' should be one of airplane, .* found 'car'",
    ),
    "no captions": (
        "Caption_flickr30k",
        item(sentences=[]),
        "'sentences' should hold at least 1 string, found 0",
    ),
    "empty caption": ("Caption_flickr30k", item(sentences=["A", ""]), r"'sentences'\[1\] is empty"),
    "no boxes": ("Detection_VOC2012", item(object=[]), "'object' is empty"),
    "reversed box": (
        "Detection_VOC2012",
        item(object=[{"label": "dog", "bbox": [0.5, 0, 0.1, 1]}]),
        "object 0: bad box",
    ),
    "pixels": (
        "Detection_VOC2012",
        item(object=[{"label": "dog", "bbox": [5, 6, 50, 60]}]),
        "object 0: bad box",
    ),
    "three edges": (
        "Detection_VOC2012",
        item(object=[{"label": "dog", "bbox": [0, 0, 1]}]),
        "expected 4 numbers, found 3",
    ),
    "no label": ("Detection_VOC2012", item(object=[{"label": "", "bbox": [0, 0, 1, 1]}]), "'label' is empty"),
    "answer beyond": (
        "VQA_SQAimage",
        item(gt_choice=2, gt_choices=["a", "b"]),
        "'gt_choice' should be 0 to 1, found 2",
    ),
    "other options": (
        "VQA_SQAimage",
        item(gt_choice=0, gt_choices=["a", "b"], query="Q? Options: (A) b (B) a"),
        r"its 'query' lists the options '\(A\) b \(B\) a', but its 'gt_choices' are '\(A\) a \(B\) b'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_items(tmp_path: Path, case: str) -> None:
    split, bad, message = BAD[case]
    write(tmp_path, split, bad, item(**SAME[split][1]))
    [left] = kept(lamm.read, tmp_path, split, rf"meta_file/.*\.json, item 0 \(id .*\): .*{message}")
    assert left.id == "7-1"


def test_files_that_are_not_there_or_not_known_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"meta_file/OCR_SVT\.json and OCR_SVT\.json not found"):
        lamm.read(tmp_path, "OCR_SVT")
    with pytest.raises(
        ValueError, match=r"OCR_SVT\.json is not a known benchmark file of LAMM; .*VQA_SQAimage"
    ):
        lamm.read(write(tmp_path, "OCR_SVT"), "OCR_SVT")
