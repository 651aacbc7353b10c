"""Gradients of tasks against a plain backward pass, and their cosines by hand."""

from collections.abc import Callable

import pytest
import torch

from octavius.instruction.batch import Batch
from octavius.instruction.sample import Sample
from octavius.interference.gradients import conflicting, cosines, gradients_of
from octavius.lora_moe.inject import adapter_parameters
from octavius.model import Octavius

MakeModel = Callable[..., Octavius]


MakeSample = Callable[..., Sample]


Write = Callable[..., Batch]


def batch_of(model: Octavius, make_sample: MakeSample, write: Write, *turns: tuple[str, str]) -> Batch:
    return write(model.processor(), *((make_sample(f"s{n}"), *turn) for n, turn in enumerate(turns)))


def test_a_gradient_is_that_of_the_mean_loss_over_all_batches(
    make_model: MakeModel, make_sample: MakeSample, write: Write
) -> None:
    model = make_model()
    turns = [("Is it red?", "no"), ("What is it?", "a very long answer"), ("Who?", "me")]
    found = gradients_of(model, [batch_of(model, make_sample, write, turn) for turn in turns])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    model.eval()(batch_of(model, make_sample, write, *turns)).losses.mean().backward()
    parameters = adapter_parameters(model.decoder.lm)
    for layer, vector in found.items():
        both = [parameters[f"{layer}.{half}"].grad for half in ("lora_A", "lora_B")]
        expected = torch.cat([part.flatten() for part in both if part is not None])
        torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-6)


def test_cosines_and_conflicts_by_hand() -> None:
    layer, other = "lm.layers.0.q_proj", "lm.layers.1.q_proj"
    table = cosines(
        {
            "a": {layer: torch.tensor([1.0, 0.0]), other: torch.tensor([1.0, 1.0])},
            "b": {layer: torch.tensor([-2.0, 0.0]), other: torch.tensor([3.0, 3.0])},
            "c": {layer: torch.tensor([0.0, 5.0]), other: torch.zeros(2)},
        }
    )
    assert table[["task", "other", "depth"]].to_numpy().tolist()[:2] == [["a", "b", 0], ["a", "b", 1]]
    assert table["cosine"].round(6).tolist()[:3] == [-1.0, 1.0, 0.0]
    assert table["cosine"].isna().sum() == 2  # pairs with the zero gradient
    assert conflicting(table, "depth").to_dict() == {0: pytest.approx(1 / 3), 1: 0.0}
