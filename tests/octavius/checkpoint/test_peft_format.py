"""Every option of PEFT's LoRA gives the logits that PEFT gives, or is refused with its reason."""

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from octavius.checkpoint.convert import fill_experts, read_source
from octavius.checkpoint.peft_format import READ, REFUSED, WITHOUT_EFFECT
from octavius.model import Octavius
from tests.selection import mostly_slow

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
IDS = torch.tensor([[5, 9, 13, 7, 22], [8, 3, 40, 41, 30]])
LAYERS = 8
"""Linear layers of the tiny model that get experts."""

EXACT: list[dict[str, Any]] = [
    {"r": 2, "lora_alpha": 5},
    {"lora_alpha": 7, "use_rslora": True},
    {"target_modules": ["q_proj"]},
    {"target_modules": r".*\.1\.self_attn\.[qv]_proj"},
    {"exclude_modules": ["layers.0.self_attn.q_proj"]},
    {"layers_to_transform": [1]},
    {"layers_to_transform": 1, "layers_pattern": "layers"},
    {"rank_pattern": {"q_proj": 1, r"layers\.1\.self_attn\.v_proj": 3}},
    {"rank_pattern": {"q_proj": 1}, "alpha_pattern": {"q_proj": 3.5}, "use_rslora": True},
    {"alpha_pattern": {r"layers\.[1-9]\.self_attn\..*": 1, "self_attn.k_proj": 9}},
    {"alpha_pattern": {"proj": 9, "k_proj": 2, "^model.layers.0.self_attn.v_proj": 3, "o_proj|q_proj": 4}},
    {"bias": "all"},
    {"bias": "lora_only"},
    {"fan_in_fan_out": True},
    {"lora_dropout": 0.5},
    {"init_lora_weights": True},
    {"init_lora_weights": "gaussian"},
    {"init_lora_weights": "orthogonal"},
    {"init_lora_weights": "eva"},
    {"init_lora_weights": "mica"},
    {"qalora_group_size": 8},
    {"task_type": "CAUSAL_LM"},
]
"""Options with which an adapter stays plain."""

BEGUN = ["pissa", "pissa_niter_4", "olora", "corda", "lora_ga", "loftq", "something new"]

KINDS = [kind.value for kind in peft.PeftType if kind.value != "LORA"]


def adapter(base: Path, folder: Path, **options: Any) -> Path:
    """An adapter that does something, as PEFT saves it."""
    torch.manual_seed(1)
    lm = AutoModelForCausalLM.from_pretrained(base)
    model: Any = get_peft_model(lm, LoraConfig(**{"r": 2, "target_modules": TARGETS, **options}))
    for name, part in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(part, std=0.15)
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def theirs(base: Path, folder: Path) -> Tensor:
    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    logits: Tensor = model.eval()(IDS).logits
    return logits


def filled(model: Octavius, *folders: Path) -> str:
    """Loads adapters as the first experts of a model."""
    module: Any = SimpleNamespace(model=model.eval())
    adapters = read_source(folders)
    assert isinstance(adapters, list)
    return fill_experts(module, adapters, None)


@torch.no_grad()
def ours(model: Octavius, weights: list[float]) -> Tensor:
    """The logits with these weights of the experts."""
    with model.routing.use(torch.tensor([weights] * 2)):
        logits: Tensor = model.decoder.lm(IDS).logits
    return logits


@pytest.fixture
def fresh(make_model: Callable[..., Octavius]) -> Octavius:
    """A model of three experts of rank 3, which add nothing yet."""
    model = make_model(3, rank=3)
    for name, part in model.named_parameters():
        if name.endswith("lora_B"):
            torch.nn.init.zeros_(part)
    return model


@pytest.mark.parametrize("options", mostly_slow(EXACT, 12), ids=str)
def test_a_plain_adapter_gives_the_logits_of_peft(
    options: dict[str, Any], fresh: Octavius, decoder_folder: Path, tmp_path: Path
) -> None:
    folder = adapter(decoder_folder, tmp_path / "adapter", **options)
    expected = theirs(decoder_folder, folder)
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(decoder_folder)(IDS).logits
    assert (expected - base).abs().max() > 0.05, "the adapter of this test does nothing"
    filled(fresh, folder)
    torch.testing.assert_close(ours(fresh, [1.0, 0.0, 0.0]), expected, rtol=1e-5, atol=1e-5)


def test_several_adapters_become_experts_in_their_order(
    fresh: Octavius, decoder_folder: Path, tmp_path: Path
) -> None:
    """Other ranks, scales and layers each; expert n alone is PEFT's model with adapter n."""
    each: list[dict[str, Any]] = [
        {"r": 3, "lora_alpha": 5},
        {"r": 1, "lora_alpha": 7, "use_rslora": True, "target_modules": ["q_proj", "v_proj"]},
        {
            "target_modules": r".*\.1\.self_attn\.(k|o)_proj",
            "rank_pattern": {r"layers\.\d+\.self_attn\.k_proj": 1},
            "alpha_pattern": {"o_proj": 9},
        },
    ]
    folders = [
        adapter(decoder_folder, tmp_path / str(index), **options) for index, options in enumerate(each)
    ]
    said = filled(fresh, *folders)
    assert said == f"experts 0 to 2 of {LAYERS} layers from 3 adapters of rank 1 to 3; all else begins anew"
    found = []
    for index, folder in enumerate(folders):
        alone = [float(index == expert) for expert in range(3)]
        found.append(ours(fresh, alone))
        torch.testing.assert_close(found[-1], theirs(decoder_folder, folder), rtol=1e-5, atol=1e-5)
    assert (
        min(float((found[one] - found[other]).abs().max()) for one, other in ((0, 1), (0, 2), (1, 2))) > 0.05
    )


