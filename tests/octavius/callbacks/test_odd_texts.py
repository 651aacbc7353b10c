"""No text of data or of a model ends a run, hides, or becomes markup, wherever it is shown."""

import csv
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pytest
from PIL import Image

from octavius.callbacks.pictures import AnswerSamples
from octavius.callbacks.routing import RoutingReport
from octavius.compare.figure import draw
from octavius.compare.table import Result, write_tables
from octavius.evaluation.answers import Answered
from octavius.evaluation.prediction_files import write_predictions
from octavius.evaluation.scores import chance, printed, score, tabulate
from octavius.instruction.sample import Boxes, Choice, LabelledBox, Media, Region, Sample
from octavius.report.score import scores_of
from octavius.report.tables import markdown
from octavius.report.tables import write_tables as write_score_tables
from tests.octavius.odd_texts import ODD


def images(folder: Path) -> Path:
    path = folder / "image.png"
    Image.new("RGB", (32, 32), "white").save(path)
    return path


def cloud(folder: Path) -> Path:
    path = folder / "cloud.npy"
    points = np.random.default_rng(0).random((50, 6)).astype(np.float32)
    np.save(path, points)
    return path


def everywhere(folder: Path, odd: str) -> list[Answered]:
    """Answers with an odd text as set, id, group, question, answer, option and, of boxes, as their label."""
    image = {"image": Media(path=images(folder))}
    box = (0.1, 0.1, 0.5, 0.5)
    asked = Sample(odd, "vqa", odd, {}, odd, Choice((f"{odd}?", "other"), 0), group=odd)
    seen = Sample(odd, "detection", f"{odd}2", image, odd, Boxes((LabelledBox("dog", box),)))
    found = (LabelledBox(odd, box), LabelledBox("dog", box))
    gate = (0.25, 0.75)
    scanned = replace(
        asked, benchmark=f"{odd}3", media={"cloud": Media(path=cloud(folder), region=Region(odd, None))}
    )
    return [
        Answered(asked, odd, odd, 0, gate, 0),
        Answered(replace(asked, id=f"{odd}b"), odd, odd, None, gate, 1),
        Answered(seen, odd, odd, found, gate, 2),
        Answered(scanned, odd, odd, 0, gate, 3),
    ]


FEW = ("$x$", "\ud800", "_\x1b[31m\U0001f600")
ALL = [odd if odd in FEW else pytest.param(odd, marks=pytest.mark.slow) for odd in ODD]


@pytest.mark.parametrize("odd", [*FEW[2:], *ALL], ids=lambda odd: ascii(odd[:20]))
def test_callbacks_and_reports_survive(
    evaluate: Callable[..., L.Trainer], odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = everywhere(tmp_path, odd)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(Glyph|label).*")
        folder = Path(str(evaluate(AnswerSamples(2), answers).log_dir))
        assert (folder / "detections_val.png").is_file()
        assert (folder / "clouds_val.png").is_file()
        folder = Path(str(evaluate(RoutingReport(), answers).log_dir))
        draw([Result(odd, 0, {f"{odd}s": {"acc1": 0.5}}, {})], [odd], tmp_path / "picture.png")
    write_tables([Result(odd, 0, {f"{odd}s": {"acc1": 0.5}}, {})], [odd], [], tmp_path / "compared")
    table = tabulate(answers, score(answers), chance(answers))
    assert "\x1b" not in printed(table)
    capsys.readouterr()


def test_scores_of_odd_predictions_are_written(tmp_path: Path) -> None:
    """Each in a table whose rows have as many cells as its head."""
    items = [everywhere(tmp_path, odd)[0] for odd in ODD]
    write_predictions(tmp_path / "odd.jsonl", items)
    scores = scores_of([tmp_path / "odd.jsonl"], "standard")
    text = write_score_tables(scores, tmp_path / "tables", "scores")
    rows = [line for line in text.split("## All scores")[1].splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {7}
    assert not [part for part in ("\x1b", "<script", "\ud800") if part in text]
    with (tmp_path / "tables" / "scores_scores.csv").open(newline="", encoding="utf-8") as file:
        names = [row[0] for row in csv.reader(file)]
    assert not [name for name in names if name.startswith(("=", "+", "@"))]
    assert markdown(scores)
