"""Scores of each evaluation set and group, their chance level, and the printed table."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from octavius.display import visible
from octavius.evaluation.answers import Answered
from octavius.instruction.sample import Sample
from octavius.metrics import PROTOCOLS, Accuracy, Metric
from octavius.metrics.reporting import columns, headline, measured
from octavius.metrics.resampling import intervals
from octavius.tasks import TASKS
from octavius.tasks.vqa import exact_option

# Slow to import: `octavius score` does without, and the functions that need it import it.
if TYPE_CHECKING:
    import pandas as pd

BLIND_CEILING = "blind_ceiling"
"""Key of the highest score of a model that ignores the question, which some evaluation sets know."""

NOTES = {
    "map50": (
        "map50 takes boxes of equal score at once, map50_devkit (in the files) in their order, as VOC's devkit does"
    ),
    BLIND_CEILING: "blind_ceiling is the highest score of a model that ignores the question",
    "map_coco_limit": (
        "map_coco_limit is what the right answers reach, whose boxes are rounded (`box_decimals` of the data)"
    ),
}
"""Notes printed below a table that has these columns."""

UNSHOWN = frozenset({"acc1_exact"})
"""Keys of `readings` that are logged but not shown in the table."""


def score(answers: Sequence[Answered]) -> dict[str, dict[str, float]]:
    """Metrics of every row of the table, including the `_limit` metrics."""
    return {name: score_set(items) | limits(items) for name, items in rows(answers).items()}


def score_set(items: Sequence[Answered]) -> dict[str, float]:
    """Metrics of answers to one task under the protocol of their samples, including alternative `readings`."""
    sample = items[0].sample
    golds: list[Any] = [item.sample.gold for item in items]
    scores = computed(TASKS[sample.task].metrics(sample.protocol), [item.value for item in items], golds)
    for key, values in readings(items).items():
        scores[key] = measured(Accuracy(), values, golds)["acc1"]
    return scores


def limits(items: Sequence[Answered]) -> dict[str, float]:
    """Upper bounds `<metric>_limit`: the scores of the true answers, whose numbers are rounded in text."""
    sample = items[0].sample
    task, found = TASKS[sample.task], dict[str, float]()
    for metric in task.metrics(sample.protocol):
        if keys := set(columns(metric) or ()) & set(task.limited):
            texts = [task.answer(item.sample, random.Random(0)) for item in items]
            values = [task.parse(text, item.sample) for text, item in zip(texts, items, strict=True)]
            reached = measured(metric, values, [item.sample.gold for item in items])
            found |= {f"{key}_limit": reached[key] for key in sorted(keys)}
    return found


def computed(metrics: Sequence[Metric], predictions: Sequence[Any], golds: Sequence[Any]) -> dict[str, float]:
    """The values of several metrics by key, computed on this rank alone since each rank has all answers."""
    return {key: value for one in metrics for key, value in measured(one, predictions, golds).items()}


def readings(items: Sequence[Answered]) -> dict[str, list[Any]]:
    """Alternative values of the same answers under the standard protocol, by key of their accuracy.

    acc1_exact: the option that equals the text exactly, while `acc1` also accepts text that names or contains
    one.
    acc1_likelihood: the candidate answer whose tokens have the highest mean log-probability.
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
    """The value of the candidate answer whose tokens have the highest mean log-probability."""
    means = [total / tokens for total, tokens in item.likelihoods]
    return TASKS[item.sample.task].chosen(means.index(max(means)), item.sample)


