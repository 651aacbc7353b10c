"""Folders of routed models: what is saved comes back to the last bit, and what does not belong is refused."""

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from octavius.lora_moe import LoRAMoEConfig, RoutedModel, get_routed_model

Batch = dict[str, Tensor]
Make = Callable[..., Any]


@pytest.fixture
def folder(make_routed: Make, tmp_path: Path) -> Path:
    make_routed().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gate": "token", "universal": True, "top_k": 1},
        {"experts": 1},
        {"experts": [1, 3], "top_k": 1, "shared_a": True},
        {"gate": "cluster", "clusters": 2},
        {"gate": "individual", "tasks": ["a", "b", "c"], "backend": "merged"},
        {"losses": {"cv": 0.1}, "temperature": 0.5, "jitter": 0.1},
    ],
    ids=str,
)
def test_what_is_loaded_gives_the_logits_that_were_saved_to_the_last_bit(
    make_routed: Make, make_llama: Make, batch: Batch, tmp_path: Path, options: dict[str, Any]
) -> None:
    routed = make_routed(**options)
    if options.get("gate") == "cluster":
        routed.gate.fit(torch.eye(32)[:5])
    told = {"tasks": ["b", "a"]} if "tasks" in options else {}
    routed.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"routed_config.json", "model.safetensors"}
    again = RoutedModel.from_pretrained(make_llama(), tmp_path)
    assert again.lora_moe == routed.lora_moe
    assert not again.training
    assert torch.equal(again(**batch, **told).logits, routed(**batch, **told).logits)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(2, 4), st.integers(1, 3), st.sampled_from([torch.float32, torch.bfloat16]), st.floats(0.5, 64)
)
def test_any_sizes_come_back(
    make_llama: Make, batch: Batch, tmp_path: Path, experts: int, rank: int, dtype: torch.dtype, alpha: float
) -> None:
    config = LoRAMoEConfig(experts=experts, rank=rank, alpha=alpha, dropout=0.0)
    routed = get_routed_model(make_llama().to(dtype), config)
    for part in routed.parameters():
        if part.requires_grad:
            nn.init.normal_(part, std=0.1)
    routed.save_pretrained(tmp_path)
    again = RoutedModel.from_pretrained(make_llama().to(dtype), str(tmp_path))
    assert torch.equal(again(**batch).logits, routed(**batch).logits)


def test_the_base_is_not_written(folder: Path) -> None:
    names = load_file(folder / "model.safetensors")
    assert all(name.endswith(("lora_A", "lora_B")) or name == "gate.weight" for name in names)
    assert len(names) == 9


def test_other_layers_that_are_trained_are_saved_too(
    make_routed: Make, make_llama: Make, batch: Batch, tmp_path: Path
) -> None:
    routed = make_routed()
    routed.lm_head.weight.requires_grad_(True)
    routed.gate.requires_grad_(False)  # a part that is held fixed is still a part
    nn.init.normal_(routed.lm_head.weight)
    routed.save_pretrained(tmp_path)
    again = RoutedModel.from_pretrained(make_llama(), tmp_path)
    assert torch.equal(again(**batch).logits, routed(**batch).logits)
    assert again.lm_head.weight.requires_grad


def test_training_can_go_on_from_a_folder(folder: Path, make_llama: Make, batch: Batch) -> None:
    again = RoutedModel.from_pretrained(make_llama(), folder).train()
    again(**batch).loss.backward()
    assert again.gate.weight.grad is not None


def test_merging_gives_a_plain_model_and_leaves_this_one(
    make_routed: Make, batch: Batch, tmp_path: Path
) -> None:
    routed = make_routed()
    before = routed(**batch).logits
    question = torch.tensor([5, 9, 13])
    plain = routed.merge(question)
    assert type(plain) is LlamaForCausalLM
    assert torch.equal(routed(**batch).logits, before)
    expected = routed(**batch, question_ids=question[None]).logits
    assert torch.allclose(plain(**batch).logits, expected, atol=1e-4)
    assert plain.model.embed_tokens.weight is routed.model.embed_tokens.weight  # shared, not copied
    plain.save_pretrained(tmp_path)
    back = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(back(**batch).logits, plain(**batch).logits)
    with pytest.raises(ValueError, match="one question fixes the routing, found 2"):
        routed.merge(batch["input_ids"])
    with pytest.raises(ValueError, match="choose for each token anew"):
        make_routed(gate="token").merge(question)


def test_unloading_gives_the_base_back(make_routed: Make, make_llama: Make, batch: Batch) -> None:
    routed, plain = make_routed(), make_llama()
    bare = routed.unload()
    assert bare is routed
    assert type(bare) is LlamaForCausalLM
    assert bare.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(bare(**batch).logits, plain(**batch).logits)
    get_routed_model(bare, LoRAMoEConfig(experts=2, rank=2))


