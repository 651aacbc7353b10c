"""The lines of predictions files: JSON with all that is needed to score answers without a model."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from octavius.evaluation.answers import Answered
from octavius.files import read_text
from octavius.instruction.golds import from_json, to_json
from octavius.instruction.sample import DescribedObject, LabelledBox, Media, Sample
from octavius.suggestions import nearest
from octavius.tasks import TASKS

MOST_DECIMALS = 6


def prediction(item: Answered) -> dict[str, Any]:
    """The content of one line of the predictions file, with all that is needed to score it again.

    A sample that could not be read has an empty prediction, and the reason under `left_out`.
    """
    sample = item.sample
    paths = {name: str(media.path) for name, media in sample.media.items() if media.path is not None}
    return {
        "set": item.set_name,
        "benchmark": sample.benchmark,
        "id": sample.id,
        "task": sample.task,
        "group": sample.group,
        "protocol": sample.protocol,
        "media": paths,
        "question": item.question,
        "prediction": item.text,
        "parsed": _plain(item.value),
        "gold": to_json(sample.gold),
        "gate": item.gate and [round(weight, 4) for weight in item.gate],
        **({"placed": [[name, str(media.path)] for name, media in sample.placed]} if sample.placed else {}),
        **({"decimals": sample.decimals} if sample.decimals != Sample.decimals else {}),
        **({"left_out": item.left_out} if item.left_out else {}),
        **({"gate_text": item.gate_text} if item.gate_text != item.question else {}),
        # Written as they are scored, so that these lines have the scores of the run.
        **({"scores": item.scores} if item.scores else {}),
        **({"likelihoods": item.likelihoods} if item.likelihoods else {}),
    }


def line_of(item: Answered) -> str:
    """The prediction as a line of JSON; falls back to ASCII escapes if a path is not valid Unicode."""
    line = json.dumps(prediction(item), ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(prediction(item))
    return line + "\n"


def _plain(value: Any) -> Any:
    """A parsed value in types that JSON has."""
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, LabelledBox | DescribedObject):
        said = {"label": value.label} if isinstance(value, LabelledBox) else {"texts": list(value.texts)}
        return {**said, "box": [round(number, 4) for number in value.box]}
    return value


def read_predictions(path: Path, cut: bool = False) -> list[Answered]:
    """Reads the answers of a file in order, each parsed under the protocol named in its line.

    Args:
        path: file of JSON lines with set, id, task, gold and prediction; optional are protocol, group, media,
            question, gate, gate_text, scores, likelihoods, decimals and benchmark.
        cut: drop an incomplete last line, which an interrupted run may leave.

    Raises:
        ValueError: a line is malformed, or there is none at all.
    """
    found: list[Answered] = []
    for number, line in _lines(path, cut):
        try:
            found.append(_answered(json.loads(line), len(found)))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: it is not JSON ({error.msg}); a prediction is one line"
            ) from None
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            said = f"the key {error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{path}, line {number}: {said}") from None
    if not found and not cut:
        raise ValueError(f"{path} holds no prediction; expected a line of JSON for each sample")
    return found


def _lines(path: Path, cut: bool) -> Iterator[tuple[int, str]]:
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 at byte {error.start}") from None
    lines = text.split("\n")
    if cut and lines[-1]:
        lines.pop()
    yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _answered(record: Any, index: int) -> Answered:
    if not isinstance(record, dict):
        raise ValueError(f"expected an object, found {record!r:.60}")
    task = str(record["task"])
    if task not in TASKS:
        raise ValueError(
            f"there is no task {task!r}{nearest(str(task), TASKS)}; known are {', '.join(TASKS)}"
        )
    media = {str(name): Media(path=Path(file)) for name, file in record.get("media", {}).items()}
    placed = tuple((str(kind), Media(path=Path(file))) for kind, file in record.get("placed", []))
    name = str(record["set"])
    sample = Sample(
        str(record["id"]),
        task,
        str(record.get("benchmark", name)),
        media,
        str(record.get("question", "")),
        from_json(record["gold"]),
        group=str(record.get("group", "")),
        protocol=str(record.get("protocol", "standard")),
        decimals=_decimals(record.get("decimals", Sample.decimals)),
        placed=placed,
    )
    TASKS[task].check_protocol(sample.protocol)
    if record.get("left_out"):
        return Answered(sample, "", "", None, None, index, left_out=str(record["left_out"]), set_name=name)
    TASKS[task].value(sample)
    likelihoods = _likelihoods(record.get("likelihoods", []))
    if likelihoods and len(likelihoods) != len(TASKS[task].candidates(sample)):
        raise ValueError(
            f"{len(likelihoods)} likelihoods for {len(TASKS[task].candidates(sample))} candidate answers"
        )
    gate = _numbers(record.get("gate") or [], "gate") or None
    scores = _numbers(record.get("scores", []), "scores")
    text = "" if record["prediction"] is None else record["prediction"]
    if not isinstance(text, str):
        raise ValueError(f"the prediction should be a text or null, found {str(text)[:60]!r}")
    # The last token of an answer that was cut off at `max_new_tokens` has no score.
    if scores and not (boxes := text.count("]")) - 1 <= len(scores) <= boxes:
        raise ValueError(
            f"{len(scores)} scores for {boxes} boxes: expected one for each `]` of the prediction, or none"
        )
    value = TASKS[task].scored(text, sample, scores)
    return Answered(
        sample,
        sample.question,
        text,
        value,
        gate,
        index,
        scores,
        likelihoods,
        set_name=name,
        gate_text=str(record.get("gate_text", "")),
    )


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    if not isinstance(value, list) or not all(type(one) in (int, float) for one in value):
        raise ValueError(f"{name} should be a list of numbers, found {value!r:.60}")
    numbers = tuple(map(float, value))
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} should be finite numbers, found {value!r:.60}")
    return numbers


def _likelihoods(value: Any) -> tuple[tuple[float, int], ...]:
    """Pairs of a log-probability and a number of tokens."""
    pairs = value if isinstance(value, list) else [value]
    found = []
    for pair in pairs:
        total, tokens = _numbers(pair, "likelihoods") if isinstance(pair, list) and len(pair) == 2 else (1, 0)
        if total > 0 or tokens < 1 or tokens % 1:
            raise ValueError(
                "each likelihood should be a log-probability, at most 0, and the number of its tokens, 1 or more; "
                f"found {pair!r:.60}"
            )
        found.append((float(total), int(tokens)))
    return tuple(found)


def _decimals(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MOST_DECIMALS:
        raise ValueError(f"decimals should be 1 to {MOST_DECIMALS}, found {value!r:.40}")
    return value


def under(items: Sequence[Answered], protocol: str) -> list[Answered]:
    """The same answers, parsed again under another protocol."""
    found = []
    for item in items:
        sample = replace(item.sample, protocol=protocol)
        value = TASKS[sample.task].scored(item.text, sample, item.scores)
        found.append(replace(item, sample=sample, value=value))
    return found
