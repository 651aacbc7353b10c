"""The fused AdamW: the steps of the plain one, clipping in mixed precision, and states of checkpoints before it."""

from copy import deepcopy

import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from octavius.optimizer import adamw


def made() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(5, 3)
    found = adamw(model, None, 0.1, (0.9, 0.95), 0.01, 0.0, 10)
    return model, found["optimizer"]  # type: ignore[index,return-value,call-overload]


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        model(torch.ones(2, 5)).square().sum().backward()
        optimizer.step()


def test_the_fused_step_is_the_plain_one() -> None:
    (model, optimizer), (right, _) = made(), made()
    plain = torch.optim.AdamW(right.parameters(), 0.1, (0.9, 0.95), weight_decay=0.01, foreach=False)
    steps(model, optimizer, 4)
    steps(right, plain, 4)
    torch.testing.assert_close(list(model.parameters()), list(right.parameters()))


def test_gradients_are_clipped_in_mixed_precision() -> None:
    model, optimizer = made()
    model(torch.ones(2, 5)).square().sum().backward()
    MixedPrecision("bf16-mixed", "cpu").clip_gradients(optimizer, 0.5)
    norm = torch.nn.utils.get_total_norm([part.grad for part in model.parameters() if part.grad is not None])
    torch.testing.assert_close(norm, torch.tensor(0.5))


def test_a_state_of_the_plain_step_is_continued() -> None:
    (model, optimizer), (right, _) = made(), made()
    plain = torch.optim.AdamW(right.parameters(), 0.1, (0.9, 0.95), weight_decay=0.01)
    steps(right, plain, 2)
    model.load_state_dict(right.state_dict())
    optimizer.load_state_dict(deepcopy(plain.state_dict()))  # which would share its tensors
    steps(model, optimizer, 2)
    steps(right, plain, 2)
    torch.testing.assert_close(list(model.parameters()), list(right.parameters()))
