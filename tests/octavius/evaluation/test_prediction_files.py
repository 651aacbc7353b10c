"""Predictions files hold the answers to the last digit; damaged lines of an interrupted run are removed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.evaluation.answers import Answered
from octavius.evaluation.prediction_files import (
    PARTS,
    PredictionFiles,
    drop_incomplete_lines,
    write_predictions,
)
from octavius.evaluation.predictions import read_predictions
from octavius.tasks import TASKS
from tests.octavius.callbacks.fake_module import answered, captions, detections, in_set, questions

WHOLE = [b'{"id": "1"}\n', b'{"id": "2"}\n']


@pytest.mark.parametrize(
    "damage",
    [
        b'{"id": "3',
        b"\0" * 4096,
        b"\0" * 10 + b"\n",
        b'{"id": \xff"3"}\n',
        b"[" * 100_000 + b"\n",
        b"5\n",
        b"\n",
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_damaged_lines_go_and_whole_ones_stay(tmp_path: Path, damage: bytes, place: int) -> None:
    lines = list(WHOLE)
    lines.insert(place, damage if damage.endswith(b"\n") or place == 2 else damage + b"\n")
    (tmp_path / "a.part").write_bytes(b"".join(lines))
    drop_incomplete_lines(tmp_path / "a.part")
    assert (tmp_path / "a.part").read_bytes() == b"".join(WHOLE)


def test_a_whole_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.part"
    path.write_bytes(b"".join(WHOLE))
    before = path.stat()
    drop_incomplete_lines(path)
    assert path.stat() == before


finite = st.floats(-100, 0)


@given(
    st.lists(finite, max_size=3),
    st.lists(st.tuples(finite, st.integers(1, 9)), min_size=3, max_size=3),
    st.text(),
)
def test_a_line_gives_back_the_answer(
    tmp_path_factory: pytest.TempPathFactory,
    scores: list[float],
    likelihoods: list[tuple[float, int]],
    text: str,
) -> None:
    """To the last digit: the order of boxes and of candidates depends on it."""
    text = text.replace("]", "") + "]" * len(scores)
    one, box = questions(1)[0], detections(1)[0]
    items = [
        Answered(
            one,
            "Which?",
            text,
            TASKS["vqa"].parse(text, one),
            (0.25, 0.75),
            likelihoods=tuple(likelihoods),
            set_name="a/b",
            gate_text="What was the first?",
        ),
        Answered(
            box, "Where?", text, TASKS["detection"].scored(text, box, tuple(scores)), None, 1, tuple(scores)
        ),
    ]
    path = tmp_path_factory.mktemp("predictions") / "a.jsonl"
    write_predictions(path, items)
    again = read_predictions(path)
    asked = [replace(item, sample=replace(item.sample, question=item.question)) for item in items]
    assert again == asked


def test_parts_of_two_ranks_become_one_file_in_the_order_of_the_data(tmp_path: Path) -> None:
    """One answer is in the parts of both ranks, as a sampler repeats a sample to fill its last round."""
    items = answered(in_set("a/b", questions(4))) + answered(in_set("a", captions(2)))
    files = PredictionFiles(tmp_path)
    files.append(items[::2], 0)
    files.append([replace(items[0], text="later"), *items[1::2]], 1)
    assert files.has("a")
    assert not files.has("a/c")
    found = files.read(["a/b", "a"])
    assert {item.key: item.text for item in found} == {item.key: item.text for item in items}
    files.finish(items[:4])
    assert [item.sample.id for item in read_predictions(tmp_path / "a.b.jsonl")] == ["q0", "q1", "q2", "q3"]
    assert sorted(part.name for part in (tmp_path / PARTS).iterdir()) == ["a.0.part", "a.1.part"]
    files.finish(items[4:])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.b.jsonl", "a.jsonl"]
    assert len(files.read(["a/b", "a"])) == 6


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"scores": [-1.0, -2.0, -3.0]}, "3 scores for 2 boxes"),
        (
            {"prediction": "a [0, 0, 1, 1], b [0, 0, 1, 1], c [0, 0, 1, 1]", "scores": [-1.0]},
            "1 scores for 3 boxes",
        ),
        ({"scores": "12"}, "scores should be a list of numbers"),
        ({"scores": ["1", "2"]}, "scores should be a list of numbers"),
        ({"gate": "12"}, "gate should be a list of numbers"),
        ({"gate": [float("nan"), 1.0]}, "gate should be finite"),
        ({"decimals": True}, "decimals should be"),
    ],
)
def test_numbers_of_another_count_or_type_are_refused(
    tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    box = detections(1)[0]
    path = tmp_path / "a.jsonl"
    text = "a [0.1, 0.1, 0.5, 0.5], b [0.1, 0.1, 0.5, 0.5]"
    write_predictions(path, [Answered(box, "Where?", text, (), (0.5, 0.5), 0, (-1.0, -2.0))])
    path.write_text(json.dumps(json.loads(path.read_text()) | more) + "\n")
    with pytest.raises(ValueError, match=f"line 1: {said}"):
        read_predictions(path)


@pytest.mark.parametrize(
    "likely", [[[0.5, 1]], [[-1.0, 1.9]], [[-1.0, 0]], [["-1", 1]], ["12"], "12", [[-1.0]]]
)
def test_likelihoods_are_log_probabilities_and_counts(tmp_path: Path, likely: Any) -> None:
    one, path = questions(1)[0], tmp_path / "a.jsonl"
    write_predictions(path, [Answered(one, "Which?", "x", None, None, 0)])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"likelihoods": likely}) + "\n")
    with pytest.raises(ValueError, match=r"line 1: (each likelihood|likelihoods) should be"):
        read_predictions(path)


def test_a_box_that_was_cut_off_ranks_last() -> None:
    box = detections(1)[0]
    text = "a [0.1, 0.1, 0.5, 0.5], b [0.1, 0.1, 0.5, 0.5], c [0.1, 0.1, 0.5, 0.5]"
    assert [one.score for one in TASKS["detection"].scored(text, box, (-3.0, -2.0))] == [-3.0, -2.0, -3.0]
