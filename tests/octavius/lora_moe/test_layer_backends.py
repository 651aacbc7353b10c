"""The layer under each backend and under the automatic choice: equal values and gradients, whatever is around it."""

import re
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import LlamaForCausalLM

from octavius.lora_moe import InstanceGate, LoRAMoEConfig, LoRAMoELinear, Routing, build_lora_moe, inject
from octavius.lora_moe.backends import BACKENDS, BackendName
from octavius.lora_moe.dropout import kept_inputs
from octavius.lora_moe.gates.base import GateSize
from octavius.lora_moe.gates.cluster import ClusterGate
from octavius.lora_moe.gates.token import TokenGate
from octavius.lora_moe.gates.uniform import UniformGate
from tests.octavius.lora_moe.test_layer import slow_forward

MakeLlama = Callable[[], LlamaForCausalLM]
NAMES: tuple[BackendName, ...] = get_args(BackendName)
SPARSE = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.4, 0.6]])


def make(
    backend: str, experts: int = 3, rank: int = 2, dropout: float = 0.0, width: int = 6
) -> LoRAMoELinear:
    """A layer whose experts do something, the same at each call but for the backend."""
    torch.manual_seed(0)
    base = nn.Linear(width, width)
    layer = LoRAMoELinear(base, experts, rank, 3.0, dropout, Routing(), backend=backend)  # type: ignore[arg-type]
    nn.init.normal_(layer.lora_B)
    return layer


def gradients(
    layer: LoRAMoELinear, x: Tensor, weights: Tensor, max_active: int | None = None
) -> list[Tensor]:
    """The output, and the gradients of x, A, B and the weights."""
    x, weights = x.detach().requires_grad_(), weights.detach().requires_grad_()
    with layer.routing.use(weights, max_active):
        out = layer(x)
    return [out, *torch.autograd.grad(out.square().sum(), (x, layer.lora_A, layer.lora_B, weights))]


def test_the_names_of_settings_are_those_of_the_backends() -> None:
    assert {"auto", *BACKENDS} == set(NAMES)


@pytest.mark.parametrize("backend", NAMES)
@settings(max_examples=20, deadline=None)
@given(data=st.data(), samples=st.integers(1, 4), tokens=st.integers(0, 5), experts=st.integers(1, 5))
def test_weights_set_by_hand_give_the_loop(
    backend: str, data: st.DataObject, samples: int, tokens: int, experts: int
) -> None:
    """However many of them are not zero, and whether they ask for a gradient or not."""
    layer = make(backend, experts).double()
    torch.manual_seed(data.draw(st.integers(0, 999)))
    max_active = data.draw(st.integers(0, experts))
    weights = torch.zeros(samples, experts, dtype=torch.float64)
    for row in weights:
        row[torch.randperm(experts)[:max_active]] = torch.randn(max_active, dtype=torch.float64)
    weights.requires_grad_(data.draw(st.booleans()))
    x = torch.randn((samples, tokens, 6) if tokens else (samples, 6), dtype=torch.float64)
    with layer.routing.use(weights):
        torch.testing.assert_close(layer(x), slow_forward(layer, x, weights), rtol=1e-10, atol=1e-10)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), slow_forward(layer, x, weights), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", NAMES)
