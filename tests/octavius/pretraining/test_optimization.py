"""The optimizer settings that pre-trainings share."""

import pytest
import torch
from torch import nn

from octavius.pretraining.optimization import decay_groups, trapezoid


def test_only_trained_matrices_decay() -> None:
    layer, frozen = nn.Linear(2, 3), nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    matrices, vectors = decay_groups([*layer.parameters(), frozen])
    assert matrices == {"params": [layer.weight]}
    assert vectors == {"params": [layer.bias], "weight_decay": 0.0}


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    found = trapezoid(optimizer, 10, warmup=0.2, decay=0.4)
    assert isinstance(found, dict)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        found["lr_scheduler"]["scheduler"].step()  # type: ignore[index]
    half = 2**-0.5  # cosine decay: (1 - cos(pi * left)) / 2 at left = 3/4, 1/2, 1/4
    assert rates == pytest.approx([1, 2, 2, 2, 2, 2, 2, 1 + half, 1, 1 - half, 0])
