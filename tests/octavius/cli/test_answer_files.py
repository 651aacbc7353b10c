"""Answers of predict as text, JSON and files with boxes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from octavius.boxes3d import corners
from octavius.cli.answer_files import Prediction, draw_boxes, save_boxes, write
from octavius.instruction.sample import LabelledBox, Media
from octavius.media.ply import read_vertices


@pytest.fixture
def image(tmp_path: Path) -> Media:
    Image.new("RGB", (40, 20), "black").save(tmp_path / "a.png")
    return Media(path=tmp_path / "a.png")


def test_a_line_has_files_and_questions_only_where_there_are_several(image: Media) -> None:
    item = Prediction("Where?", {"image": image}, "ball [0.1, 0.2, 0.5, 0.6]\x1b[31m", [0.25, 0.0, 0.75])
    assert item.printed(False, False) == "ball [0.1, 0.2, 0.5, 0.6]\\x1b[31m"
    assert item.printed(True, True) == f"{image.path} | Where?: ball [0.1, 0.2, 0.5, 0.6]\\x1b[31m"
    assert item.experts() == "0 (0.25), 2 (0.75)"
    assert Prediction("Where?", {}, "", [1.0]).experts() == Prediction("Where?", {}, "", None).experts() == ""
    assert json.loads(item.line()) == {
        "question": "Where?",
        "image": str(image.path),
        "answer": "ball [0.1, 0.2, 0.5, 0.6]\x1b[31m",
        "boxes": [{"label": "ball", "box": [0.1, 0.2, 0.5, 0.6]}],
        "experts": [0.25, 0.0, 0.75],
    }


def test_boxes_are_drawn_where_they_are_and_small_pictures_enlarged(image: Media) -> None:
    drawn = draw_boxes(
        image, [LabelledBox("ball", (0.5, 0.5, 1.0, 1.0)), LabelledBox("x", (0.9, 0.9, 0.1, 0.1))]
    )
    assert drawn.size == (40 * 13, 20 * 13)
    pixels = np.asarray(drawn)
    assert pixels[-2:, drawn.width // 2 + 8 :].max(axis=(0, 2)).min() > 0  # the lower edge of the box
    assert pixels[: drawn.height // 20].max() == 0


def test_the_bars_of_a_box_lie_along_its_edges(tmp_path: Path) -> None:
    boxes = [("chair", (0.0, 0.0, 0.0, 2.0, 1.0, 1.0)), ("desk", (5.0, 0.0, 0.5, 1.0, 1.0, 1.0))]
    save_boxes(tmp_path / "boxes.ply", boxes)
    found = read_vertices(tmp_path / "boxes.ply")
    xyz = np.stack([found[axis] for axis in "xyz"], axis=1)
    assert len(found) == 2 * 12 * 8
    for index, (_, box) in enumerate(boxes):
        part = xyz[index * 96 : (index + 1) * 96]
        ends = corners(torch.tensor(box, dtype=torch.float64)).numpy()
        np.testing.assert_allclose(part.min(0), ends.min(0) - 0.015, atol=1e-4)
        np.testing.assert_allclose(part.max(0), ends.max(0) + 0.015, atol=1e-4)
        inner = np.abs(part - np.array(box[:3])) < np.array(box[3:]) / 2 - 0.02
        assert (inner.sum(1) <= 1).all()  # away from an edge along one axis at most
    assert len({tuple(row) for row in found[["red", "green", "blue"]].tolist()}) == 2
    lines = (tmp_path / "boxes.ply").read_text().splitlines()
    assert lines[-1].startswith("3 ")
    assert max(int(number) for line in lines if line.startswith("3 ") for number in line.split()[1:]) == 191


def test_a_folder_has_all_answers_and_the_boxes_of_those_with_boxes(image: Media, tmp_path: Path) -> None:
    answers = [
        Prediction("Where?", {"image": image}, "ball [0.1, 0.2, 0.5, 0.6]", None),
        Prediction("Why?", {"image": image}, "because", None),
        Prediction("Who?", {}, "ball [0.1, 0.2, 0.5, 0.6]", None),
    ]
    write(tmp_path / "out", answers)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"answers.jsonl", "000_a.png"}
    lines = (tmp_path / "out" / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["answer"] for line in lines] == [item.answer for item in answers]
