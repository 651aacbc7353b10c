"""Prompts of evaluation sets come in; generated, parsed, scored, logged, tabled and saved answers go out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from torch import distributed

from octavius.callbacks.board import log_folder
from octavius.instruction.batch import Batch
from octavius.instruction.sample import DescribedObject, DescribedObjects, LabelledBox, References, Sample
from octavius.tasks import TASKS

HEADLINE = ("recall50", "precision50", "acc1", "em1", "cider", "cider_at50", "bleu1", "bleu4")
"""The columns of the table; all other metrics are logged too."""


@dataclass(frozen=True)
class Answered:
    """One sample with the model's answer.

    Attributes:
        sample: as it was asked; its benchmark is the name of the evaluation set.
        question: the question text as the model read it.
        text: the model's answer.
        value: what the task parsed from it, None for nothing.
        gate: routing weights of the experts; None without experts.
    """

    sample: Sample
    question: str
    text: str
    value: Any
    gate: tuple[float, ...] | None


class Evaluation(L.Callback):
    """Generates and scores at every validation and test; every sample counts once on any number of processes.

    Callbacks with a method `on_answers(trainer, module, stage, answers)` get all answers on every process.
    """

    def __init__(self, max_new_tokens: int | None = None, num_beams: int = 1) -> None:
        """Sets decoding: greedy by default.

        Args:
            max_new_tokens: longest answer; null takes each task's own limit.
            num_beams: beams of the search; 1 is greedy.
        """
        self.max_new_tokens, self.num_beams = max_new_tokens, num_beams
        self.table: pd.DataFrame | None = None
        self._mine: list[Answered] = []

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Forgets what an evaluation that was cut off left behind."""
        self._mine = []

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Forgets what an evaluation that was cut off left behind."""
        self._mine = []

    def on_validation_batch_end(self, *hook: Any) -> None:
        """Answers one batch."""
        _, module, _, batch, *_ = hook
        self._answer(module, batch)

    def on_test_batch_end(self, *hook: Any) -> None:
        """Answers one batch."""
        _, module, _, batch, *_ = hook
        self._answer(module, batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Scores what was answered."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Scores what was answered."""
        self._finish(trainer, pl_module, "test")

    def _answer(self, module: Any, batch: Batch) -> None:
        limits = [self.max_new_tokens or TASKS[sample.task].max_answer_tokens for sample in batch.samples]
        options = {} if self.num_beams == 1 else {"num_beams": self.num_beams}
        texts, gate = module.answer(batch, limits, **options)
        weights = [None] * len(texts) if gate is None else [tuple(row) for row in gate.float().cpu().tolist()]
        tokenizer = module.processor.prompts.tokenizer
        for row, (sample, text) in enumerate(zip(batch.samples, texts, strict=True)):
            asked = batch.question_ids[row][batch.question_mask[row].bool()].tolist()
            value = TASKS[sample.task].parse(text, sample)
            self._mine.append(Answered(sample, tokenizer.decode(asked), text, value, weights[row]))

    def _finish(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        answers = gather_once(self._mine)
        self._mine = []
        scores = score(answers)
        for name, row in scores.items():
            # The same value everywhere; its mean over all processes keeps Lightning from warning about each.
            module.log_dict({f"{stage}/{name}/{key}": value for key, value in row.items()}, sync_dist=True)
        self.table = tabulate(answers, scores)
        folder = log_folder(trainer)
        if trainer.is_global_zero and not trainer.sanity_checking:
            self._write(trainer, stage, answers, scores, folder)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if hasattr(callback, "on_answers") and not trainer.sanity_checking:
                callback.on_answers(trainer, module, stage, answers)

    def _write(
        self,
        trainer: L.Trainer,
        stage: str,
        answers: Sequence[Answered],
        scores: dict[str, dict[str, float]],
        folder: Path | None,
    ) -> None:
        """Prints the table; writes it as CSV, all scores as JSON and predictions as JSON lines beside the logs."""
        assert self.table is not None
        training = trainer.state.fn == "fit"
        when = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}" if training else stage
        print(f"\n{when}: score (chance: each sample gets another's true answer)")
        print(self.table.to_string(), flush=True)
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.table.to_csv(folder / f"metrics_{stage}.csv")
        (folder / f"metrics_{stage}.json").write_text(json.dumps(scores, indent=1))
        with (folder / f"predictions_{stage}.jsonl").open("w", encoding="utf-8") as file:
            for item in answers:
                file.write(json.dumps(prediction(item), ensure_ascii=False) + "\n")


