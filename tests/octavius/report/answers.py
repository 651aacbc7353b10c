"""Answers of three sets, and files of them."""

from pathlib import Path

from octavius.evaluation.answers import Answered
from octavius.evaluation.prediction_files import write_predictions
from tests.octavius.callbacks.fake_module import answered, captions, detections, in_set, questions


def write(path: Path, items: list[Answered]) -> Path:
    write_predictions(path, items)
    return path


def some() -> list[Answered]:
    """Answers of three sets, some of them wrong."""
    samples = (
        in_set("scienceqa", questions(6))
        + in_set("flickr30k", captions(3))
        + in_set("voc2012", detections(4))
    )
    said = {"q1": "(C)", "q4": "?", "c0": "a ring", "d2": "cat [0, 0, 1, 1]"}
    items = answered(samples)
    spoken = answered(samples, lambda one: said.get(one.id, ""))
    return [two if two.sample.id in said else one for one, two in zip(items, spoken, strict=True)]
