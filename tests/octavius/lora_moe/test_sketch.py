"""A sketch is the projected gradient of the experts' B, sample by sample."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from octavius.lora_moe.layer import LoRAMoELinear
from octavius.lora_moe.routing import Routing
from octavius.lora_moe.sketch import SHARED, projection, sketching

SAMPLES, TOKENS, WIDTH = 3, 5, 12


class Tiny(nn.Module):
    """Two LoRA-MoE layers, the second behind a nonlinearity."""

    def __init__(self, recompute: bool) -> None:
        super().__init__()
        self.routing, self.recompute = Routing(), recompute
        make = partial(LoRAMoELinear, experts=2, rank=3, alpha=3.0, dropout=0.0, routing=self.routing)
        self.first, self.second = make(nn.Linear(WIDTH, 20)), make(nn.Linear(20, 7))

    def forward(self, x: Tensor) -> Tensor:
        def body(x: Tensor) -> Tensor:
            return self.second(self.first(x).tanh())

        found = checkpoint(body, x, use_reentrant=False) if self.recompute else body(x)
        assert isinstance(found, Tensor)
        return found


def test_a_sketch_is_the_projected_gradient_of_each_sample() -> None:
    torch.manual_seed(0)
    model, x = Tiny(recompute=False), torch.randn(SAMPLES, TOKENS, WIDTH)
    model.routing.set(torch.ones(SAMPLES, 2))
    with sketching(model) as parts:
        model(x).square().sum().backward()
    for sample in range(SAMPLES):
        model.zero_grad()
        model.routing.set(torch.ones(1, 2))
        model(x[sample : sample + 1]).square().sum().backward()
        for index, layer in enumerate((model.first, model.second)):
            assert layer.lora_B.grad is not None
            high = projection(-1 - index, layer.out_features, x.device)
            low = projection(index, len(layer.lora_A), x.device)
            updates = parts[index][0]
            torch.testing.assert_close(
                updates[sample], high.T @ layer.lora_B.grad @ low, rtol=1e-4, atol=1e-5
            )


def test_an_input_is_the_mean_over_tokens_weighted_by_the_length_of_the_gradient() -> None:
    torch.manual_seed(0)
    model, x = Tiny(recompute=False), torch.randn(SAMPLES, TOKENS, WIDTH)
    model.routing.set(torch.ones(SAMPLES, 2))
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        seen.append((inputs[0].detach(), output))

    for layer in (model.first, model.second):
        layer.register_forward_hook(keep)
    with sketching(model) as parts:
        model(x).square().sum().backward()
    for index, (inputs, output) in enumerate(seen):
        assert output.grad is not None
        for sample in range(SAMPLES):
            lengths = output.grad[sample].norm(dim=1)
            mean = (lengths[:, None] * inputs[sample]).sum(0) / lengths.sum()
            expected = mean @ projection(SHARED, inputs.shape[-1], x.device)
            torch.testing.assert_close(parts[index][1][sample], expected, rtol=1e-4, atol=1e-5)


def test_recomputed_layers_give_the_same_sketches() -> None:
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model, x = Tiny(recompute), torch.randn(SAMPLES, TOKENS, WIDTH)
        model.routing.set(torch.ones(SAMPLES, 2) / 2)
        with sketching(model) as parts:
            model(x).square().sum().backward()
        found.append([*parts[0], *parts[1]])
        model(x)  # the hooks are gone
        assert set(parts) == {0, 1}
    torch.testing.assert_close(*found)


def test_inner_products_are_kept_in_expectation() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(2, 400)
    kept = [(vectors[0] @ projection(seed, 400, vectors.device)).square().sum() for seed in range(200)]
    assert float(torch.stack(kept).mean() / vectors[0].square().sum()) == pytest.approx(1, abs=0.1)
