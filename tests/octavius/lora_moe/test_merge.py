"""Merging under fixed gate weights: merged weights, PEFT adapters, and what cannot be merged."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from octavius.checkpoint.peft_format import read_adapter, write_adapter
from octavius.lora_moe import LoRAMoELinear, Routing, adapter_parameters, inject
from octavius.lora_moe.merge import fold, layers_of, merge, unmerge

MakeLlama = Callable[[], LlamaForCausalLM]
TARGETS = ["q_proj", "v_proj", "down_proj"]
IDS = torch.tensor([[5, 9, 13, 7, 22], [8, 3, 40, 41, 2]])
GATE = torch.tensor([0.75, 0.0, 0.25])


def with_experts(model: nn.Module, targets: list[str] = TARGETS, rank: int = 3) -> Routing:
    routing = Routing()
    inject(model, targets, 3, rank, 4.0, 0.1, routing)
    for name, parameter in adapter_parameters(model).items():
        if name.endswith("lora_B"):
            nn.init.normal_(parameter, std=0.5)
    model.train(False)
    return routing


def routed(model: Any, routing: Routing, gate: Tensor = GATE) -> Tensor:
    with routing.use(gate.expand(len(IDS), -1)), torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_equals_routed(make_llama: MakeLlama, dtype: torch.dtype) -> None:
    model = make_llama().to(dtype)
    routing = with_experts(model)
    expected = routed(model, routing)
    plain = make_llama().to(dtype)(IDS).logits
    merge(model, GATE)
    assert not any(isinstance(module, LoRAMoELinear) for module in model.modules())
    assert {
        type(model.model.layers[0].self_attn.q_proj),
        model.model.layers[0].self_attn.q_proj.weight.dtype,
    } == {
        nn.Linear,
        dtype,
    }
    near = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.6}
    torch.testing.assert_close(model(IDS).logits, expected, **near)
    assert (expected - plain).abs().max() > 2.0  # the experts do much more than the tolerance


@given(
    st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=5).map(torch.tensor),
    st.integers(1, 4),
    st.floats(0.5, 8.0),
    st.booleans(),
)
def test_a_merged_layer_is_the_sum_over_experts(gate: Tensor, rank: int, alpha: float, bias: bool) -> None:
    """Against the loop of the paper's equation in double precision."""
    model = nn.Sequential(nn.Linear(7, 5, bias=bias))
    inject(model, ["0"], len(gate), rank, alpha, 0.0, Routing())
    layer = layers_of(model)["0"]
    nn.init.normal_(layer.lora_B)
    x = torch.randn(2, 7)
    expected = layer.base(x).double()
    for index, weight in enumerate(gate.double()):
        down = layer.lora_A[index * rank : (index + 1) * rank].double()
        up = layer.lora_B[:, index * rank : (index + 1) * rank].double()
        expected = expected + weight * (alpha / rank) * (x.double() @ down.T @ up.T)
    merge(model, gate)
    torch.testing.assert_close(model(x).double(), expected, rtol=1e-4, atol=1e-4)


def test_unmerging_brings_every_bit_back(make_llama: MakeLlama) -> None:
    model = make_llama().bfloat16()
    routing = with_experts(model)
    before, state = routed(model, routing), copy.deepcopy(model.state_dict())
    layers = merge(model, GATE)
    assert set(layers) == {
        f"model.layers.{place}.{part}"
        for place in (0, 1)
        for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")
    }
    unmerge(model, layers)
    assert torch.equal(routed(model, routing), before)
    assert set(model.state_dict()) == set(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_each_layer_may_have_its_own_gate(make_llama: MakeLlama) -> None:
    one, other = make_llama(), make_llama()
    with_experts(one)
    torch.manual_seed(0)
    first = next(iter(layers_of(one)))
    gates = {name: torch.rand(3) for name in layers_of(one)}
    other.load_state_dict(
        {name: part for name, part in one.state_dict().items() if ".lora_" not in name}, strict=False
    )
    with_experts(other)
    other.load_state_dict(one.state_dict())
    merge(one, gates)
    merge(other, gates | {first: gates[first] + 1})
    assert not torch.equal(one.get_submodule(first).weight, other.get_submodule(first).weight)
    rest = [name for name in gates if name != first]
    assert all(torch.equal(one.get_submodule(name).weight, other.get_submodule(name).weight) for name in rest)


@pytest.mark.parametrize("gate", [GATE, torch.tensor([0.0, 1.0, 0.0]), torch.zeros(3)])
def test_peft_loads_the_folded_experts(make_llama: MakeLlama, tmp_path: Path, gate: Tensor) -> None:
    model = make_llama()
    routing = with_experts(model)
    rank = write_adapter(tmp_path, "tiny", fold(model, gate))
    assert rank == max(1, 3 * int((gate != 0).sum()))
    peft: Any = PeftModel.from_pretrained(make_llama(), tmp_path)
    theirs = peft(IDS).logits
    torch.testing.assert_close(theirs, routed(model, routing, gate), rtol=1e-5, atol=1e-5)


def test_peft_loads_ranks_that_differ(make_llama: MakeLlama, tmp_path: Path) -> None:
    """Layers that use one, two and three experts."""
    model = make_llama()
    with_experts(model)
    gates = {
        name: torch.tensor([0.5, 0.25, 0.25]) * (torch.arange(3) <= index % 3)
        for index, name in enumerate(layers_of(model))
    }
    assert {len(down) for _, down, _ in fold(model, gates)} == {3, 6, 9}
    write_adapter(tmp_path, "tiny", fold(model, gates))
    merge(model, gates)
    peft: Any = PeftModel.from_pretrained(make_llama(), tmp_path)
    torch.testing.assert_close(peft(IDS).logits, model(IDS).logits, rtol=1e-5, atol=1e-4)


def test_transposed_layers_are_merged_and_exported_too(tmp_path: Path) -> None:
    def make() -> Any:
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=61, n_positions=16, n_embd=16, n_layer=1, n_head=2)
        return GPT2LMHeadModel(config).train(False)

    model = make()
    routing = with_experts(model, ["c_attn", "mlp.c_proj"])
    expected = routed(model, routing)
    write_adapter(tmp_path, "tiny", fold(model, GATE), turned=True)
    torch.testing.assert_close(
        PeftModel.from_pretrained(make(), tmp_path)(IDS).logits, expected, rtol=1e-5, atol=1e-5
    )
    merge(model, GATE)
    torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-5, atol=1e-5)


