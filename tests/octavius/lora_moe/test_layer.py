"""The LoRA-MoE layer against a loop over samples and experts, and under each way of running it."""

import copy
import re
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from transformers.pytorch_utils import Conv1D

from octavius.lora_moe import InstanceGate, LoRAMoELinear, Routing
from octavius.lora_moe.gates.base import GateSize
from octavius.lora_moe.gates.token import TokenGate


def make(
    experts: int = 3, rank: int = 2, dropout: float = 0.0, width_in: int = 6, width_out: int = 5
) -> LoRAMoELinear:
    """A layer whose experts do something: B is not zero."""
    layer = LoRAMoELinear(nn.Linear(width_in, width_out), experts, rank, 3.0, dropout, Routing())
    nn.init.normal_(layer.lora_B)
    return layer


def slow_forward(layer: LoRAMoELinear, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """One sample and one expert at a time, each expert as a LoRA of its own."""
    rank, samples = layer.rank, []
    for sample in range(len(x)):
        total = layer.base(x[sample])
        for expert in range(layer.experts):
            part = slice(expert * rank, (expert + 1) * rank)
            down, up = layer.lora_A[part], layer.lora_B[:, part]
            total = total + weights[sample, expert] * (layer.alpha / rank) * (x[sample] @ down.T @ up.T)
        samples.append(total)
    return torch.stack(samples)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    samples=st.integers(1, 4),
    tokens=st.integers(0, 5),
    experts=st.integers(1, 5),
    rank=st.integers(1, 4),
    widths=st.tuples(st.integers(1, 7), st.integers(1, 7)),
)
def test_layer_equals_a_loop_over_samples_and_experts(
    data: st.DataObject, samples: int, tokens: int, experts: int, rank: int, widths: tuple[int, int]
) -> None:
    torch.manual_seed(data.draw(st.integers(0, 999)))
    layer = make(experts, rank, 0.0, *widths).double()
    kept = data.draw(st.integers(1, experts))
    weights = torch.zeros(samples, experts, dtype=torch.float64)
    for row in weights:
        row[torch.randperm(experts)[:kept]] = torch.rand(kept, dtype=torch.float64)
    shape = (samples, tokens, widths[0]) if tokens else (samples, widths[0])  # no tokens: (B, D)
    x = torch.randn(shape, dtype=torch.float64)
    with layer.routing.use(weights):
        torch.testing.assert_close(layer(x), slow_forward(layer, x, weights), rtol=1e-10, atol=1e-10)


def test_gradients_are_right_for_x_experts_and_weights() -> None:
    torch.manual_seed(0)
    layer = make().double()
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor, weights: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        with layer.routing.use(weights):
            return torch.as_tensor(layer(x))

    assert torch.autograd.gradcheck(run, (x, weights, layer.lora_A, layer.lora_B))


def test_gradient_reaches_a_b_and_the_gate_but_not_the_base() -> None:
    torch.manual_seed(0)
    layer, gate = make(experts=4), InstanceGate(GateSize(6, 4), top_k=2)
    with layer.routing.use(gate(torch.randn(3, 4, 6), torch.ones(3, 4))):
        layer(torch.randn(3, 2, 6)).square().sum().backward()
    for parameter in (layer.lora_A, layer.lora_B, gate.weight):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
    assert all(not frozen.requires_grad and frozen.grad is None for frozen in layer.base.parameters())


def test_published_scale_and_start() -> None:
    """1 whatever alpha says; U(-1/sqrt(D R), 1/sqrt(D R)), as kaiming draws a tensor (E, D, R)."""
    torch.manual_seed(0)
    layer = LoRAMoELinear(nn.Linear(400, 5), 4, 8, 16, 0.0, Routing(), scale="published", init="published")
    assert layer.scale == 1.0
    theirs = torch.empty(4, 400, 8)
    nn.init.kaiming_uniform_(theirs, a=5**0.5)
    bound = (400 * 8) ** -0.5
    for drawn in (layer.lora_A.detach(), theirs):
        assert 0.99 * bound < drawn.abs().max() <= bound * 1.0001


