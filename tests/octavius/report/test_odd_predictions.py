"""Arbitrary JSON lines in a file of predictions are scored or refused with a message, in little time and memory."""

import json
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavius.cli.reporting import USER_ERRORS
from octavius.evaluation.predictions import read_predictions
from octavius.report.score import scores_of
from octavius.tasks import TASKS

GOLDS: dict[str, dict[str, Any]] = {
    "vqa": {"options": ["red", "blue"], "answer": 1},
    "classification": {"name": "cat", "names": ["cat", "dog"]},
    "captioning": {"texts": ["a cat"], "scene": "s"},
    "vqa3d": {"texts": ["a cat"], "scene": "s"},
    "detection": {"boxes": [{"label": "cat", "box": [0.1, 0.1, 0.5, 0.5], "ignored": False}]},
    "dense_captioning3d": {"described": [{"texts": ["a cat"], "box": [0, 0, 0, 1, 1, 1]}]},
    "found_captioning3d": {
        "found": [0, 0, 0, 1, 1, 1],
        "scene": "s",
        "described": [{"texts": ["a cat"], "box": [0, 0, 0, 1, 1, 1]}],
    },
}


def line(task: str = "vqa", **more: Any) -> dict[str, Any]:
    return {"set": "s", "id": "1", "task": task, "gold": GOLDS[task], "prediction": "blue", **more}


def scored(path: Path, *rows: Any) -> None:
    """Scores a file of these lines; what is refused has to be refused in words."""
    path.write_bytes(
        b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
    )
    with suppress(*USER_ERRORS):
        scores_of([path])


WRONG = {
    "list": [],
    "number": 5,
    "null": None,
    "no task": {"set": "s"},
    "unknown task": line(task="vqa") | {"task": "x"},
    "task list": line() | {"task": ["vqa"]},
    "protocol": line(protocol="mine"),
    "media list": line(media=[1]),
    "media null": line(media=None),
    "media number": line(media={"image": 5}),
    "prediction list": line(prediction=["blue"]),
    "prediction number": line(prediction=1),
    "gold null": line(gold=None),
    "gold list": line(gold=[]),
    "gold empty": line(gold={}),
    "options text": line(gold={"options": "ab", "answer": 0}),
    "options numbers": line(gold={"options": [1, 2], "answer": 0}),
    "answer text": line(gold={"options": ["a", "b"], "answer": "1"}),
    "answer float": line(gold={"options": ["a", "b"], "answer": 0.5}),
    "answer true": line(gold={"options": ["a", "b"], "answer": True}),
    "answer far": line(gold={"options": ["a", "b"], "answer": 10**400}),
    "names nested": line("classification", gold={"name": "cat", "names": [["cat"]]}),
    "box short": line("detection", gold={"boxes": [{"label": "a", "box": [0, 0, 1]}]}),
    "box text": line("detection", gold={"boxes": [{"label": "a", "box": ["0", "0", "1", "1"]}]}),
    "box far": line("detection", gold={"boxes": [{"label": "a", "box": [0, 0, 10**400, 1]}]}),
    "ignored text": line("detection", gold={"boxes": [{"label": "a", "box": [0, 0, 1, 1], "ignored": "0"}]}),
    "no description": line(
        "dense_captioning3d", gold={"described": [{"texts": [], "box": [0, 0, 0, 1, 1, 1]}]}
    ),
    "scores text": line("detection", scores=["x"]),
    "scores far": line("detection", scores=[10**400]),
    "scores number": line("detection", scores=5),
    "likelihoods": line(likelihoods=[[1]]),
    "likelihoods zero": line(likelihoods=[[-1.0, 0], [-1.0, 0]]),
    "likelihoods few": line(likelihoods=[[-1.0, 1]]),
    "gate text": line(gate="ab"),
    "decimals": line(decimals="2"),
    "not json": b"{",
    "nan score": json.dumps(line("detection", scores=[float("nan")])).encode(),
    "deep": b"[" * 100_000,
    "long number": b'{"set": ' + b"9" * 5000 + b"}",
    "not utf-8": b'{"set": "\xff"}',
    "nul": b"\0",
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    row = WRONG[case]
    body = row if isinstance(row, bytes) else json.dumps(row).encode()
    (tmp_path / "a.jsonl").write_bytes(json.dumps(line(id="0")).encode() + b"\n" + body + b"\n")
    with pytest.raises(USER_ERRORS, match=r"a\.jsonl"):
        scores_of([tmp_path / "a.jsonl"])


TEXTS = (
    "",
    "\ud800",
    "\0",
    "x" * 1000,
    "[" * 1000,
    "cat [0,0,1,1]" * 50,
    "9" * 400,
    f"cat [{'9' * 400},0,1,1]",
)


@pytest.mark.parametrize("task", GOLDS)
@pytest.mark.parametrize("text", TEXTS)
def test_any_answer_is_scored(tmp_path: Path, task: str, text: str) -> None:
    scored(tmp_path / "a.jsonl", line(task, prediction=text), line(task, prediction=text, id="2"))
    assert len(read_predictions(tmp_path / "a.jsonl")) == 2


LEAVES = st.sampled_from([10**400, "1", "cat"]) | st.none() | st.booleans() | st.floats() | st.integers()
ANYTHING = st.recursive(
    LEAVES | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A good line in which some values, at any depth, are replaced or taken away."""
    more = {"scores": [0.5], "gate": [0.5, 0.5], "media": {"image": "x"}}
    row = json.loads(json.dumps(line(draw(st.sampled_from(sorted(GOLDS))), **more)))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = row
        while True:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            inner = place[key]
            if isinstance(inner, dict | list) and inner and draw(st.booleans()):
                place = inner
                continue
            place[key] = draw(ANYTHING)
            break
    return row


@pytest.mark.slow
@settings(max_examples=3000, deadline=20_000, suppress_health_check=list(HealthCheck))
@given(st.lists(damaged() | ANYTHING, min_size=1, max_size=3))
def test_no_line_ends_in_a_stack_trace(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.jsonl"
    scored(path, *rows)


MEGABYTE = 1_000_000
LARGE = {
    "one word": "a",
    "words": "cat ",
    "numbers": "1 ",
    "boxes": "cat [0.1, 0.1, 0.5, 0.5], ",
    "boxes in space": "a cat [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]; ",
    "brackets": "[",
    "letters": "(A) ",
    "sentences": "The answer is A. ",
    "objects": "The cat object is classified as cat within [0.1, 0.1, 0.5, 0.5]. ",
    "line breaks": "\n",
    "answers": "\nAnswer: ",
    "zeros": "0",
    "dots": ".",
}


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("part", LARGE)
def test_a_megabyte_of_anything_ends_soon(tmp_path: Path, task: str, part: str) -> None:
    """A file of two answers, a megabyte in all, within a minute and two gigabytes."""
    golds = GOLDS | {
        "conversation": GOLDS["captioning"],
        "captioning3d": GOLDS["captioning"],
        "facial_attributes": GOLDS["classification"],
        "classification3d": GOLDS["classification"],
    }
    text = LARGE[part] * (MEGABYTE // 2 // len(LARGE[part]))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    row = {"set": "s", "id": "1", "task": task, "gold": golds[task], "prediction": text}
    scored(tmp_path / "a.jsonl", row, row | {"id": "2", "media": {"image": "y"}})
    assert time.process_time() - start < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20