def test_more_adapters_than_experts_are_refused(fresh: Octavius, plain: Path) -> None:
    with pytest.raises(ValueError, match=r"4 adapters, but model.* has 3 experts; set lora\.experts: 4"):
        filled(fresh, *[plain] * 4)


def test_every_option_of_peft_is_known_and_tested() -> None:
    known = {field.name for field in fields(LoraConfig)}
    assert known <= {*READ, *REFUSED, *WITHOUT_EFFECT}
    assert len({*READ, *REFUSED, *WITHOUT_EFFECT}) == len(READ) + len(REFUSED) + len(WITHOUT_EFFECT)
    tested = {name for options in EXACT for name in options}
    untested = {*READ, *WITHOUT_EFFECT} - tested
    metadata = {"peft_type", "base_model_name_or_path", "auto_mapping", "peft_version", "revision"}
    of_beginnings = {"loftq_config", "eva_config", "corda_config", "lora_ga_config"}
    assert untested <= metadata | of_beginnings | {"inference_mode", "runtime_config", "megatron_core"}


def changed(folder: Path, **settings: Any) -> Path:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


@pytest.fixture(scope="module")
def plain(decoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter(decoder_folder, tmp_path_factory.mktemp("plain") / "adapter")


@pytest.fixture
def copy(plain: Path, tmp_path: Path) -> Path:
    for file in plain.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def refused(fresh: Octavius, folder: Path, said: str) -> None:
    before = {name: part.clone() for name, part in fresh.named_parameters()}
    with pytest.raises(ValueError, match=said) as caught:
        filled(fresh, folder)
    assert str(folder) in str(caught.value)
    assert all(torch.equal(part, before[name]) for name, part in fresh.named_parameters())


@pytest.mark.parametrize("key", REFUSED)
def test_more_than_a_plain_adapter_is_refused(key: str, fresh: Octavius, copy: Path) -> None:
    refused(fresh, changed(copy, **{key: {"a": 1}}), "only a plain LoRA can become an expert")


@pytest.mark.parametrize("begun", BEGUN)
def test_what_takes_a_part_out_of_the_base_is_refused(begun: str, fresh: Octavius, copy: Path) -> None:
    refused(fresh, changed(copy, init_lora_weights=begun), "takes a part out of the base weights")


@pytest.mark.parametrize(
    "kind", [*KINDS[:3], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[3:]), None, "new"]
)
def test_other_methods_are_refused(kind: str | None, fresh: Octavius, copy: Path) -> None:
    refused(fresh, changed(copy, peft_type=kind), f"is of the kind {kind}, expected LORA")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"some_new_option": 3}, "has the setting some_new_option: 3, of which nothing is known here"),
        ({"alpha_pattern": {"(": 3}}, "expected numbers by name or regular expression in alpha_pattern"),
        ({"alpha_pattern": [3]}, "expected numbers by name or regular expression in alpha_pattern"),
        ({"alpha_pattern": {"q_proj": "3"}}, "has '3' as lora_alpha of .*expected a positive number"),
        ({"lora_alpha": None}, "and a number as lora_alpha"),
        ({"lora_alpha": float("nan")}, "has nan as lora_alpha"),
        ({"r": 5}, r"has rank 5, but its matrices are \(2, 32\)"),
        ({"rank_pattern": {"v_proj": 1}}, r"v_proj has rank 1, but its matrices are \(2, 32\)"),
        ({"base_model_name_or_path": "other/base"}, "is of the base other/base"),
    ],
)
def test_settings_that_do_not_hold_are_told(
    settings: dict[str, Any], said: str, fresh: Octavius, copy: Path
) -> None:
    refused(fresh, changed(copy, **settings), said)


def test_tensors_that_do_not_hold_are_told(fresh: Octavius, copy: Path) -> None:
    file = copy / "adapter_model.safetensors"
    state = load_file(file)
    [first, *_] = sorted(state)
    changes: list[tuple[dict[str, Tensor], str]] = [
        ({first: torch.full_like(state[first], torch.inf)}, "numbers that are not finite"),
        (
            {"base_model.model.model.norm.weight": torch.ones(32)},
            "expected lora_A and lora_B of linear layers",
        ),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2, 9)}, "lora_embedding_A"),
        ({first: torch.ones(2, 3, 4)}, "expected lora_A and lora_B of linear layers alone"),
        ({first: torch.ones(2, 31)}, "maps 31 to"),
    ]
    for change, said in changes:
        save_file({**state, **change}, file)
        refused(fresh, copy, said)
    save_file({}, file)
    refused(fresh, copy, "holds no LoRA of any layer")


def test_an_adapter_of_a_bias_is_refused(fresh: Octavius, copy: Path) -> None:
    file = copy / "adapter_model.safetensors"
    state = load_file(file)
    state["base_model.model.model.layers.0.self_attn.q_proj.bias"] = torch.ones(32)
    save_file(state, file)
    refused(fresh, changed(copy, bias="all"), r"holds .*q_proj\.bias")


def test_experts_that_share_a_take_none(make_model: Callable[..., Octavius], plain: Path) -> None:
    refused(make_model(3, shared_a=True), plain, "share A")


def test_only_the_layers_of_the_adapter_are_filled(
    fresh: Octavius, decoder_folder: Path, tmp_path: Path
) -> None:
    folder = adapter(decoder_folder, tmp_path / "adapter", layers_to_transform=[1])
    assert filled(fresh, folder).startswith(f"expert 0 of 4 of {LAYERS} layers")