def test_copies_route_by_themselves(make_routed: Make, batch: Batch) -> None:
    routed = make_routed()
    twin = copy.deepcopy(routed)
    with routed.disable():
        assert not torch.equal(twin(**batch).logits, routed(**batch).logits)
    assert torch.equal(twin(**batch).logits, routed(**batch).logits)


def test_another_base_is_refused_and_stays_as_it_was(folder: Path, make_llama: Make, batch: Batch) -> None:
    other = make_llama()
    with torch.no_grad():
        other.model.layers[1].mlp.up_proj.weight[3] += 0.01
    expected = other(**batch).logits
    with pytest.raises(ValueError, match=r"trained on LlamaForCausalLM '' with the weights \w{16}, those of"):
        RoutedModel.from_pretrained(other, folder)
    assert type(other) is LlamaForCausalLM
    assert torch.equal(other(**batch).logits, expected)
    assert all(part.requires_grad for part in other.parameters())
    assert isinstance(RoutedModel.from_pretrained(other, folder, check_base=False), RoutedModel)


def test_a_base_of_other_layers_or_sizes_is_refused(folder: Path, make_llama: Make) -> None:
    config = make_llama().config
    config.intermediate_size, config.hidden_size = 64, 64
    wider = LlamaForCausalLM(config)
    with pytest.raises(ValueError, match="load the same base"):
        RoutedModel.from_pretrained(wider, folder)
    with pytest.raises(ValueError, match=r"Other shapes: .*\(6, 32\) in the file, \(6, 64\) here"):
        RoutedModel.from_pretrained(wider, folder, check_base=False)
    with pytest.raises(
        ValueError, match=r"of another base, LlamaForCausalLM ''.*has no get_input_embeddings"
    ):
        RoutedModel.from_pretrained(nn.Sequential(nn.Embedding(3, 3), nn.Linear(3, 3)), folder)
    with pytest.raises(ValueError, match="load the base by"):
        RoutedModel.from_pretrained("base/name", folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["routed_config.json", "model.safetensors"])
def test_missing_and_cut_files_are_named(folder: Path, make_llama: Make, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{name} (is not JSON|cannot be read as tensors)"):
        RoutedModel.from_pretrained(make_llama(), folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"has no {name}: expected a folder that `save_pretrained`"):
        RoutedModel.from_pretrained(make_llama(), folder)
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"has no routed_config.json and no model.safetensors"):
        RoutedModel.from_pretrained(make_llama(), folder)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("lora_moe.rnak", 3, r"lora_moe\.rnak, which is not known to Octavius .*did you mean 'rank'"),
        ("lora_moe.rank", "four", "lora_moe.rank: expected int, found four"),
        ("lora_moe.rank", None, "rank has no value"),
        # In the model's order, so that the message does not depend on the hash seed.
        ("lora_moe.rank", 3, r"Other shapes: model\.layers\.0\.self_attn\.q_proj\.lora_A"),
        ("lora_moe.gate", "soft", "lora_moe.gate: there is no gate 'soft'"),
        ("lora_moe.targets", ["k_proj"], "of another model|with the weights"),
        ("lora_moe", 4, "expected keys and values at lora_moe"),
        ("base", {}, "has no base.fingerprint"),
        ("also_trained", ["lm_head.weight"], r"Missing in the file: lm_head.weight"),
        ("embeddings", "words", "of another base"),
        ("future", 1, "future, which is not known"),
    ],
)
def test_settings_that_are_not_ours_are_named(
    folder: Path, make_llama: Make, key: str, value: Any, said: str
) -> None:
    path = folder / "routed_config.json"
    content = json.loads(path.read_text())
    place = content
    *parents, last = key.split(".")
    for parent in parents:
        place = place[parent]
    place[last] = value
    path.write_text(json.dumps(content))
    model = make_llama()
    with pytest.raises(ValueError, match=said):
        RoutedModel.from_pretrained(model, folder)
    assert type(model) is LlamaForCausalLM


