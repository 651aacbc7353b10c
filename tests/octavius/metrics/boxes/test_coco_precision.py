"""COCO's average precision equals that of pycocotools."""

import contextlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from octavius.instruction.sample import LabelledBox
from octavius.metrics import CocoAP
from tests.octavius.metrics.boxes.detected_scenes import Scenes, scenes, values


def reference(images: Scenes, folder: Path) -> Sequence[float]:
    """Pycocotools as one calls it, on files in pixels."""
    numbers = {"cat": 1, "dog": 2}

    def row(box: LabelledBox, place: int) -> dict[str, object]:
        x1, y1, x2, y2 = (64 * edge for edge in box.box)
        sides = [x1, y1, x2 - x1, y2 - y1]
        return {
            "image_id": place,
            "category_id": numbers[box.label],
            "bbox": sides,
            "area": sides[2] * sides[3],
        }

    true = [
        row(box, n) | {"iscrowd": int(box.ignored)} for n, (_, boxes) in enumerate(images) for box in boxes
    ]
    data = {
        "images": [{"id": place} for place in range(len(images))],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": [{"id": place, **one} for place, one in enumerate(true, start=1)],
    }
    (folder / "gt.json").write_text(json.dumps(data))
    found = [row(box, n) | {"score": box.score} for n, (boxes, _) in enumerate(images) for box in boxes]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "gt.json"))
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats[:3]]


@given(images=scenes().filter(lambda images: any(found for found, _ in images)))
def test_coco_equals_pycocotools(images: Scenes, tmp_path_factory: pytest.TempPathFactory) -> None:
    found = values(CocoAP(), images)
    expected = [
        math.nan if value == -1 else value for value in reference(images, tmp_path_factory.getbasetemp())
    ]
    assert [found[key] for key in ("map_coco", "map50_coco", "map75_coco")] == pytest.approx(
        expected, abs=1e-6, nan_ok=True
    )
