"""Generation under a fixed routing: the tokens and logits of layers without preparation, and nothing left behind."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from octavius.lora_moe import LoRAMoELinear, Routing, adapter_parameters, fixed, inject
from octavius.lora_moe.fixed import fixed_routing
from octavius.lora_moe.gates.base import GateSize
from octavius.lora_moe.gates.token import TokenGate
from octavius.lora_moe.merge import fold, merge

MakeLlama = Callable[[], LlamaForCausalLM]
DIFFERENT = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.3, 0.7], [0.5, 0.5, 0.0]])
ALIKE = torch.tensor([[0.0, 0.3, 0.7]] * 3)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj"]


class Subclass(nn.Linear):
    """Stands for quantised layers, whose weights mean something else."""


@pytest.fixture(autouse=True)
def _merged_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed, "MERGED_AFTER", 3)


def with_experts(model: nn.Module, targets: list[str], **options: Any) -> Routing:
    torch.manual_seed(0)
    routing = Routing()
    inject(model, targets, 3, 4, 8.0, 0.1, routing, **options)
    for name, part in model.named_parameters():
        if name.endswith("lora_B"):
            nn.init.normal_(part, std=0.3)
    model.eval()
    return routing


def generated(
    model: Any, routing: Routing, weights: Tensor, prepared: bool, beams: int = 1, new: int = 8
) -> tuple[Tensor, Tensor]:
    """Token ids and logits (steps, rows, words) that are generated after left-padded prompts."""
    ids = torch.randint(1, 60, (len(weights), 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids[0, :2], mask[0, :2] = 0, 0
    context: AbstractContextManager[None] = fixed_routing(model) if prepared else nullcontext()
    with routing.use(weights), context:
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            num_beams=beams,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return out.sequences, torch.stack(out.logits)


def untouched(model: nn.Module) -> bool:
    return not any("forward" in vars(layer) for layer in model.modules())


@pytest.mark.parametrize("shared_a", [False, True])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("weights", [DIFFERENT, ALIKE, DIFFERENT[1:2]])
@pytest.mark.parametrize("targets", [ALL, ["q_proj", "o_proj", "gate_proj", "down_proj"]])
def test_tokens_and_logits_are_those_without_preparation(
    make_llama: MakeLlama, targets: list[str], weights: Tensor, beams: int, shared_a: bool
) -> None:
    model = make_llama()
    routing = with_experts(model, targets, shared_a=shared_a)
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and layer.in_features == 32 and layer.out_features == 32:
            layer.bias = nn.Parameter(torch.randn(32) / 10, requires_grad=False)
    expected, logits = generated(model, routing, weights, False, beams)
    found, same = generated(model, routing, weights, True, beams)
    assert torch.equal(found, expected)
    torch.testing.assert_close(same, logits, rtol=1e-5, atol=1e-5)
    assert untouched(model)


def test_layers_that_share_their_input_are_computed_together_and_merged(make_llama: MakeLlama) -> None:
    model: Any = make_llama()
    routing, x = with_experts(model, ALL), torch.randn(1, 1, 32)
    attention = model.model.layers[0].self_attn
    with torch.no_grad(), routing.use(ALIKE[:1]), fixed_routing(model):
        expected = [getattr(attention, name)(x) for name in ALL]
        for _ in range(5):
            found = [getattr(attention, name)(x) for name in ALL]
            torch.testing.assert_close(found, expected)
        first, *others = (getattr(attention, name).forward.group for name in ALL)
    assert all(other is first for other in others)  # o_proj too, as it was given the same tensor here
    assert first.matrix.shape == (32, 32 + 16 + 16 + 32)  # merged: no columns for A


def test_an_input_that_is_written_anew_gives_new_outputs() -> None:
    layer = LoRAMoELinear(nn.Linear(6, 5), 3, 2, 2, 0.0, routing := Routing()).eval()
    nn.init.normal_(layer.lora_B)
    x = torch.randn(3, 1, 6)
    with torch.no_grad(), routing.use(DIFFERENT), fixed_routing(layer):
        for _ in range(6):
            x.normal_()
            torch.testing.assert_close(layer(x), LoRAMoELinear.forward(layer, x))


def test_a_layer_that_is_first_called_in_a_later_step_is_computed_alone(make_llama: MakeLlama) -> None:
    model: Any = make_llama()
    routing, x = with_experts(model, ALL), torch.randn(3, 1, 32)
    attention = model.model.layers[0].self_attn
    with torch.no_grad(), routing.use(DIFFERENT), fixed_routing(model):
        for step in range(6):
            for name in ("q_proj", "k_proj", "v_proj")[: 2 + step // 2]:
                layer = getattr(attention, name)
                torch.testing.assert_close(layer(x), LoRAMoELinear.forward(layer, x), rtol=1e-5, atol=1e-5)


def test_what_is_no_step_under_the_fixed_routing_is_computed_as_always() -> None:
    layer = LoRAMoELinear(nn.Linear(6, 5), 3, 2, 2, 0.0, routing := Routing()).eval()
    nn.init.normal_(layer.lora_B)
    x = torch.randn(3, 1, 6)
    with routing.use(DIFFERENT), fixed_routing(layer):
        for _ in range(3):
            with torch.no_grad():
                step = layer(x)
            with routing.use(ALIKE), torch.no_grad():
                assert torch.equal(layer(x), LoRAMoELinear.forward(layer, x))
                assert not torch.equal(layer(x), step)
            with torch.no_grad():
                assert layer(x[:, 0]).shape == (3, 5)
                assert layer(x.expand(3, 4, 6)).shape == (3, 4, 5)
            layer.enabled = False
            assert torch.equal(layer(x), layer.base(x))
            layer.enabled = True
            layer(x).sum().backward()
    assert layer.lora_A.grad is not None


def test_two_answers_with_different_routings(make_llama: MakeLlama) -> None:
    model = make_llama()
    routing = with_experts(model, ALL)
    found = [generated(model, routing, weights, True)[0] for weights in (ALIKE, DIFFERENT, ALIKE)]
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[1], generated(model, routing, DIFFERENT, False)[0])


def test_an_exception_restores_everything(make_llama: MakeLlama) -> None:
    model: Any = make_llama()
    routing = with_experts(model, ALL)
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in model.state_dict().items()}
    steps = []

    def stop(*_: Any) -> None:
        steps.append(1)
        if len(steps) == 7:
            raise KeyError("stop")

    handle = model.lm_head.register_forward_hook(stop)
    with pytest.raises(KeyError):
        generated(model, routing, ALIKE, True)
    handle.remove()
    assert untouched(model)
    assert not routing.is_set
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() == before[name][0]
        assert torch.equal(tensor, before[name][1])
    assert list(model.state_dict()) == list(before)


def test_training_and_merging_after_generation(make_llama: MakeLlama) -> None:
    ids = torch.tensor([[5, 9, 13, 7], [8, 3, 40, 41], [7, 7, 2, 9]])
    found = []
    for prepared in (False, True):
        model: Any = make_llama()
        routing = with_experts(model, ALL)
        if prepared:
            generated(model, routing, ALIKE, True)
        with routing.use(DIFFERENT):
            model(ids, labels=ids).loss.backward()
        grads = [part.grad for part in adapter_parameters(model).values()]
        folded = [matrix for _, *pair in fold(model, ALIKE[0]) for matrix in pair]
        merge(model, ALIKE[0])
        found.append([*grads, *folded, model(ids).logits])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights", [DIFFERENT, ALIKE])
@pytest.mark.parametrize("kind", ["linear", "conv1d", "subclass", "wide"])
def test_bases_of_all_kinds(
    monkeypatch: pytest.MonkeyPatch, kind: str, weights: Tensor, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    base = {"conv1d": Conv1D(24, 16), "subclass": Subclass(16, 24)}.get(kind, nn.Linear(16, 24))
    layer = LoRAMoELinear(base, 3, 2, 4, 0.0, routing := Routing()).eval()
    nn.init.normal_(layer.lora_B, std=0.2)
    if kind == "wide":
        monkeypatch.setattr(fixed, "NARROW", 0)
    x = torch.randn(3, 1, 16)
    layer.base.to(dtype)
    with torch.no_grad(), routing.use(weights), fixed_routing(layer):
        expected = LoRAMoELinear.forward(layer, x.to(dtype))
        for _ in range(6):
            found = layer(x.to(dtype))
        group = layer.forward.group  # type: ignore[attr-defined]
    assert found.dtype is dtype
    allowed = 1e-5 if dtype is torch.float32 else 0.03
    torch.testing.assert_close(found, expected, rtol=allowed, atol=allowed)
    assert group.copied == (kind in ("linear", "conv1d"))
    # Merged into float32 weights alone.
    assert (not group.ups) == (group.copied and weights is ALIKE and dtype is torch.float32)


def test_autocast_is_followed() -> None:
    torch.manual_seed(0)
    layer = LoRAMoELinear(nn.Linear(16, 24), 3, 2, 4, 0.0, routing := Routing()).eval()
    nn.init.normal_(layer.lora_B, std=0.2)
    x = torch.randn(3, 1, 16)
    with torch.no_grad(), routing.use(ALIKE), fixed_routing(layer):
        exact = LoRAMoELinear.forward(layer, x)
        for _ in range(6):
            with torch.autocast("cpu", torch.bfloat16):
                rounded = layer(x)
            torch.testing.assert_close(layer(x), exact)
            assert rounded.dtype is torch.bfloat16
            torch.testing.assert_close(rounded.float(), exact, rtol=0.02, atol=0.02)


def test_layers_that_nothing_can_be_prepared_for_are_left_alone() -> None:
    def make(**options: Any) -> LoRAMoELinear:
        return LoRAMoELinear(nn.Linear(6, 5), 3, 2, 2, 0.1, routing, **options).eval()

    routing = Routing()
    with fixed_routing(make()):
        pass
    gated, shared, training, hooked = (
        make(gate=TokenGate(GateSize(6, 3))),
        make(shared_a=True),
        make().train(),
        make(),
    )
    hooked.register_forward_hook(lambda *_: None)
    plain = nn.ModuleList([gated, shared, training, hooked])
    with fixed_routing(plain):
        assert untouched(plain)
    with routing.use(DIFFERENT), fixed_routing(plain):
        assert untouched(plain)
    with routing.use(DIFFERENT[:, None]), fixed_routing(make()):  # weights of each token
        pass
    with routing.use(DIFFERENT), fixed_routing(one := make()), fixed_routing(one):
        assert not untouched(one)
    assert untouched(one)