def test_start_equals_the_base_and_each_expert_of_a_is_drawn_like_peft() -> None:
    torch.manual_seed(0)
    base = nn.Linear(400, 5)
    layer = LoRAMoELinear(base, 4, 8, 16, 0.1, Routing())
    x = torch.randn(2, 3, 400)
    with layer.routing.use(torch.rand(2, 4)):
        assert torch.equal(layer(x), base(x))
    bound = 400**-0.5  # kaiming with a = sqrt(5) is uniform within one over the root of the fan-in
    for expert in torch.split(layer.lora_A.detach(), 8):
        assert expert.abs().max() <= bound
        assert expert.abs().max() > 0.99 * bound


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), samples=st.integers(2, 6))
def test_permuting_the_batch_permutes_the_output(seed: int, samples: int) -> None:
    torch.manual_seed(seed)
    layer, order = make().double(), torch.randperm(samples)
    x, weights = torch.randn(samples, 3, 6).double(), torch.rand(samples, 3).double()
    with layer.routing.use(weights):
        straight = layer(x)
    with layer.routing.use(weights[order]):
        torch.testing.assert_close(layer(x[order]), straight[order])


def test_rows_of_a_beam_take_their_samples_weights() -> None:
    torch.manual_seed(0)
    layer = make().double()
    x, weights = torch.randn(6, 3, 6).double(), torch.rand(2, 3).double()
    with layer.routing.use(weights):
        beams = layer(x)
    torch.testing.assert_close(beams, slow_forward(layer, x, weights[[0, 0, 0, 1, 1, 1]]))


def test_dropout_is_on_the_experts_alone_and_off_in_eval() -> None:
    torch.manual_seed(0)
    layer = make(dropout=0.5)
    x, weights = torch.randn(2, 50, 6), torch.rand(2, 3)
    with layer.routing.use(weights):
        first, second = layer(x), layer(x)
        assert not torch.equal(first, second)
        layer.eval()
        torch.testing.assert_close(layer(x), slow_forward(layer, x, weights))
    with layer.train().routing.use(torch.zeros(2, 3)):
        assert torch.equal(layer(x), layer.base(x))


def test_a_base_in_eval_mode_gives_a_layer_in_eval_mode() -> None:
    layer = LoRAMoELinear(nn.Linear(6, 5).eval(), 2, 2, 2, 0.5, Routing())
    assert not layer.training
    assert not layer.dropout.training


