"""A sketch is the projected gradient of the experts' B, sample by sample."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from octavius.lora_moe.layer import LoRAMoELinear
from octavius.lora_moe.routing import Routing
from octavius.lora_moe.sketch import projection, sketching

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
            expected = (high.T @ layer.lora_B.grad @ low).flatten()
            torch.testing.assert_close(parts[index][sample], expected, rtol=1e-4, atol=1e-5)


def test_recomputed_layers_give_the_same_sketches() -> None:
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model, x = Tiny(recompute), torch.randn(SAMPLES, TOKENS, WIDTH)
        model.routing.set(torch.ones(SAMPLES, 2) / 2)
        with sketching(model) as parts:
            model(x).square().sum().backward()
        found.append(torch.cat([parts[0], parts[1]], dim=1))
        model(x)  # the hooks are gone
        assert set(parts) == {0, 1}
    torch.testing.assert_close(*found)


def test_inner_products_are_kept_in_expectation() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(2, 400)
    kept = [(vectors[0] @ projection(seed, 400, vectors.device)).square().sum() for seed in range(200)]
    assert float(torch.stack(kept).mean() / vectors[0].square().sum()) == pytest.approx(1, abs=0.1)