def set_intervals(items: Sequence[Answered]) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of every score of `score_set`, resampling media files (images, scenes)."""
    sample = items[0].sample
    metrics = TASKS[sample.task].metrics(sample.protocol)
    golds = [item.sample.gold for item in items]
    units = [unit(item.sample) for item in items]
    found = intervals(metrics, [item.value for item in items], golds, units)
    for key, values in readings(items).items():
        if pair := intervals([Accuracy()], values, golds, units).get("acc1"):
            found[key] = pair
    return found


def unit(sample: Sample) -> str:
    """The bootstrap unit of a sample: its media files, or the sample itself if it has none."""
    paths = [str(media.path) for _, media in sample.all_media if media.path is not None]
    return "|".join(paths) or sample.id


def sets(answers: Sequence[Answered]) -> dict[str, list[Answered]]:
    """Answers by evaluation set: `set`, or `set/task` if a set mixes tasks."""
    tasks: dict[str, set[str]] = {}
    for item in answers:
        tasks.setdefault(item.set_name, set()).add(item.sample.task)
    found: dict[str, list[Answered]] = {}
    for item in answers:
        sample = item.sample
        name = item.set_name if len(tasks[item.set_name]) == 1 else f"{item.set_name}/{sample.task}"
        found.setdefault(name, []).append(item)
    return found


def rows(answers: Sequence[Answered]) -> dict[str, list[Answered]]:
    """Answers by set, and by group within it (`set/group`)."""
    return {row: part for name, items in sets(answers).items() for row, part in groups(name, items).items()}


def groups(name: str, items: Sequence[Answered]) -> dict[str, list[Answered]]:
    """The answers of one set under its name, and those of each of its groups."""
    found: dict[str, list[Answered]] = {}
    for item in items:
        found.setdefault(name, []).append(item)
        if item.sample.group:
            found.setdefault(f"{name}/{visible(item.sample.group, 100)}", []).append(item)
    return found


def chance(answers: Sequence[Answered]) -> dict[str, dict[str, float]]:
    """The metrics if every sample gets the true answer of another sample of its set and task.

    Sets with one sample are omitted.
    """
    guesses = [groups(name, swapped(items)) for name, items in sets(answers).items()]
    return {row: score_set(part) for parts in guesses for row, part in parts.items()}


def swapped(items: Sequence[Answered]) -> list[Answered]:
    """The samples of one set and task, each with the true answer of another; empty if there is only one.

    The assignment is a fixed random cycle over the sample ids, independent of the order of the samples.
    """
    import torch  # whose random permutation decides the level

    if len(items) < 2:
        return []
    named = sorted(range(len(items)), key=lambda index: items[index].sample.id)
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(0)).tolist()
    given = {named[one]: named[order[(turn + 1) % len(order)]] for turn, one in enumerate(order)}
    return [
        replace(item, text="", value=TASKS[item.sample.task].one_value(items[given[index]].sample), gate=None)
        for index, item in enumerate(items)
    ]


def shown(items: Sequence[Answered], scores: Mapping[str, float]) -> list[str]:
    """Keys of a set's scores to show in the table: the columns of its task's metrics, then alternative readings.

    A metric that does not declare its columns has all its keys shown.
    """
    sample, keys = items[0].sample, list[str]()
    for metric in TASKS[sample.task].metrics(sample.protocol):
        said = columns(metric)
        if said is None:
            golds = [item.sample.gold for item in items]
            said = tuple(measured(metric, [item.value for item in items], golds))
        keys += said
    keys += [f"{key}_limit" for key in TASKS[sample.task].limited]
    keys += [key for key in readings(items) if key not in UNSHOWN]
    keys += [BLIND_CEILING]
    return [key for key in keys if key in scores]


def tabulate(
    answers: Sequence[Answered],
    scores: Mapping[str, Mapping[str, float]],
    guesses: Mapping[str, Mapping[str, float]],
    between: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
) -> pd.DataFrame:
    """One row per set and group: its protocol and, for each metric, `score [interval] (chance)`.

    Args:
        answers: answers of all sets.
        scores: metrics of each row, see `score`.
        guesses: metrics by chance, see `chance`.
        between: intervals, see `set_intervals`.
    """
    import pandas as pd

    lines = {}
    for name, items in sorted(rows(answers).items()):
        cells = {
            key: f"{scores[name][key]:.3f}"
            if key == BLIND_CEILING
            else _cell(
                scores[name][key],
                guesses.get(name, {}).get(key),
                (between or {}).get(name, {}).get(key),
            )
            for key in shown(items, scores[name])
        }
        lines[name] = {"samples": len(items), "protocol": items[0].sample.protocol, **cells}
    return pd.DataFrame.from_dict(lines, orient="index").fillna("")


def measurements(
    answers: Sequence[Answered],
    scores: Mapping[str, Mapping[str, float]],
    guesses: Mapping[str, Mapping[str, float]],
    between: Mapping[str, Mapping[str, tuple[float, float]]],
) -> list[dict[str, Any]]:
    """Every score as numbers, with the fields of `octavius.runs.history.Measurement`; arguments of `tabulate`."""
    found = []
    for name, items in sorted(rows(answers).items()):
        sample = items[0].sample
        first = headline_of(sample.task, sample.protocol, scores[name])
        for metric, value in scores[name].items():
            low, high = between.get(name, {}).get(metric, (None, None))
            found.append(
                {
                    "set": name,
                    "task": sample.task,
                    "protocol": sample.protocol,
                    "metric": metric,
                    "headline": metric == first,
                    "samples": len(items),
                    "value": value,
                    "chance": guesses.get(name, {}).get(metric),
                    "low": low,
                    "high": high,
                }
            )
    return found


def headline_of(task: str, protocol: str, scores: Mapping[str, float]) -> str:
    """The key by which a set is compared: the headline of the first of its task's metrics that has one."""
    keys = [headline(metric) for metric in TASKS[task].metrics(protocol)]
    return next((key for key in keys if key in scores and key is not None), next(iter(scores)))


def _cell(score: float, chance: float | None, between: tuple[float, float] | None) -> str:
    interval = "" if between is None else f" [{between[0]:.2f}, {between[1]:.2f}]"
    return f"{score:.3f}{interval} ({'-' if chance is None else format(chance, '.2f')})"


def printed(table: pd.DataFrame) -> str:
    """The table as text in several parts: rows with the same metrics are grouped, which keeps it narrow.

    Notes on non-standard protocols and on some columns follow.
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