def gather_once(mine: list[Answered]) -> list[Answered]:
    """The answers of all processes, each (set, sample id) once, in the order that a single process gives."""
    everyone: list[list[Answered]] = [mine]
    if distributed.is_available() and distributed.is_initialized():
        everyone = [[] for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(everyone, mine)
    turns = (item for turn in zip_longest(*everyone) for item in turn if item is not None)
    unique = {(item.sample.benchmark, item.sample.id): item for item in turns}
    order = {name: place for place, name in enumerate(dict.fromkeys(key[0] for key in unique))}
    return [unique[key] for key in sorted(unique, key=lambda key: (order[key[0]], key[1]))]


def score(answers: Sequence[Answered]) -> dict[str, dict[str, float]]:
    """Metrics of every row of the table."""
    return {name: _score_set(items) for name, items in rows(answers).items()}


def rows(answers: Sequence[Answered]) -> dict[str, list[Answered]]:
    """Answers by set (`set`, or `set/task` where one set mixes tasks), and by group in it (`../group`)."""
    tasks: dict[str, set[str]] = {}
    for item in answers:
        tasks.setdefault(item.sample.benchmark, set()).add(item.sample.task)
    found: dict[str, list[Answered]] = {}
    for item in answers:
        sample = item.sample
        name = sample.benchmark if len(tasks[sample.benchmark]) == 1 else f"{sample.benchmark}/{sample.task}"
        found.setdefault(name, []).append(item)
        if sample.group:
            found.setdefault(f"{name}/{sample.group}", []).append(item)
    return found


def chance(answers: Sequence[Answered]) -> dict[str, dict[str, float]]:
    """The same metrics when every sample is given the true answer of another one of its set and task.

    A set of one sample has no other; it is not in the result.
    """
    sets: dict[tuple[str, str], list[Sample]] = {}
    for item in answers:
        sets.setdefault((item.sample.benchmark, item.sample.task), []).append(item.sample)
    shuffled = []
    for samples in (several for several in sets.values() if len(several) > 1):
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)).tolist()
        for place, sample in enumerate(order):
            asked, other = samples[sample], samples[order[(place + 1) % len(order)]]
            shuffled.append(Answered(asked, "", "", one_truth(other), None))
    return score(shuffled)


def one_truth(sample: Sample) -> Any:
    """A sample's gold as one answer says it: the first text where several are right."""
    truth = TASKS[sample.task].value(sample)
    if isinstance(sample.gold, References):
        return truth[0]
    if isinstance(sample.gold, DescribedObjects):
        return tuple(replace(item, texts=item.texts[:1]) for item in truth)
    return truth


def tabulate(answers: Sequence[Answered], scores: dict[str, dict[str, float]]) -> pd.DataFrame:
    """One row a set (and group) with `score (chance)` in the columns of its metrics."""
    guesses = chance(answers)
    counts = {name: len(items) for name, items in rows(answers).items()}
    lines = {}
    for name in sorted(scores):
        cells = {
            key: _cell(scores[name][key], guesses.get(name, {}).get(key)) if key in scores[name] else ""
            for key in HEADLINE
        }
        lines[name] = {"samples": counts[name], **cells}
    table = pd.DataFrame.from_dict(lines, orient="index")
    return table[[column for column in table.columns if column == "samples" or (table[column] != "").any()]]


def _cell(score: float, chance: float | None) -> str:
    return f"{score:.3f} ({'-' if chance is None else format(chance, '.2f')})"


def prediction(item: Answered) -> dict[str, Any]:
    """One line of the predictions file: what was asked, said, parsed and true."""
    sample = item.sample
    paths = {name: str(media.path) for name, media in sample.media.items() if media.path is not None}
    return {
        "set": sample.benchmark,
        "id": sample.id,
        "task": sample.task,
        "group": sample.group,
        "media": paths,
        "question": item.question,
        "prediction": item.text,
        "parsed": _plain(item.value),
        "gold": _plain(TASKS[sample.task].value(sample)),
        "gate": item.gate and [round(weight, 4) for weight in item.gate],
    }


def _score_set(items: Sequence[Answered]) -> dict[str, float]:
    task = TASKS[items[0].sample.task]
    metrics = task.metrics()
    for metric in metrics.values():
        metric.distributed_available_fn = alone  # every process holds all answers already
    metrics.update([item.value for item in items], [item.sample.gold for item in items])
    return {key: float(value) for key, value in metrics.compute().items()}


def alone() -> bool:
    """That there are no other processes, whatever there are: the metrics must not add theirs."""
    return False


def _plain(value: Any) -> Any:
    """A parsed or gold value as JSON can hold it."""
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, LabelledBox | DescribedObject):
        said = {"label": value.label} if isinstance(value, LabelledBox) else {"texts": list(value.texts)}
        return {**said, "box": [round(number, 4) for number in value.box]}
    return value