@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_bf16_is_near_fp32(kept: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = make(width_in=64, width_out=64, rank=8)
    x, weights = torch.randn(2, 10, 64), torch.rand(2, 3)
    with layer.routing.use(weights):
        expected = layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = layer(x)
        layer.base.bfloat16()
        layer.lora_A.data, layer.lora_B.data = layer.lora_A.to(kept), layer.lora_B.to(kept)
        whole = layer(x.bfloat16())
        whole.float().square().sum().backward()
    assert cast.dtype == whole.dtype == torch.bfloat16
    assert layer.lora_A.grad is not None
    assert layer.lora_A.grad.dtype == kept
    for found in (cast, whole):
        assert ((found.float() - expected).norm() / expected.norm()).item() < 0.01


def test_type_and_device_of_the_experts() -> None:
    plain = LoRAMoELinear(nn.Linear(6, 5).bfloat16(), 2, 2, 2, 0.0, Routing())
    assert plain.lora_A.dtype == plain.lora_B.dtype == torch.float32
    asked = LoRAMoELinear(nn.Linear(6, 5), 2, 2, 2, 0.0, Routing(), dtype=torch.bfloat16)
    assert asked.lora_A.dtype == asked.lora_B.dtype == torch.bfloat16
    assert LoRAMoELinear(nn.Linear(6, 5, device="meta"), 2, 2, 2, 0.0, Routing()).lora_A.device.type == "meta"


def test_conv1d_and_modules_that_only_look_linear() -> None:
    class Packed(nn.Module):
        """Like a quantised layer: no parameter, a buffer of integers, widths as attributes."""

        in_features, out_features = 6, 5

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("packed", torch.randint(-8, 8, (5, 6)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(x, self.get_buffer("packed").to(x.dtype) / 8)

    torch.manual_seed(0)
    bases: list[nn.Module] = [Conv1D(5, 6), Packed()]
    for base in bases:
        layer = LoRAMoELinear(base, 3, 2, 2, 0.0, Routing())
        nn.init.normal_(layer.lora_B)
        x, weights = torch.randn(2, 4, 6), torch.rand(2, 3)
        with layer.routing.use(weights):
            torch.testing.assert_close(layer(x), slow_forward(layer, x, weights))


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_compiles_without_a_graph_break(backend: str) -> None:
    torch.manual_seed(0)
    layer = make()
    torch.compiler.reset()  # what other tests compiled counts against the limit of recompilations
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    for samples, rows in ((2, 2), (3, 3), (2, 4)):
        x, weights = torch.randn(rows, 4, 6), torch.rand(samples, 3, requires_grad=True)
        grads = []
        for run in (layer, compiled):
            with layer.routing.use(weights):
                out = run(x)
            inputs = (layer.lora_A, layer.lora_B, weights)
            grads.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
        for expected, found in zip(*grads, strict=True):
            torch.testing.assert_close(found, expected)


@pytest.fixture
def one_process() -> Iterator[None]:
    """A process group of one, over gloo."""
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("own_gate", [False, True])
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_ddp_and_fsdp_give_the_same_gradients(kind: str, own_gate: bool) -> None:
    torch.manual_seed(0)
    layer = make(rank=4)
    layer.gate = TokenGate(GateSize(6, 3), top_k=2) if own_gate else None
    other = copy.deepcopy(layer)
    assert other.routing is not layer.routing
    x, weights = torch.randn(2, 3, 6), torch.rand(2, 3)
    wrapped: nn.Module = DistributedDataParallel(other) if kind == "ddp" else fully_shard(other)  # type: ignore[assignment]
    for run, routing in ((layer, layer.routing), (wrapped, other.routing)):
        with routing.use(weights):
            run(x).square().sum().backward()
    for name in ("lora_A", "lora_B", *(["gate.weight"] if own_gate else [])):
        expected, found = layer.get_parameter(name).grad, other.get_parameter(name).grad
        assert expected is not None
        assert found is not None
        torch.testing.assert_close(found.full_tensor() if isinstance(found, DTensor) else found, expected)


@pytest.mark.usefixtures("one_process")
def test_fsdp_with_bf16_parameters_keeps_fp32_master_gradients() -> None:
    torch.manual_seed(0)
    layer = make()
    x, weights = torch.randn(2, 3, 6), torch.rand(2, 3)
    expected = slow_forward(layer, x, weights)
    fully_shard(layer, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32))
    with layer.routing.use(weights):
        out = layer(x)
        out.float().square().sum().backward()
    assert out.dtype == torch.bfloat16
    assert ((out.float() - expected).norm() / expected.norm()).item() < 0.02
    assert layer.lora_A.grad is not None
    assert layer.lora_A.grad.dtype == torch.float32


def test_unset_routing_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no gate weights are set"):
        make()(torch.randn(2, 3, 6))


def test_weights_for_another_number_of_experts_are_refused() -> None:
    layer = make(experts=3)
    for found in (1, 2):  # one weight would broadcast over the experts
        message = f"set for {found} experts, but a LoRA-MoE layer has 3"
        with layer.routing.use(torch.rand(2, found)), pytest.raises(ValueError, match=message):
            layer(torch.randn(2, 3, 6))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"experts": 0}, "at least 1 expert, found experts = 0"),
        ({"rank": 0}, "rank of a LoRA expert must be at least 1, found rank = 0"),
        ({"rank": -4}, "found rank = -4"),
        ({"alpha": 0}, "alpha must be positive, found alpha = 0"),
        ({"dropout": 1.0}, "dropout is a probability in 0..1 (1 excluded), found dropout = 1"),
        ({"dropout": -0.1}, "found dropout = -0.1"),
        ({"base": nn.Embedding(3, 4)}, "in_features and out_features, found Embedding"),
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, object], message: str) -> None:
    usual: dict[str, object] = {"base": nn.Linear(6, 5), "experts": 2, "rank": 2, "alpha": 2, "dropout": 0.1}
    with pytest.raises(ValueError, match=re.escape(message)):
        LoRAMoELinear(**(usual | setting), routing=Routing())  # type: ignore[arg-type]


def test_settings_show_in_the_printed_layer() -> None:
    assert "in_features=6, out_features=5, experts=3, rank=2, alpha=3.0" in repr(make())
