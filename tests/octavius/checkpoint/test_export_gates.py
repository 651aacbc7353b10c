"""Export with every gate and layout: fixed gate weights are exact, or the export is refused with a reason."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM

from octavius.checkpoint.export import fixed_gate, weights_of, write_experts, write_peft
from octavius.decoder.decoder import Decoder
from octavius.instruction.sample import References, Sample
from octavius.lora_moe.build import LoRAMoEConfig
from octavius.lora_moe.merge import layers_of, merge
from octavius.training import OctaviusModule
from tests.octavius.settings import lora_moe

QUESTION = "What is red?"
IDS = torch.tensor([[5, 9, 13, 7, 22]])
FIXED: dict[str, dict[str, Any]] = {
    "instance": {},
    "published": {"gate": "published", "scale": "published", "rank": 3},
    "dense": {"gate": "dense"},
    "uniform": {"gate": "uniform"},
    "individual": {"gate": "individual", "tasks": ["vqa", "detection", "captioning"]},
    "universal": {"universal": True, "top_k": 1},
    "each layer": {"per_layer": True},
    "by depth": {"experts": [2, 4]},
    "shared A": {"shared_a": True},
    "one": {"experts": 1},
}


def make(folder: Path, **settings: Any) -> OctaviusModule:
    """A tiny model whose experts do much."""
    torch.manual_seed(0)
    lora = lora_moe(**{"experts": 3, "rank": 2, "alpha": 5.0, "dropout": 0.0, **settings})
    module = OctaviusModule(Decoder(str(folder)), {}, lora).eval()
    for name, parameter in module.named_parameters():
        if name.endswith(("lora_B", "gate.weight")):
            nn.init.normal_(parameter, std=0.5)
    return module


def routed(module: OctaviusModule, task: str) -> torch.Tensor:
    """Logits under the routing that the model itself gives the question."""
    sample = Sample("s", task, "b", {}, QUESTION, References(("",)))
    batch = module.processor.collate([module.processor.build_example(sample, QUESTION, None)])
    with torch.no_grad():
        weights = module.model.route(batch)
        assert weights is not None
        with module.model.routing.use(weights):
            return module.model.decoder.lm(IDS).logits


@pytest.mark.parametrize("kind", FIXED)
def test_a_fixed_routing_leaves_exactly(decoder_folder: Path, tmp_path: Path, kind: str) -> None:
    module = make(decoder_folder, **FIXED[kind])
    expected = routed(module, "vqa")
    gate = fixed_gate(module, QUESTION, "vqa")
    written = write_peft(module, gate, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(decoder_folder)
    assert (plain(IDS).logits - expected).abs().max() > 0.5
    peft: Any = PeftModel.from_pretrained(plain, tmp_path)
    torch.testing.assert_close(peft(IDS).logits, expected, rtol=1e-5, atol=1e-4)
    assert written["rank"] == peft.peft_config["default"].r
    if kind == "shared A":
        assert written["rank"] == 2
    lm = module.model.decoder.lm
    merge(lm, gate)
    torch.testing.assert_close(lm(IDS).logits, expected, rtol=1e-4, atol=1e-4)


def test_the_manifest_says_each_layers_weights_where_they_differ(decoder_folder: Path) -> None:
    same = weights_of(fixed_gate(make(decoder_folder), QUESTION, None))
    assert isinstance(same, list)
    module = make(decoder_folder, per_layer=True)
    differ = weights_of(fixed_gate(module, QUESTION, None))
    assert isinstance(differ, dict)
    assert differ.keys() == layers_of(module.model.decoder.lm).keys()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gate": "token"}, "choose for each token anew, so that no question fixes the routing"),
        ({"inputs": ["media"]}, "reads media beside the question"),
        (
            {"gate": "individual", "tasks": ["vqa", "detection", "captioning"]},
            "goes by the task's name; name one by --task: vqa",
        ),
    ],
)
def test_what_no_question_fixes_is_told(decoder_folder: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fixed_gate(make(decoder_folder, **settings), QUESTION, None)


def test_gates_of_tokens_are_not_merged_but_leave_with_the_experts(
    decoder_folder: Path, tmp_path: Path
) -> None:
    module = make(decoder_folder, gate="token")
    lm = module.model.decoder.lm
    with pytest.raises(ValueError, match=r"layers\.0\.self_attn\.q_proj has a gate of its own"):
        merge(lm, torch.ones(3))
    write_experts(module, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "expert0",
        "expert1",
        "expert2",
        "gate.safetensors",
    ]


def test_other_trained_weights_are_no_adapter(decoder_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    lora = LoRAMoEConfig(experts=3, rank=2)
    module = OctaviusModule(Decoder(str(decoder_folder)), {}, lora, tag_tokens=True).eval()
    with pytest.raises(ValueError, match=r"has trained model\.embed_tokens\.weight, .*--format hf"):
        write_peft(module, fixed_gate(module, QUESTION, None), tmp_path)