def test_settings_left_out_take_their_defaults_and_missing_tables_are_named(
    folder: Path, make_llama: Make
) -> None:
    path = folder / "routed_config.json"
    content = json.loads(path.read_text())
    del content["lora_moe"]["losses"]  # as in a folder of a version before these settings
    del content["lora_moe"]["gate"]["init_args"]["jitter"]
    path.write_text(json.dumps(content))
    again = RoutedModel.from_pretrained(make_llama(), folder).lora_moe
    assert again.losses == {}
    assert again.gate_factory.options["jitter"] == 0.0
    del content["base"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has no base; save the model again"):
        RoutedModel.from_pretrained(make_llama(), folder)
    path.write_text("[]")
    with pytest.raises(ValueError, match="expected keys and values at the top"):
        RoutedModel.from_pretrained(make_llama(), folder)


@pytest.mark.parametrize(
    ("gate", "options"),
    [("instance", {"top_k": 1, "temperature": 0.5}), ("token", {"universal": True, "top_k": 1})],
)
def test_a_folder_of_an_earlier_version_loads(
    make_routed: Make, make_llama: Make, batch: Batch, tmp_path: Path, gate: str, options: dict[str, Any]
) -> None:
    routed = make_routed(gate=gate, **options)
    routed.save_pretrained(tmp_path)
    path = tmp_path / "routed_config.json"
    content = json.loads(path.read_text())
    content["lora_moe"] |= {"gate": gate, "top_k": 2, "gate_inputs": [], "per_layer": False, "clusters": 16}
    content["lora_moe"] |= {"universal": False, "temperature": 1.0, "jitter": 0.0, "tasks": None, **options}
    path.write_text(json.dumps(content))
    again = RoutedModel.from_pretrained(make_llama(), tmp_path)
    assert again.lora_moe == routed.lora_moe
    assert torch.equal(again(**batch).logits, routed(**batch).logits)


def test_a_folder_imports_no_gate(folder: Path, make_llama: Make) -> None:
    path = folder / "routed_config.json"
    content = json.loads(path.read_text())
    content["lora_moe"]["gate"]["class_path"] = "foreign_module.Own"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"no gate 'foreign_module\.Own'; import the module that defines it"):
        RoutedModel.from_pretrained(make_llama(), folder)


@pytest.mark.parametrize("change", ["missing", "extra", "reshaped"])
def test_tensors_have_to_be_all_of_this_model_and_no_other(
    folder: Path, make_llama: Make, make_routed: Make, change: str
) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "gate.weight"
    if change == "missing":
        del tensors[name]
    else:
        tensors["gate.other" if change == "extra" else name] = torch.zeros(2, 2)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"gate\.(weight|other)"):
        RoutedModel.from_pretrained(make_llama(), folder)
    with pytest.raises(ValueError, match=r"gate\.(weight|other)"):  # as a trainer that resumes does it
        make_routed().load_state_dict(tensors, False)


def test_whole_state_dicts_load_as_of_any_module(make_routed: Make, batch: Batch) -> None:
    routed, other = make_routed(), make_routed(live=False)
    assert not other.load_state_dict(routed.state_dict()).missing_keys
    assert torch.equal(other(**batch).logits, routed(**batch).logits)
    part = {name: tensor for name, tensor in routed.state_dict().items() if "layers.0" not in name}
    with pytest.raises(RuntimeError, match=r"Missing key.*layers\.0"):
        other.load_state_dict(part)


def test_a_whole_model_is_not_replaced_by_its_experts(
    make_routed: Make, make_llama: Make, tmp_path: Path
) -> None:
    make_llama().save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="holds a model of its own"):
        make_routed().save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_pickles_and_pushes_are_refused_and_other_processes_write_nothing(
    make_routed: Make, tmp_path: Path
) -> None:
    routed = make_routed()
    for option in ({"safe_serialization": False}, {"push_to_hub": True}):
        with pytest.raises(ValueError, match="as safetensors into a folder"):
            routed.save_pretrained(tmp_path / "a", **option)
    routed.save_pretrained(tmp_path / "a", is_main_process=False)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("kill", ["model.safetensors", "routed_config.json"])
@pytest.mark.parametrize("rank", [2, 3], ids=["same-settings", "others"])
def test_a_save_that_is_cut_off_leaves_the_old_folder_or_one_that_is_refused(
    make_routed: Make,
    make_llama: Make,
    batch: Batch,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    kill: str,
    rank: int,
) -> None:
    old, new = make_routed(), make_routed(rank=rank)
    for part in new.parameters():
        part.data += 0.01 * part.requires_grad
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).name == kill:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        new.save_pretrained(folder)
    monkeypatch.undo()
    if rank == 3:
        with pytest.raises(ValueError, match=r"has no routed_config\.json"):
            RoutedModel.from_pretrained(make_llama(), folder)
    else:
        whole = old if kill == "model.safetensors" else new
        found = RoutedModel.from_pretrained(make_llama(), folder)
        assert torch.equal(found(**batch).logits, whole(**batch).logits)
    assert not [path for path in folder.iterdir() if path.name.startswith(".partial")]
