"""Predictions are plain JSON."""

import json
from dataclasses import replace
from pathlib import Path

from octavius.evaluation.answers import Answered
from octavius.evaluation.predictions import line_of, prediction, read_predictions
from octavius.instruction.sample import DescribedObject, DescribedObjects, LabelledBox, Media, References
from tests.octavius.callbacks.fake_module import answered, detections, sample


def test_a_prediction_of_boxes_is_plain_json() -> None:
    one = replace(detections(1)[0], media={"image": Media(path=Path("a/b.png"))})
    item = Answered(one, "Where?", "dog [0, 0, 0.33333333, 1]", (LabelledBox("dog", (0, 0, 1 / 3, 1)),), None)
    line = json.loads(json.dumps(prediction(item)))
    assert line["parsed"] == [{"label": "dog", "box": [0, 0, 0.3333, 1]}]
    assert line["gold"] == {"boxes": [{"label": "cat", "box": [0, 0, 0.2, 0.2], "ignored": False}]}
    assert line["media"] == {"image": str(Path("a/b.png"))}
    assert line["gate"] is None


def test_a_prediction_of_described_objects_is_plain_json() -> None:
    box = (4.0, 4.0, 0.5, 1.0, 1.0, 1.0)
    gold = DescribedObjects((DescribedObject(box, ("a blue chair at the wall", "a chair")),))
    (one,) = answered([sample("r", "dense_captioning3d", gold)])
    line = json.loads(json.dumps(prediction(one)))
    assert line["parsed"] == [{"texts": ["a blue chair at the wall"], "box": [4, 4, 0.5, 1, 1, 1]}]
    assert line["gold"] == {
        "described": [{"texts": ["a blue chair at the wall", "a chair"], "box": [4, 4, 0.5, 1, 1, 1]}]
    }


def test_images_inside_a_question_come_back(tmp_path: Path) -> None:
    placed = tuple(("image", Media(path=Path(name))) for name in ("a.png", "b.png"))
    asked = sample("r", "conversation", References(("The first.",)))
    one = Answered(replace(asked, placed=placed), "<image> or <image>?", "No.", "No.", None)
    (tmp_path / "found.jsonl").write_text(line_of(one))
    [back] = read_predictions(tmp_path / "found.jsonl")
    assert back.sample.placed == placed
