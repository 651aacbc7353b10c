"""Scores of every evaluation set and group, what chance would reach, and the printed table of both."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torchmetrics import MetricCollection

from octavius.callbacks.scoring.answers import Answered
from octavius.display import visible
from octavius.instruction.sample import Sample
from octavius.metrics import PROTOCOLS, Accuracy
from octavius.metrics.reporting import columns
from octavius.metrics.resampling import intervals
from octavius.tasks import TASKS
from octavius.tasks.vqa import exact_option

NOTES = {
    "map50": (
        "map50 takes boxes of equal score at once, map50_devkit (in the files) in their order, as VOC's devkit does"
    ),
    "map_coco_limit": (
        "map_coco_limit is what the right answers reach, whose boxes are rounded (`box_decimals` of the data)"
    ),
}
"""What stands below a table with these columns."""

UNSHOWN = frozenset({"acc1_exact"})
"""Keys of `readings` that are logged and not in the table."""


def score(answers: Sequence[Answered]) -> dict[str, dict[str, float]]:
    """Metrics of every row of the table, and what right answers reach of those that rounding limits."""
    return {name: score_set(items) | limits(items) for name, items in rows(answers).items()}


def score_set(items: Sequence[Answered]) -> dict[str, float]:
    """Metrics of answers to one task, by the protocol of their samples; `readings` are scored too."""
    sample = items[0].sample
    golds: list[Any] = [item.sample.gold for item in items]
    scores = computed(TASKS[sample.task].metrics(sample.protocol), [item.value for item in items], golds)
    for key, values in readings(items).items():
        scores[key] = computed(MetricCollection([Accuracy()]), values, golds)["acc1"]
    return scores


def limits(items: Sequence[Answered]) -> dict[str, float]:
    """What the right answers of a set reach themselves where they say numbers rounded, as `<metric>_limit`."""
    sample = items[0].sample
    task, found = TASKS[sample.task], dict[str, float]()
    for metric in task.metrics(sample.protocol).values():
        if keys := set(columns(metric) or ()) & set(task.limited):
            texts = [task.answer(item.sample, random.Random(0)) for item in items]
            values = [task.parse(text, item.sample) for text, item in zip(texts, items, strict=True)]
            reached = computed(MetricCollection([metric]), values, [item.sample.gold for item in items])
            found |= {f"{key}_limit": reached[key] for key in sorted(keys)}
    return found


def computed(metrics: MetricCollection, predictions: Sequence[Any], golds: Sequence[Any]) -> dict[str, float]:
    """Values of fresh metrics on this process alone, which holds all answers already."""
    for metric in metrics.values():
        metric.distributed_available_fn = alone
    metrics.update(predictions, golds)
    return {key: float(value) for key, value in metrics.compute().items()}


def readings(items: Sequence[Answered]) -> dict[str, list[Any]]:
    """Values under the standard protocol of other readings of the same answers, by the key of their accuracy.

    acc1_exact: an option that the text is, letter by letter, where `acc1` also takes one that it names or holds.
    acc1_likelihood: the candidate answer whose tokens have the largest mean log-probability.
    """
    found: dict[str, list[Any]] = {}
    if items[0].sample.protocol != "standard":
        return found
    if items[0].sample.task == "vqa" and any(item.text for item in items):
        found["acc1_exact"] = [exact_option(item.text, item.sample) for item in items]
    if all(item.likelihoods for item in items):
        found["acc1_likelihood"] = [likeliest(item) for item in items]
    return found


def likeliest(item: Answered) -> Any:
    """The value of the candidate answer whose tokens have the largest mean log-probability."""
    means = [total / tokens for total, tokens in item.likelihoods]
    return TASKS[item.sample.task].chosen(means.index(max(means)), item.sample)


def set_intervals(items: Sequence[Answered]) -> dict[str, tuple[float, float]]:
    """The 95 % interval of every score of `score_set`, by bootstrap over media files (images, scenes)."""
    sample = items[0].sample
    metrics = [*TASKS[sample.task].metrics(sample.protocol).values()]
    golds = [item.sample.gold for item in items]
    units = [unit(item.sample) for item in items]
    found = intervals(metrics, [item.value for item in items], golds, units)
    for key, values in readings(items).items():
        if pair := intervals([Accuracy()], values, golds, units).get("acc1"):
            found[key] = pair
    return found


def unit(sample: Sample) -> str:
    """What is drawn as one: the file of its media, and where there is none the sample."""
    paths = [str(media.path) for media in sample.media.values() if media.path is not None]
    return "|".join(paths) or sample.id


def alone() -> bool:
    """That there are no other processes, whatever there are: the metrics must not add theirs."""
    return False


def sets(answers: Sequence[Answered]) -> dict[str, list[Answered]]:
    """Answers by evaluation set: `set`, or `set/task` where one set mixes tasks."""
    tasks: dict[str, set[str]] = {}
    for item in answers:
        tasks.setdefault(item.sample.benchmark, set()).add(item.sample.task)
    found: dict[str, list[Answered]] = {}
    for item in answers:
        sample = item.sample
        name = sample.benchmark if len(tasks[sample.benchmark]) == 1 else f"{sample.benchmark}/{sample.task}"
        found.setdefault(name, []).append(item)
    return found


def rows(answers: Sequence[Answered]) -> dict[str, list[Answered]]:
    """Answers by set, and by group in it (`set/group`)."""
    return {row: part for name, items in sets(answers).items() for row, part in groups(name, items).items()}


def groups(name: str, items: Sequence[Answered]) -> dict[str, list[Answered]]:
    """The answers of one set under its name, and those of its groups under theirs."""
    found: dict[str, list[Answered]] = {}
    for item in items:
        found.setdefault(name, []).append(item)
        if item.sample.group:
            found.setdefault(f"{name}/{visible(item.sample.group, 100)}", []).append(item)
    return found


def chance(answers: Sequence[Answered]) -> dict[str, dict[str, float]]:
    """The same metrics when every sample is given the true answer of another one of its set and task.

    A set of one sample has no other; it is not in the result.
    """
    guesses = [groups(name, swapped(items)) for name, items in sets(answers).items()]
    return {row: score_set(part) for parts in guesses for row, part in parts.items()}


def swapped(items: Sequence[Answered]) -> list[Answered]:
    """Samples of one set and task, each with the true answer of another; none where there is no other.

    Who gets whose answer is drawn by chance, and does not hang on the order of the samples.
    """
    if len(items) < 2:
        return []
    named = sorted(range(len(items)), key=lambda place: items[place].sample.id)
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(0)).tolist()
    given = {named[one]: named[order[(turn + 1) % len(order)]] for turn, one in enumerate(order)}
    return [
        replace(item, text="", value=TASKS[item.sample.task].one_value(items[given[place]].sample), gate=None)
        for place, item in enumerate(items)
    ]


def shown(items: Sequence[Answered], scores: Mapping[str, float]) -> list[str]:
    """Keys of the scores of one set that its table shows: the columns of its task's metrics, then other readings.

    A metric that does not say which of its keys are shown has all of them shown.
    """
    sample, keys = items[0].sample, list[str]()
    for metric in TASKS[sample.task].metrics(sample.protocol).values():
        said = columns(metric)
        if said is None:
            golds = [item.sample.gold for item in items]
            said = tuple(computed(MetricCollection([metric]), [item.value for item in items], golds))
        keys += said
    keys += [f"{key}_limit" for key in TASKS[sample.task].limited]
    keys += [key for key in readings(items) if key not in UNSHOWN]
    return [key for key in keys if key in scores]


def tabulate(
    answers: Sequence[Answered],
    scores: dict[str, dict[str, float]],
    between: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
) -> pd.DataFrame:
    """One row a set (and group) with its protocol and `score [interval] (chance)` in the columns of its metrics."""
    guesses = chance(answers)
    lines = {}
    for name, items in sorted(rows(answers).items()):
        cells = {
            key: _cell(
                scores[name][key],
                guesses.get(name, {}).get(key),
                (between or {}).get(name, {}).get(key),
            )
            for key in shown(items, scores[name])
        }
        lines[name] = {"samples": len(items), "protocol": items[0].sample.protocol, **cells}
    return pd.DataFrame.from_dict(lines, orient="index").fillna("")


def _cell(score: float, chance: float | None, between: tuple[float, float] | None) -> str:
    interval = "" if between is None else f" [{between[0]:.2f}, {between[1]:.2f}]"
    return f"{score:.3f}{interval} ({'-' if chance is None else format(chance, '.2f')})"


def printed(table: pd.DataFrame) -> str:
    """A table for the screen, in parts: rows of the same metrics stand together, so that none is too wide.

    Below it stands what each protocol but the standard one does, and what is to be known of some columns.
    """
    parts: dict[tuple[str, ...], list[str]] = {}
    for name, row in table.iterrows():
        parts.setdefault(tuple(row.index[row != ""]), []).append(str(name))
    texts = [
        table.loc[names, list(columns)].rename(index=visible).to_string() for columns, names in parts.items()
    ]
    others = [name for name in PROTOCOLS if name != "standard" and (table["protocol"] == name).any()]
    notes = [note for key, note in NOTES.items() if key in table.columns]
    return "\n\n".join([*texts, *(f"protocol {name}: {PROTOCOLS[name]}" for name in others), *notes])