def test_what_was_written_is_read(make_llama: MakeLlama, tmp_path: Path) -> None:
    model = make_llama()
    with_experts(model)
    pairs = {name: (down, up) for name, down, up in fold(model, GATE)}
    write_adapter(tmp_path, "a/base", fold(model, GATE), scale=0.5)
    found = read_adapter(tmp_path)
    assert found.base == "a/base"
    assert found.scales == dict.fromkeys(pairs, 0.5)
    for name, (down, up) in pairs.items():
        assert torch.equal(found.pairs[name][0], down)
        assert torch.equal(found.pairs[name][1], up)


def test_a_quantised_base_is_refused_and_left_alone(make_llama: MakeLlama) -> None:
    class Quantised(nn.Linear):
        pass

    model = make_llama()
    model.model.layers[1].mlp.down_proj = Quantised(48, 32, bias=False)
    routing = with_experts(model)
    before = routed(model, routing)
    with pytest.raises(
        ValueError, match=r"layers\.1\.mlp\.down_proj, a Quantised: .*load it in bfloat16, or export a PEFT"
    ):
        merge(model, GATE)
    assert torch.equal(routed(model, routing), before)
    packed = make_llama()
    with_experts(packed, ["q_proj"])
    base: Any = layers_of(packed)["model.layers.0.self_attn.q_proj"].base
    base.weight = nn.Parameter(torch.zeros(32, 16, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match="quantised base would have to be rounded again"):
        merge(packed, GATE)


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (torch.ones(2), "2 gate weights are given, but model.layers.0.self_attn.q_proj has 3 experts"),
        (torch.ones(4, 3), "only fixed gate weights can be merged"),
        (torch.ones(1, 5, 3), "differ between samples or tokens"),
        ({}, "no gate weights are given for the layer model.layers.0.self_attn.q_proj"),
    ],
)
def test_weights_that_do_not_fit_are_told(make_llama: MakeLlama, gate: Any, said: str) -> None:
    model = make_llama()
    with_experts(model)
    with pytest.raises(ValueError, match=said):
        merge(model, gate)
    with pytest.raises(ValueError, match=said):
        dict((name, down) for name, down, _ in fold(model, gate))


def test_a_model_without_experts_is_told(make_llama: MakeLlama) -> None:
    with pytest.raises(ValueError, match="nothing to merge: LlamaForCausalLM has no LoRA-MoE layers"):
        merge(make_llama(), GATE)


def test_an_adapter_that_is_more_than_lora_is_told(make_llama: MakeLlama, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no adapter_config"):
        read_adapter(tmp_path)
    model = make_llama()
    with_experts(model)
    write_adapter(tmp_path, "tiny", fold(model, GATE))
    config = tmp_path / "adapter_config.json"
    plain = json.loads(config.read_text())
    for changes, said in (
        ({"peft_type": "IA3"}, "of the kind IA3, expected LORA"),
        ({"use_dora": True}, "uses DoRA"),
        ({"modules_to_save": ["lm_head"]}, "uses modules_to_save"),
    ):
        config.write_text(json.dumps(plain | changes))
        with pytest.raises(ValueError, match=said):
            read_adapter(tmp_path)
    config.write_text(json.dumps(plain | {"use_rslora": True, "lora_alpha": 6}))
    assert set(read_adapter(tmp_path).scales.values()) == {6 / 6**0.5}
    config.write_text("{")
    with pytest.raises(ValueError, match="cannot be read as an adapter"):
        read_adapter(tmp_path)
