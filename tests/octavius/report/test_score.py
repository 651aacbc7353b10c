"""`octavius score` gives the scores of the metrics themselves, in files and in the paper's tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from octavius.cli.main import main
from octavius.evaluation.predictions import prediction, read_predictions, under
from octavius.evaluation.scores import score as score_live
from octavius.instruction.golds import to_json
from octavius.instruction.sample import References
from octavius.report.score import scores_of
from tests.octavius.callbacks.fake_module import answered, detections, in_set, questions
from tests.octavius.metrics.conftest import Scored, scored  # noqa: F401 - the fixture
from tests.octavius.report.answers import some, write
from tests.tiny import refused


def test_written_answers_score_as_live_ones(tmp_path: Path) -> None:
    items = some()
    file = write(tmp_path / "all.jsonl", items)
    live = score_live(items)
    found = {one.name: one for one in scores_of([file], "standard")}
    assert found.keys() == {"scienceqa", "flickr30k", "voc2012"}
    for name, one in found.items():
        assert one.values == pytest.approx(live[name])
        for key, (low, high) in one.intervals.items():
            assert low <= one.values[key] + 1e-9, key
            assert high >= one.values[key] - 1e-9 or "cider" in key, key
    again = read_predictions(file)
    assert [(one.sample.id, one.text, one.value) for one in again] == [
        (one.sample.id, one.text, one.value) for one in items
    ]
    assert [one.sample.gold for one in again] == [one.sample.gold for one in items]


@pytest.mark.slow
def test_the_caption_scorers_own_figures(scored: Scored, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    """1,000 captions of COCO with five references each, through the files and the command."""
    rows = zip(scored.images, *scored.raw, strict=True)
    lines = [
        {"set": "coco", "id": name, "task": "captioning", "prediction": text, "gold": to_json(gold)}
        for name, text, gold in rows
    ]
    file = tmp_path / "captions.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    main(["score", str(file), "--out", str(tmp_path / "out")])
    (standard, published) = json.loads((tmp_path / "out" / "scores.json").read_text())["scores"]
    assert standard["values"]["cider"] == pytest.approx(scored.scores["CIDEr"], abs=1e-6)
    expected = {f"bleu{size}": value for size, value in enumerate(scored.scores["Bleu"], start=1)}
    assert {key: standard["values"][key] for key in expected} == pytest.approx(expected, abs=1e-6)
    assert published["values"]["rouge_l"] == pytest.approx(scored.scores["ROUGE_L"], abs=1e-6)
    low, high = standard["intervals"]["cider"]
    # The standard error of 1,000 images' scores, 1.96 of it to either side.
    each = list(scored.scores["CIDEr_per_image"].values())
    mean = sum(each) / len(each)
    error = (sum((one - mean) ** 2 for one in each) / len(each) / (len(each) - 1)) ** 0.5
    assert (low, high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.01)


def test_both_protocols_and_likelihoods_from_one_file(tmp_path: Path) -> None:
    """Of red, blue, green the texts say blue, blue and nothing, the likelihoods green, red and blue."""
    lines = []
    for one, text, totals in zip(
        questions(3),
        ("blue", "The answer is B.", ""),
        ([-9, -8, -3], [-1, -2, -3], [-5, -2, -9]),
        strict=True,
    ):
        line = prediction(answered(in_set("scienceqa", [one]), lambda _, text=text: text)[0])  # type: ignore[misc]
        lines.append(line | {"likelihoods": [[total, 2] for total in totals]})
    file = tmp_path / "q.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = {one.protocol: one.values for one in scores_of([file])}
    assert found["standard"] == pytest.approx({"acc1": 1 / 3, "acc1_exact": 0, "acc1_likelihood": 0})
    assert found["published"] == pytest.approx({"acc1": 1 / 3})
    lines[0]["likelihoods"] = [[-8.0, 10], [-2.0, 2], [-3.0, 2]]  # the longest is the likeliest a token
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert scores_of([file], "standard")[0].values["acc1_likelihood"] == pytest.approx(1 / 3)


def test_answers_are_read_anew_by_another_protocol() -> None:
    items = answered(in_set("d", detections(1)), lambda _: "It is classified as cat, at [0, 0, 0.2, 0.2].")
    (published,) = under(items, "published")
    assert [box.label for box in published.value] == ["cat"]
    assert [box.label for box in under([published], "standard")[0].value] != ["cat"]


GOOD: dict[str, Any] = {
    "set": "c",
    "id": "1",
    "task": "captioning",
    "prediction": "a cat",
    "gold": to_json(References(("a cat",))),
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no prediction"),
        ("{", "bad.jsonl, line 1: it is not JSON"),
        ("[]", "line 1: expected an object"),
        (json.dumps(GOOD) + "\n" + json.dumps({**GOOD, "gold": {}}), "line 2: expected a gold with options"),
        (
            json.dumps({key: GOOD[key] for key in ("set", "id", "task", "gold")}),
            "the key 'prediction' is missing",
        ),
        (json.dumps({**GOOD, "task": "poetry"}), "there is no task 'poetry'; known are detection"),
        (json.dumps({**GOOD, "gold": {"texts": [" "]}}), "has no non-empty reference"),
        (json.dumps({**GOOD, "likelihoods": [[-1, 2]]}), "1 likelihoods for 0 candidate answers"),
        (json.dumps(GOOD) + "\n" + json.dumps(GOOD), "the sample 1 of c stands twice"),
    ],
)
def test_bad_files(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    assert message in refused(["score", str(tmp_path / "bad.jsonl")], capsys)


def test_a_missing_file_and_a_protocol_that_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no file of predictions at" in refused(["score", str(tmp_path / "none.jsonl")], capsys)
    line = {**GOOD, "task": "captioning3d"}
    (tmp_path / "c.jsonl").write_text(json.dumps(line) + "\n")
    message = refused(["score", str(tmp_path / "c.jsonl"), "--protocol", "published"], capsys)
    assert "1 of 1 golds name no scene" in message
    assert [one.protocol for one in scores_of([tmp_path / "c.jsonl"])] == ["standard"]
