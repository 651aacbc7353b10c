"""Shapes of known language models add up to their published numbers of parameters."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from octavius.plan.architectures import ARCHITECTURES, IMAGE_PROCESSORS, architecture

PUBLISHED = {
    "lmsys/vicuna-7b-v1.5": 6_738_415_616,
    "lmsys/vicuna-13b-v1.5": 13_015_864_320,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "Qwen/Qwen3-VL-2B-Instruct": 2_127_532_032,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
}
"""The sizes that their safetensors files state."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_add_up_to_the_published_size(name: str) -> None:
    kind = AutoModelForImageTextToText if name in IMAGE_PROCESSORS else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(architecture(name))
    assert sum(part.numel() for part in model.parameters()) == PUBLISHED[name]


def test_the_first_vicunas_have_one_more_row() -> None:
    assert architecture("vicuna-13b-v0").vocab_size == architecture("lmsys/vicuna-13b-v1.5").vocab_size + 1


def test_a_folder_comes_before_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "vicuna-13b-v0"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 64}))
    monkeypatch.chdir(tmp_path)
    assert architecture("vicuna-13b-v0").hidden_size == 64


def test_an_unknown_name_is_told_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="nobody/nothing") as error:
        architecture("nobody/nothing")
    assert all(name in str(error.value) for name in ARCHITECTURES)
