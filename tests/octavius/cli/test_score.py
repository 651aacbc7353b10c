"""Predictions of other programs, in the formats of benchmarks, are scored as `octavius test` scores answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.suite import SUITE
from octavius.cli.score import score, scores_of_submission
from tests.datamodules import data_root
from tests.datamodules.benchmarks.scan_files import NAME


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_root.write(tmp_path_factory.mktemp("suite") / "data")


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def voc(folder: Path, *lines: str, split: str = "val", label: str = "dog") -> Path:
    """The boxes of images a and b span pixels 1 to 5 and 6 to 20."""
    write(folder / f"comp3_det_{split}_{label}.txt", "".join(f"{line}\n" for line in lines))
    return folder


def coco(*boxes: tuple[list[float], float], image: int = 1, category: int = 1) -> list[dict[str, Any]]:
    found = {"image_id": image, "category_id": category}
    return [{**found, "bbox": edges, "score": score} for edges, score in boxes]


QUESTION = {"scene_id": NAME, "question_id": "val-0", "bbox": []}
RIGHT = {
    "scanqa": ([{**QUESTION, "answer_top10": ["table", "chair"]}], "em1", 1.0),
    "scan2cap": ({f"{NAME}|1|table": ["sos low eos"]}, "bleu1", 1.0),
    "nr3d": ({"scene0001_00|1|table": ["sos the low one eos"]}, "bleu3", 1.0),
    "scienceqa": ({"results": {"4": 1, "5": 0}, "outputs": {}}, "acc1", 0.5),
    "flickr30k": (
        [{"image_id": "0", "caption": "a dog"}, {"image_id": "1.jpg", "caption": ""}],
        "bleu1",
        None,
    ),
    "coco_captioning": ([{"image_id": 1, "caption": "A dog."}], "bleu1", 1.0),
    "coco_detection": (coco(([1, 1, 5, 5], 0.9), ([6, 1, 3, 5], 0.8)), "map50_coco", 1.0),
    "cifar10": ({"test_batch-0": "ship", "test_batch-1": "The picture shows a frog."}, "acc1", 0.5),
}


@pytest.mark.parametrize("name", RIGHT)
def test_formats_of_benchmarks(tmp_path: Path, root: Path, name: str) -> None:
    content, metric, expected = RIGHT[name]
    found = scores_of_submission([write(tmp_path / "a.json", content)], name, root, "standard")
    assert [(one.name, one.protocol) for one in found] == [(name, "standard")]
    value = found[0].values[metric]
    assert value == pytest.approx(expected) if expected is not None else 0 < value < 1


@pytest.mark.parametrize(("name", "split"), [("voc2012", "val"), ("voc2007", "test")])
def test_boxes_of_voc(tmp_path: Path, root: Path, name: str, split: str) -> None:
    """By hand: a hit, a false positive above it, and one box that is never found."""
    path = voc(tmp_path, "a 0.9 6 1 10 5", "a 0.8 1 6 5 20", split=split)
    (found,) = scores_of_submission([path], name, root, None)
    assert found.protocol == "standard"
    assert found.samples == 2
    assert found.values["recall50"] == pytest.approx(0.5)
    assert found.values["precision50"] == pytest.approx(0.5)
    assert found.values["map50"] == pytest.approx(0.25)  # precision 1/2 up to a recall of 1/2


def test_scores_decide_the_order_of_boxes(tmp_path: Path, root: Path) -> None:
    hit, miss = [1, 1, 5, 5], [6, 6, 3, 3]
    first = write(tmp_path / "a.json", coco((miss, 0.1), (hit, 0.9)))
    second = write(tmp_path / "b.json", coco((miss, 0.9), (hit, 0.1)))
    values = [
        scores_of_submission([path], "coco_detection", root, None)[0].values["map50"]
        for path in (first, second)
    ]
    assert values == pytest.approx([1.0, 0.5])


def test_both_protocols_of_texts(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.json", {"results": {"4": 1, "5": 1}})
    score([str(path), "--benchmark", "scienceqa", "--data-root", str(root), "--out", str(tmp_path / "out")])
    assert "| scienceqa | published | 2 | acc1 | 1.0000 | 1.0000 to 1.0000 |" in capsys.readouterr().out
    saved = json.loads((tmp_path / "out" / "scores.json").read_text())["scores"]
    assert [(one["protocol"], one["values"]["acc1"]) for one in saved] == [("standard", 1), ("published", 1)]


def test_problems_without_an_image_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = data_root.write(tmp_path / "data")
    problems = json.loads((root / "scienceqa" / "problems.json").read_text())
    problems["6"] = {**problems["4"], "image": None}
    write(root / "scienceqa" / "problems.json", problems)
    write(root / "scienceqa" / "pid_splits.json", {"test": ["4", "5", "6"]})
    path = write(tmp_path / "a.json", {"results": {"4": 1, "5": -1, "6": 0}})
    (found,) = scores_of_submission([path], "scienceqa", root, "standard")
    assert (found.samples, found.values["acc1"]) == (2, 0.5)
    assert "1 answers are not scored" in capsys.readouterr().err


ANSWER = {**QUESTION, "answer_top10": ["table"]}
WRONG: dict[str, tuple[str, Any, str]] = {
    "missing": ("scanqa", [], "0 answers, but 'val-0' is missing of 1 samples of scanqa, split val"),
    "unknown": (
        "scanqa",
        [ANSWER, {**ANSWER, "question_id": "test-7"}],
        "'test-7' is not among the 1 samples",
    ),
    "twice": ("scanqa", [ANSWER, ANSWER], "item 1: the id 'val-0' stands twice"),
    "no answers": ("scanqa", [QUESTION], "item 0: .*answer_top10"),
    "no list": ("scanqa", {"val-0": "table"}, "expected .* at its top level"),
    "no json": ("scanqa", "question_id,answer\n", "is not valid JSON at line 1"),
    "detected boxes": (
        "scan2cap",
        {NAME: [{"caption": "", "box": []}]},
        r"should be <scan>\|<object id>\|<name>",
    ),
    "two captions": ("scan2cap", {f"{NAME}|1|table": ["a", "b"]}, "a list of one caption"),
    "no option": (
        "scienceqa",
        {"results": {"4": 2, "5": 0}},
        "the result of '4', .* should be -1 to 1, found 2",
    ),
    "no results": ("scienceqa", {"4": 1}, "results"),
    "another category": (
        "coco_detection",
        coco(([1, 1, 5, 5], 1), category=9),
        "item 0: category_id 9 is not",
    ),
    "another image": ("coco_detection", coco(([1, 1, 5, 5], 1), image=9), "item 0: image_id 9 is not"),
    "outside": ("coco_detection", coco(([50, 1, 5, 5], 1)), "item 0: the box .* is wrong"),
    "no score": (
        "coco_detection",
        [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
        "expected a number",
    ),
    "no text": (
        "cifar10",
        {"test_batch-0": 8, "test_batch-1": "frog"},
        "'test_batch-0' should be a text, found 8",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused(tmp_path: Path, root: Path, case: str) -> None:
    name, content, message = WRONG[case]
    with pytest.raises(ValueError, match=rf"a\.json.*{message}"):
        scores_of_submission([write(tmp_path / "a.json", content)], name, root, None)


BAD_LINES = {
    "few words": ("a 0.9 1 6 5", "comp3_det_val_dog.txt line 1: expected image, confidence"),
    "another image": ("c 0.9 1 6 5 20", "line 1: the image 'c' is not in the split"),
    "no number": ("a high 1 6 5 20", "line 1: expected a number as the confidence"),
    "reversed": ("a 0.9 5 6 1 20", "line 1: the box .* is wrong: x1"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_wrong_lines_of_voc_are_refused(tmp_path: Path, root: Path, case: str) -> None:
    line, message = BAD_LINES[case]
    with pytest.raises(ValueError, match=message):
        scores_of_submission([voc(tmp_path, line)], "voc2012", root, None)


def test_other_arguments_are_refused(tmp_path: Path, root: Path) -> None:
    path = voc(tmp_path / "dets", "a 0.9 1 6 5 20")
    with pytest.raises(ValueError, match="expected a folder with comp3_det_val_<class>"):
        scores_of_submission([path / "comp3_det_val_dog.txt"], "voc2012", root, None)
    with pytest.raises(ValueError, match="no object of the split is a 'unicorn'"):
        scores_of_submission([voc(tmp_path / "two", "a 1 1 6 5 20", label="unicorn")], "voc2012", root, None)
    with pytest.raises(ValueError, match="score it by --protocol standard"):
        scores_of_submission([path], "voc2012", root, "published")
    with pytest.raises(ValueError, match="with the unknown 'voc2021'"):
        scores_of_submission([path], "voc2021", root, None)
    with pytest.raises(ValueError, match="expected one benchmark and one file or folder"):
        scores_of_submission([path], "2d", root, None)
    with pytest.raises(ValueError, match="which does not exist; name the folder above it by --data-root"):
        scores_of_submission([path], "voc2012", tmp_path / "nowhere", None)
    with pytest.raises(ValueError, match="there are no predictions at"):
        scores_of_submission([tmp_path / "gone.json"], "scanqa", root, None)


def test_every_benchmark_takes_some_format(tmp_path: Path, root: Path) -> None:
    """An empty plain file lacks every sample, and says so; boxes have formats of their own."""
    path = write(tmp_path / "a.json", {})
    for name, chosen in SUITE.items():
        if len(chosen) > 1:
            continue
        with pytest.raises(ValueError, match=r"missing|expected|results|'sentences'|boxes are not taken"):
            scores_of_submission([path], name, root, None)
