"""Gradients of each task with respect to the adapters, and their cosine similarity.

Tasks conflict if a step that helps one harms the other: to first order, if the cosine of their gradients is
negative (Yu et al., 2020, "Gradient Surgery for Multi-Task Learning", definition 1). An expert that only one
of two tasks uses adds nothing to their inner product, so good routing shows as cosines near zero.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import combinations

import pandas as pd
import torch
from torch import Tensor

from octavius.instruction.batch import Batch
from octavius.lora_moe.inject import adapter_parameters
from octavius.model import Octavius

Gradients = Mapping[str, Tensor]
"""Gradients by adapted layer: those of A and B flattened into one vector, fp32 on the CPU."""


def gradients_of(model: Octavius, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Gradient of the mean loss per answer token over some batches, for each adapted layer.

    Runs in eval mode, without dropout. Restores the mode, and clears the gradients of the model.
    """
    parameters = adapter_parameters(model.decoder.lm)
    was_training = model.training
    model.eval().zero_grad(set_to_none=True)
    tokens = 0
    for batch in batches:
        losses = model(batch).losses
        losses.sum().backward()
        tokens += len(losses)
    layers: dict[str, list[Tensor]] = {}
    for name, parameter in parameters.items():
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        layers.setdefault(name.rpartition(".")[0], []).append(
            (found / max(1, tokens)).float().cpu().flatten()
        )
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return {layer: torch.cat(parts) for layer, parts in layers.items()}


def cosines(gradients: Mapping[str, Gradients]) -> pd.DataFrame:
    """The cosine similarity of each pair of tasks in each adapted layer.

    Args:
        gradients: gradients of each task, from `gradients_of`.

    Returns:
        Table with columns layer, depth, projection, task, other and cosine; NaN if a gradient is zero.
    """
    rows = []
    for task, other in combinations(gradients, 2):
        for layer, vector in gradients[task].items():
            between = gradients[other][layer]
            norms = float(vector.norm() * between.norm())
            cosine = float(vector @ between) / norms if norms > 0 else float("nan")
            depth = re.search(r"\.(\d+)\.", layer)
            rows.append(
                {
                    "layer": layer,
                    "depth": int(depth[1]) if depth else 0,
                    "projection": layer.rpartition(".")[2],
                    "task": task,
                    "other": other,
                    "cosine": cosine,
                }
            )
    return pd.DataFrame(rows, columns=["layer", "depth", "projection", "task", "other", "cosine"])


def conflicting(table: pd.DataFrame, by: str | list[str]) -> pd.Series:
    """Fraction of pairs with a negative cosine, grouped by columns of `cosines`."""
    known = table.dropna(subset="cosine")
    names = [by] if isinstance(by, str) else by
    return (known["cosine"] < 0).groupby([known[name] for name in names]).mean()
