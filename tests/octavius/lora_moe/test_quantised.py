"""Experts on bases of 8 and 4 bits: only the base's output is used, and merging is refused."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from octavius.lora_moe import LoRAMoELinear, Routing, adapter_parameters, inject
from octavius.lora_moe.backends import BACKENDS
from octavius.lora_moe.merge import fold, layers_of, merge

MakeLlama = Callable[[], LlamaForCausalLM]
NAMES = ("auto", *BACKENDS)
TARGETS = ["q_proj", "v_proj", "down_proj"]
SPARSE = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.4, 0.6]])
IDS = torch.tensor([[5, 9, 13, 7, 22], [8, 3, 40, 41, 2]])
ON_A_GPU = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="4-bit and 8-bit bases of bitsandbytes want a GPU"
)


class Int8Linear(nn.Module):
    """Weights of one byte with a scale for each row, as in LLM.int8() without its outliers; no `weight` to read."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("packed", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)

    def matrix(self) -> Tensor:
        return self.get_buffer("packed").float() * self.get_buffer("scale")

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.matrix().to(x.dtype))


def weight_only(linear: nn.Linear) -> nn.Module:
    return Int8Linear(linear)


def dynamic(linear: nn.Linear) -> nn.Module:
    """PyTorch's own: packed weights outside of all parameters, inputs rounded to 8 bits at each call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: nn.Module = torch.ao.quantization.quantize_dynamic(nn.Sequential(linear), {nn.Linear})[0]
    return found


def replaced(model: nn.Module, quantise: Callable[[nn.Linear], nn.Module]) -> None:
    """Quantises the targets in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in TARGETS:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, quantise(module))


def with_experts(model: nn.Module, backend: Any = "auto") -> Routing:
    routing = Routing()
    inject(model, TARGETS, 3, 4, 8.0, 0.0, routing, backend=backend)
    torch.manual_seed(2)
    for name, part in adapter_parameters(model).items():
        if name.endswith("lora_B"):
            nn.init.normal_(part, std=0.5)
    return routing


def beside(layer: LoRAMoELinear, x: Tensor, weights: Tensor) -> Tensor:
    """What the experts add, each by itself in fp32."""
    downs, ups = layer.lora_A.split(layer.rank), layer.lora_B.split(layer.rank, 1)
    each = torch.stack([x.float() @ down.T @ up.T for down, up in zip(downs, ups, strict=True)])
    return torch.einsum("ebto,be->bto", each, weights) * layer.scale


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("quantise", [weight_only, dynamic])
def test_experts_are_added_to_what_the_base_gives(quantise: Any, backend: Any) -> None:
    torch.manual_seed(0)
    base = quantise(nn.Linear(16, 12, bias=quantise is dynamic))
    layer = LoRAMoELinear(base, 3, 2, 4.0, 0.0, Routing(), backend=backend)
    nn.init.normal_(layer.lora_B)
    x, weights = torch.randn(2, 90, 16), SPARSE.clone().requires_grad_()
    with layer.routing.use(weights, 2):
        found = layer(x)
    expected = base(x) + beside(layer, x, weights)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert {name for name, _ in layer.named_parameters()} == {"lora_A", "lora_B"}
    inputs = (layer.lora_A, layer.lora_B, weights)
    for mine, right in zip(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        kept = SPARSE > 0 if mine.shape == SPARSE.shape else ...
        torch.testing.assert_close(mine[kept], right[kept], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("backend", NAMES)
def test_a_quantised_model_learns_as_its_twin_in_full(make_llama: MakeLlama, backend: str) -> None:
    """The twin has the rounded weights in floating point."""
    found = []
    for quantised in (True, False):
        model = make_llama().train()
        if quantised:
            replaced(model, Int8Linear)
        else:
            for name, module in model.named_modules():
                if name.rpartition(".")[2] in TARGETS:
                    assert isinstance(module, nn.Linear)
                    module.weight.data = Int8Linear(module).matrix()
        weights, routing = SPARSE.clone().requires_grad_(), with_experts(model, backend)
        assert len(layers_of(model)) == 6
        with routing.use(weights, 2):
            loss = model(IDS, labels=IDS).loss
        trained = adapter_parameters(model)
        found.append([loss, *torch.autograd.grad(loss, [*trained.values(), weights])])
    assert all(grad.abs().max() > 0 for grad in found[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("quantise", [weight_only, dynamic])
def test_a_quantised_base_is_not_merged_into_but_leaves_as_an_adapter(
    make_llama: MakeLlama, quantise: Any
) -> None:
    model = make_llama()
    replaced(model, quantise)
    with_experts(model)
    kind = type(quantise(nn.Linear(2, 2))).__name__
    with pytest.raises(
        ValueError, match=rf"q_proj, a {kind}: .*load it in bfloat16, or export a PEFT adapter"
    ):
        merge(model, SPARSE[0])
    assert len(layers_of(model)) == 6
    for name, down, up in fold(model, SPARSE[0]):
        layer = layers_of(model)[name]
        x = torch.randn(1, 5, layer.in_features)
        torch.testing.assert_close(x @ down.T @ up.T, beside(layer, x, SPARSE[:1]), rtol=1e-4, atol=1e-4)


@ON_A_GPU
@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("bits", [4, 8])
def test_bases_of_bitsandbytes(bits: int, backend: Any) -> None:
    bitsandbytes: Any = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    options = (
        {"quant_type": "nf4", "compute_dtype": torch.bfloat16} if bits == 4 else {"has_fp16_weights": False}
    )
    kind = bitsandbytes.nn.Linear4bit if bits == 4 else bitsandbytes.nn.Linear8bitLt
    base = kind(64, 64, **options).cuda()
    layer = LoRAMoELinear(base, 3, 2, 4.0, 0.0, Routing(), backend=backend)
    nn.init.normal_(layer.lora_B)
    before = base.weight.detach().clone()
    x, weights = torch.randn(2, 90, 64, device="cuda", dtype=torch.bfloat16), SPARSE.cuda().requires_grad_()
    with layer.routing.use(weights, 2):
        found = layer(x)
    expected = base(x).float() + beside(layer, x, weights)
    assert ((found.float() - expected).norm() / expected.norm()).item() < 0.02
    inputs = (layer.lora_A, layer.lora_B, weights)
    grads = torch.autograd.grad(found.float().square().sum(), inputs)
    for mine, right in zip(grads, torch.autograd.grad(expected.square().sum(), inputs), strict=True):
        kept = SPARSE > 0 if mine.shape == SPARSE.shape else ...
        assert ((mine[kept] - right[kept]).norm() / right[kept].norm()).item() < 0.03
    assert torch.equal(base.weight, before)
    model = nn.ModuleDict({"q_proj": layer})
    with pytest.raises(ValueError, match="A quantised base would have to be rounded again"):
        merge(model, SPARSE[0].cuda())