def test_gradients_equal_those_of_the_loop(backend: str) -> None:
    """Also of weights that are zero: a user's own may want one (straight-through gates do)."""
    layer, x = make(backend), torch.randn(2, 200, 6)
    own, weights = x.clone().requires_grad_(), SPARSE.clone().requires_grad_()
    expected = slow_forward(layer, own, weights)
    grads = torch.autograd.grad(expected.square().sum(), (own, layer.lora_A, layer.lora_B, weights))
    assert grads[-1].abs().min() > 0
    for found, right in zip(gradients(layer, x, SPARSE), (expected, *grads), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-3)
    told = gradients(layer, x, SPARSE, 2)
    for found, right in zip(told[:-1], (expected, *grads[:-1]), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(told[-1][SPARSE > 0], grads[-1][SPARSE > 0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("weights", "max_active", "expected"),
    [
        (SPARSE, None, "gathered"),  # counted
        (SPARSE.clone().requires_grad_(), None, "concatenated"),
        (SPARSE.clone().requires_grad_(), 1 + 1, "gathered"),  # told
        (torch.rand(2, 3), None, "concatenated"),
        (SPARSE[:, None].expand(2, 200, 3), None, "concatenated"),
    ],
)
def test_the_layer_takes_the_choice_by_size(
    monkeypatch: pytest.MonkeyPatch, weights: Tensor, max_active: int | None, expected: str
) -> None:
    taken: list[str] = []
    for name, backend in list(BACKENDS.items()):

        def spy(*inputs: Any, name: str = name, backend: Any = backend) -> Tensor:
            taken.append(name)
            result: Tensor = backend(*inputs)
            return result

        monkeypatch.setitem(BACKENDS, name, spy)
    x = torch.randn(2, 200, 6)
    for backend in NAMES:
        with (layer := make(backend)).routing.use(weights, max_active):
            layer(x)
    assert taken == [expected, *NAMES[1:]]


@pytest.mark.parametrize("backend", NAMES)
def test_dropout_is_in_front_of_the_experts(backend: str) -> None:
    """One seed drops the same inputs in every backend, as a dropout in front of the experts would."""
    layer, x = make(backend, dropout=0.3), torch.randn(2, 90, 6)
    torch.manual_seed(5)
    found = gradients(layer, x, SPARSE, 2)
    torch.manual_seed(5)
    own = x.clone().requires_grad_()
    mask, factor = kept_inputs(own, 0.3)
    dropped = own * mask * factor
    right = layer.base(own) + slow_forward(layer, dropped, SPARSE) - layer.base(dropped)
    grads = torch.autograd.grad(right.square().sum(), (own, layer.lora_A, layer.lora_B))
    for mine, other in zip(found, (right, *grads), strict=False):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-3)


def test_dropout_keeps_one_byte_a_number_for_backward() -> None:
    """The input itself is kept, which others keep too, and the mask; no masked copy of the input."""
    layer, x = make("concatenated", dropout=0.3, width=64), torch.randn(2, 50, 64, requires_grad=True)
    known = {x.data_ptr(), *(part.data_ptr() for part in layer.parameters())}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = 0 if storage.data_ptr() in known else storage.nbytes()
        return tensor

    with layer.routing.use(SPARSE), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x)
    hidden = 2 * 50 * 3 * 2 * 4
    assert sum(saved.values()) <= x.numel() + hidden + 100


@pytest.mark.parametrize(
    ("dropout", "backend"),
    [pytest.param(dropout, name, marks=pytest.mark.slow) for dropout in (0.0, 0.2) for name in NAMES],
)
def test_the_layer_compiles_without_a_graph_break(backend: str, dropout: float) -> None:
    torch.compiler.reset()  # what other tests compiled counts against the limit of recompilations
    layer = make(backend, dropout=dropout)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for rows, tokens, max_active in ((2, 200, None), (4, 200, 2), (2, 3, 2)):
        found = []
        for run in (layer, compiled):
            weights = SPARSE.clone().requires_grad_()
            torch.manual_seed(1)
            x = torch.randn(rows, tokens, 6)
            with layer.routing.use(weights, max_active):
                out = run(x)
            found.append([out, *torch.autograd.grad(out.square().sum(), (layer.lora_A, weights))])
        if dropout == 0:
            torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-3)
        with torch.no_grad(), layer.routing.use(SPARSE):
            assert compiled(x).shape == x.shape


@pytest.mark.parametrize("backend", NAMES)
def test_checkpointed_layers_run_again_alike(backend: str) -> None:
    """With the weights, the number that is kept of them and the dropout of their own forward pass."""
    layer, x = make(backend, dropout=0.2), torch.randn(2, 200, 6)
    torch.manual_seed(3)
    expected = gradients(layer, x, SPARSE, 2)
    torch.manual_seed(3)
    own, weights = x.clone().requires_grad_(), SPARSE.clone().requires_grad_()
    with layer.routing.use(weights, 2):
        out = checkpoint(layer, own, use_reentrant=False, context_fn=layer.routing.checkpoint_context)
    with layer.routing.use(torch.eye(3)[:2]):
        layer(x)
    grads = torch.autograd.grad(out.square().sum(), (own, layer.lora_A, layer.lora_B, weights))
    torch.testing.assert_close([out, *grads], expected)


