"""Blind controls: re-asks a subset of the samples with media masked or shuffled, and compares the scores."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from zlib import crc32

import pandas as pd
import torch
from torch.utils.data import DataLoader

from octavius.evaluation.answers import Answered
from octavius.evaluation.controls import ALL, CONTROLS, Control, majority
from octavius.evaluation.generation import gather_once
from octavius.evaluation.scores import headline_of, score_set, sets, swapped
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Sample

CLOUDS = frozenset({"cloud", "rois"})
"""Modalities of point clouds, whose media are objects with boxes."""


def choose(answers: Sequence[Answered], clouds: bool, limit: int | None) -> dict[str, list[Answered]]:
    """The samples of each set that are asked again, in the order of the data.

    A pseudo-random choice that is the same each time. Taking every n-th sample instead would be biased:
    neighbours often share a scene, and questions may repeat with a period.

    Args:
        answers: answers of all sets.
        clouds: choose among samples with a point cloud only; else among all with any media.
        limit: maximum number per set; None takes all.
    """
    found = {}
    for name, items in sets(answers).items():
        seen = [
            item
            for item in items
            if (CLOUDS & {kind for kind, _ in item.sample.all_media} if clouds else item.sample.all_media)
        ]
        if limit is not None and len(seen) > limit:
            drawn = sorted(
                seen, key=lambda item: (crc32(item.sample.id.encode(errors="surrogatepass")), item.index)
            )[:limit]
            seen = sorted(drawn, key=lambda item: item.index)
        if seen:
            found[name] = seen
    return found


def ask_again(
    chosen: dict[str, list[Answered]],
    controls: Sequence[Control],
    loader: DataLoader[Any],
    answer: Callable[[Batch], list[Answered]],
    device: torch.device | str,
    rank: int = 0,
    world: int = 1,
) -> dict[Control, dict[str, list[Answered]]]:
    """Answers of all ranks under the blind controls, by control and set.

    All ranks run the same number of batches, and the batches do not depend on the number of ranks.

    Args:
        chosen: samples by set.
        controls: controls to run; `box` is skipped for a set without clouds.
        loader: the DataLoader of the evaluation, whose dataset yields the samples again.
        answer: generates the answers to a batch.
        device: device of the model.
        rank: index of this process.
        world: number of processes.
    """
    found: dict[Control, dict[str, list[Answered]]] = {name: {} for name in controls if name in CONTROLS}
    for set_name, items in chosen.items():
        clouds = any(CLOUDS & {kind for kind, _ in item.sample.all_media} for item in items)
        wanted = [name for name in found if clouds or name != "box"]
        mine: dict[Control, list[Answered]] = {name: [] for name in wanted}
        batches = dealt(items, loader.batch_size or 1)
        # Surplus turns wrap around, so that all ranks run the same number; `gather_once` drops the duplicates.
        for turn in range(-(-len(batches) // world)):
            items_of_turn = batches[(rank + turn * world) % len(batches)]
            assert loader.collate_fn is not None
            batch = loader.collate_fn([loader.dataset[item.index] for item in items_of_turn]).to(device)
            for name in wanted:
                mine[name] += answer(CONTROLS[name](batch))
        for name in wanted:
            found[name][set_name] = gather_once(mine[name])
    return found


def dealt(items: Sequence[Answered], size: int) -> list[list[Answered]]:
    """Deals items round-robin into batches of at most `size`, so that neighbours are in different ones.

    Neighbours often share a scene, and features are shuffled between the scenes of one batch.
    """
    count = -(-len(items) // size)
    return [list(items[first::count]) for first in range(count)]


def compare(
    chosen: dict[str, list[Answered]],
    blinded: dict[Control, dict[str, list[Answered]]],
    training: Iterable[Sample] | None,
) -> dict[str, dict[str, dict[str, float]]]:
    """By set, the metrics of the model, of each control and of chance, all on the same samples.

    Args:
        chosen: the model's own answers, by set.
        blinded: result of `ask_again`.
        training: samples from which `majority` takes the most frequent answers; None omits that control.
    """
    guesses: list[Answered] = []
    if training is not None:
        guesses = majority(training, [item for items in chosen.values() for item in items])
    given = {item.index: item for item in guesses}
    found = {}
    for name, items in chosen.items():
        constant = [given[item.index] for item in items if item.index in given]
        parts: dict[str, list[Answered]] = {
            "model": items,
            "majority": constant if len(constant) == len(items) else [],
            "chance": swapped(items),
        }
        parts |= {control: answers.get(name, []) for control, answers in blinded.items()}
        found[name] = {part: score_set(said) for part, said in parts.items() if said}
    return found


def tabulate(
    chosen: dict[str, list[Answered]], scores: dict[str, dict[str, dict[str, float]]]
) -> pd.DataFrame:
    """One row per set: its main metric for the model and each control; "-" where a control has no score."""
    lines = {}
    for name, parts in sorted(scores.items()):
        sample = chosen[name][0].sample
        metric = headline_of(sample.task, sample.protocol, parts["model"])
        facts = {"samples": len(chosen[name]), "protocol": sample.protocol, "metric": metric}
        lines[name] = facts | {part: f"{values[metric]:.3f}" for part, values in parts.items()}
    table = pd.DataFrame.from_dict(lines, orient="index").fillna("-")
    order = ["samples", "protocol", "metric", "model", *ALL, "chance"]
    return table[[column for column in order if column in table.columns]]
