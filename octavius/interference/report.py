"""Measures and writes the report of `octavius interference` about a checkpoint, without training.

| file | content |
| --- | --- |
| `gradients.csv` | cosine of each pair of tasks' gradients in each adapted layer |
| `routing.csv` | by task: samples, mean weight of each expert, and the measures of `routing_table` |
| `experts.csv` | answer loss by task with the gate's weights, without expert e, with expert e alone |
| `similarity.csv` | cosine of the experts' updates B A in each layer |
| `interference.png` | figure of all of it |
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from octavius.callbacks.board import save
from octavius.display import csv_cell
from octavius.files import atomic_write
from octavius.instruction.batch import Batch, Processor
from octavius.instruction.sample import Sample
from octavius.interference.experts import Change, losses_with, only, similarity, weights_of, without
from octavius.interference.figure import draw
from octavius.interference.gradients import cosines, gradients_of
from octavius.lora_moe.gates.base import Gate
from octavius.options import OptionParser
from octavius.tasks import TASKS
from octavius.training import OctaviusModule


def parser() -> OptionParser:
    """The options of the command itself; all others are passed on as for `octavius fit`."""
    option_parser = OptionParser(
        prog="octavius interference",
        description="Measure a checkpoint without training: gradients of the tasks on the adapters, what the gate "
        "chooses, and what each expert is for. Works for a plain LoRA too.",
    )
    option_parser.add_argument(
        "--samples", type=int, default=32, help="samples of each training set (default: 32)"
    )
    option_parser.add_argument(
        "--out", type=Path, default=Path("runs/interference"), help="folder of the figure and the tables"
    )
    return option_parser


class Sets(Protocol):
    """What `measure` needs of a data module."""

    def train_sets(self) -> Sequence[Any]:
        """The training sets, with their `samples`."""
        ...

    def prepare_data(self) -> None:
        """Creates files that are missing."""
        ...


@dataclass(frozen=True)
class Measurements:
    """What `measure` returns.

    Attributes:
        gradients: see `cosines`.
        routing: one row per task; empty without a gate.
        experts: one row per task, one column per change of the weights; empty without a gate.
        similarity: see `experts.similarity`.
    """

    gradients: pd.DataFrame
    routing: pd.DataFrame
    experts: pd.DataFrame
    similarity: pd.DataFrame


def measure(module: OctaviusModule, data: Sets, samples: int, batch_size: int = 8) -> Measurements:
    """Measures a model on samples of each training set.

    Args:
        module: the model.
        data: its data module.
        samples: number of samples per training set, evenly spaced.
        batch_size: number of samples per batch.

    Raises:
        ValueError: the model has no adapters, or `samples` is less than one.
    """
    if module.model.lora is None:
        raise ValueError(
            "this model was trained without `lora`: it has no adapters whose gradients could be measured"
        )
    if samples < 1:
        raise ValueError(f"--samples {samples}: at least one sample of each training set is needed")
    data.prepare_data()
    sources = named_sources(data, samples)
    processor, device = module.processor, module.device
    module.model.prepare(lambda: [sample for group in sources.values() for sample in group], device)
    batches = {
        name: [batch.to(device) for batch in answered(held, processor, batch_size)]
        for name, held in sources.items()
    }
    gradients = cosines({name: gradients_of(module.model, group) for name, group in batches.items()})
    gate = module.model.gate
    if gate is None:
        return Measurements(gradients, pd.DataFrame(), pd.DataFrame(), similarity(module.model))
    weights = {name: weights_of(module.model, group) for name, group in batches.items()}
    paraphrased = {
        name: weights_of(
            module.model,
            [batch.to(device) for batch in answered(held, processor, batch_size, unseen=True)],
        )
        for name, held in sources.items()
    }
    return Measurements(
        gradients,
        routing_table(weights, paraphrased),
        expert_table(module, batches, gate),
        similarity(module.model),
    )


def named_sources(data: Sets, samples: int) -> dict[str, list[Sample]]:
    """Samples of each training set, under a unique name."""
    held = [
        [item.samples[index * len(item.samples) // count] for index in range(count)]
        for item in data.train_sets()
        if (count := min(samples, len(item.samples)))
    ]
    tasks = [group[0].task for group in held]
    found: dict[str, list[Sample]] = {}
    for task, group in zip(tasks, held, strict=True):
        name = task if tasks.count(task) == 1 else group[0].benchmark
        found[name if name not in found else f"{name} ({len(found)})"] = group
    return found


def answered(
    samples: Sequence[Sample], processor: Processor, batch_size: int, unseen: bool = False
) -> Iterator[Batch]:
    """Batches with true answers; `unseen` phrases questions in ways not used in training, if the task has any."""
    for start in range(0, len(samples), batch_size):
        examples = []
        for sample in samples[start : start + batch_size]:
            task, rng = TASKS[sample.task], random.Random(f"interference/{sample.id}")
            examples.append(
                processor.build_example(sample, task.question(sample, rng, unseen), task.answer(sample, rng))
            )
        yield processor.collate(examples)


def routing_table(weights: Mapping[str, Tensor], paraphrased: Mapping[str, Tensor]) -> pd.DataFrame:
    """By task: mean weights, entropy in nats, margin, and how often a paraphrase keeps the top expert.

    The margin is the mean difference between the largest and the second largest weight.

    The column `mutual_information` holds in each row the mutual information of task and expert in nats, with all
    tasks weighted equally: the entropy of the mean weights minus the mean of the tasks' entropies.
    """
    rows = {}
    for task, table in weights.items():
        best = table.topk(min(2, table.shape[1]), dim=1).values
        margin = best[:, 0] - best[:, 1] if best.shape[1] > 1 else best[:, 0]
        rows[task] = {
            "samples": len(table),
            **{f"expert_{expert}": float(weight) for expert, weight in enumerate(table.mean(0))},
            "entropy": float(entropy(table).mean()),
            "margin": float(margin.mean()),
            "stable_under_paraphrase": float((table.argmax(1) == paraphrased[task].argmax(1)).float().mean()),
        }
    means = torch.stack([table.mean(0) for table in weights.values()])
    shared = float(entropy(means.mean(0)) - entropy(means).mean())
    return pd.DataFrame.from_dict(rows, orient="index").assign(mutual_information=shared).rename_axis("task")


def entropy(weights: Tensor) -> Tensor:
    """Entropy in nats over the last axis of weights (..., E), which are normalised first."""
    return torch.special.entr(weights / weights.sum(-1, keepdim=True)).sum(-1)


def expert_table(module: OctaviusModule, batches: Mapping[str, Sequence[Batch]], gate: Gate) -> pd.DataFrame:
    """Mean answer loss by task: with the gate's weights, without each expert, with each alone.

    Empty if the gate decides for each layer (`per_layer`), where expert e is another one in each.
    """
    if gate.per_layer:
        return pd.DataFrame()
    changes: dict[str, Change | None] = {"routed": None}
    changes |= {f"without_{expert}": without(expert) for expert in range(gate.counts[0])}
    changes |= {f"only_{expert}": only(expert) for expert in range(gate.counts[0])}
    return pd.DataFrame(
        {
            name: {
                task: float(losses_with(module.model, group, change).mean())
                for task, group in batches.items()
            }
            for name, change in changes.items()
        }
    ).rename_axis("task")


def write(found: Measurements, out: Path, title: str) -> str:
    """Writes the tables and the figure, and returns a summary to print."""
    tables = {"gradients": found.gradients, "similarity": found.similarity}
    tables |= {"routing": found.routing, "experts": found.experts}
    for name, table in tables.items():
        if not table.empty:
            with atomic_write(out / f"{name}.csv") as partial:
                table.rename(index=csv_cell).to_csv(
                    partial, index=table.index.name is not None, float_format="%.6f"
                )
    with atomic_write(out / "interference.png") as partial:
        save(draw(found.gradients, found.routing, found.experts, found.similarity, title), partial)
    return summary(found)


def summary(found: Measurements) -> str:
    """The main results in a few lines."""
    pairs = found.gradients.groupby(["task", "other"])["cosine"].mean().dropna()
    lines = []
    if not pairs.empty:
        share = (found.gradients["cosine"].dropna() < 0).mean()
        worst = cast(tuple[str, str], pairs.idxmin())
        lines.append(f"gradients against each other: {share:.0%} of the pairs of tasks over all layers")
        lines.append(f"most against each other: {worst[0]} and {worst[1]}, mean cosine {pairs.min():.3f}")
    if not found.routing.empty:
        columns = [name for name in found.routing.columns if name.startswith("expert_")]
        idle = [name.removeprefix("expert_") for name in columns if (found.routing[name] < 0.01).all()]
        most = np.log(min(len(columns), len(found.routing)))
        lines.append(
            f"mutual information of task and expert: {found.routing['mutual_information'].iloc[0]:.2f} of at most "
            f"{most:.2f} nats; "
            f"idle experts: {', '.join(idle) or 'none'}"
        )
    return "\n".join(lines)