@pytest.mark.parametrize("backend", NAMES)
def test_autocast_is_near_fp32(backend: str) -> None:
    layer, x = make(backend, rank=8, width=64), torch.randn(2, 90, 64)
    expected = gradients(layer, x, SPARSE, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(layer, x, SPARSE, 2)
    assert found[0].dtype == torch.bfloat16
    assert {grad.dtype for grad in found[1:]} == {torch.float32}
    for mine, right in zip(found, expected, strict=True):
        assert ((mine.float() - right).norm() / right.norm()).item() < 0.02


@pytest.mark.parametrize("backend", NAMES)
def test_rows_of_beams_take_their_samples_weights(backend: str) -> None:
    layer, x = make(backend), torch.randn(6, 90, 6)
    with layer.routing.use(SPARSE):
        found = layer(x)
    right = slow_forward(layer, x, SPARSE[[0, 0, 0, 1, 1, 1]])
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", NAMES)
def test_generation_with_a_cache_is_that_without(make_llama: MakeLlama, backend: str) -> None:
    """Other weights in each row, beams, padding on the left: the text of each row alone, and of no cache."""
    model: Any = make_llama()
    routing = Routing()
    inject(model, ["q_proj", "o_proj", "down_proj"], 3, 4, 8.0, 0.1, routing, backend=backend)  # type: ignore[arg-type]
    for name, part in model.named_parameters():
        if name.endswith("lora_B"):
            nn.init.normal_(part, std=0.5)
    model.eval()
    ids = torch.randint(1, 60, (3, 40), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids[0, :17], mask[0, :17] = 0, 0
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.3, 0.7], [0.5, 0.5, 0.0]])

    def generate(rows: slice, **options: Any) -> Tensor:
        with routing.use(weights[rows]):
            found: Tensor = model.generate(
                input_ids=ids[rows],
                attention_mask=mask[rows],
                max_new_tokens=6,
                min_new_tokens=6,
                do_sample=False,
                **options,
            )
            return found[:, 40:]

    for beams in (1, 2):
        together = generate(slice(0, 3), num_beams=beams)
        assert torch.equal(generate(slice(0, 3), num_beams=beams, use_cache=False), together)
        for row in range(3):
            assert torch.equal(generate(slice(row, row + 1), num_beams=beams)[0], together[row])
    with torch.no_grad(), routing.use(weights):  # the text follows from the whole forward pass
        whole = torch.cat([ids, generate(slice(0, 3))], 1)
        seen = torch.cat([mask, torch.ones(3, 6, dtype=torch.long)], 1)
        places = (seen.cumsum(1) - 1).clamp(min=0)
        logits = model(whole, attention_mask=seen, position_ids=places).logits
    assert torch.equal(logits[:, 39:-1].argmax(-1), whole[:, 40:])


@pytest.mark.parametrize(
    "gate",
    [
        InstanceGate(GateSize(6, 4), top_k=2),
        InstanceGate(GateSize(6, 4), top_k=1, universal=True),
        ClusterGate(GateSize(6, 4), top_k=2, clusters=3),
    ],
)
def test_gates_that_cut_tell_how_many_they_keep(gate: Any) -> None:
    assert gate.max_active == 2
    if isinstance(gate, InstanceGate):
        weights = gate(torch.randn(5, 3, 6), torch.ones(5, 3))
        assert (weights != 0).sum(1).tolist() == [2] * 5
        Routing().set(weights, gate.max_active)


def test_gates_that_do_not_cut_tell_nothing() -> None:
    assert InstanceGate(GateSize(6, 4), top_k=None).max_active is None
    assert UniformGate(GateSize(6, 4)).max_active is None


@pytest.mark.parametrize(("name", "hint"), [("fused", ""), ("", ""), ("Auto", " (did you mean 'auto'?)")])
def test_backends_that_there_are_not_are_refused(make_llama: MakeLlama, name: Any, hint: str) -> None:
    said = re.escape(
        f"there is no backend {name!r} of LoRA-MoE{hint}; backends are auto, concatenated, gathered, merged"
    )
    with pytest.raises(ValueError, match=said):
        make(name)
    model = make_llama()
    with pytest.raises(ValueError, match=said):
        build_lora_moe(model, LoRAMoEConfig(backend=name), 32, Routing())
    assert not any(isinstance(part, LoRAMoELinear) for part in model.modules())


@pytest.mark.parametrize("name", ["gathered", "merged"])
def test_backends_of_samples_are_refused_to_gates_of_tokens(make_llama: MakeLlama, name: Any) -> None:
    said = f"backend: {name} makes matrices for each row of weights"
    with pytest.raises(ValueError, match=said):
        LoRAMoELinear(
            nn.Linear(6, 5), 3, 2, 2, 0.0, Routing(), gate=TokenGate(GateSize(6, 3), top_k=2), backend=name
        )
    with pytest.raises(ValueError, match=said):
        build_lora_moe(make_llama(), LoRAMoEConfig(gate="token", backend=name), 32, Routing())


def test_the_backend_travels_from_settings_to_layers(make_llama: MakeLlama) -> None:
    model = make_llama()
    build_lora_moe(model, LoRAMoEConfig(backend="merged", rank=2), 32, Routing())
    layers = [part for part in model.modules() if isinstance(part, LoRAMoELinear)]
    assert {layer.backend for layer in layers} == {"merged"}
    assert "backend=merged" in repr(layers[0])
    assert "backend" not in repr(make("auto"))
