"""Exported files, read by the GGUF reader of transformers, compute what the model does."""

import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from octavius.llama_cpp.export import check_exportable, write_gguf
from octavius.training import OctaviusModule
from tests.octavius.llama_cpp.models import ROUTINGS, logits, tuned, write_language
from tests.octavius.lora_moe.test_quantised import Int8Linear

IDS = torch.tensor([[1, 900, 43, 7, 22, 818, 60, 61], [1, 3, 40, 41, 1500, 9, 10, 11]])
EVERYWHERE = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def written(module: OctaviusModule, folder: Path) -> Path:
    """Exports a module."""
    folder.mkdir()
    check_exportable(module)
    write_gguf(module, folder)
    return folder


def base_of(folder: Path) -> Path:
    [base] = folder.glob("base-*.gguf")
    return base


def expert_of(folder: Path, index: int) -> Path:
    [expert] = folder.glob(f"expert{index}-*.gguf")
    return expert


def read(path: Path) -> nn.Module:
    model: nn.Module = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name).eval()
    return model


def mixed(folder: Path, weights: tuple[float, ...]) -> Path:
    """A copy of the base to whose matrices the scaled experts are added, by llama.cpp's arithmetic."""
    path = folder / "mixed.gguf"
    shutil.copyfile(base_of(folder), path)
    matrices = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path, "r+").tensors}
    for index, weight in enumerate(weights):
        reader = gguf.GGUFReader(expert_of(folder, index))
        alpha = reader.fields[gguf.Keys.Adapter.LORA_ALPHA].contents()
        halves = {tensor.name: tensor.data for tensor in reader.tensors}
        for name in {name.rpartition(".")[0] for name in halves}:
            up, down = halves[f"{name}.lora_b"], halves[f"{name}.lora_a"]
            matrices[name] += np.float32(weight * alpha / up.shape[1]) * (up @ down)
    for matrix in matrices.values():
        if isinstance(matrix, np.memmap):
            matrix.flush()
    return path


@torch.no_grad()
def agree(module: OctaviusModule, folder: Path, weights: tuple[float, ...]) -> Tensor:
    expected = logits(module, IDS, weights)
    found = read(mixed(folder, weights))(IDS).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    return expected


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_base_and_experts_compute_what_the_model_does(tmp_path: Path, kind: str) -> None:
    module = tuned(write_language(tmp_path / "language", kind), targets=EVERYWHERE)
    folder = written(module, tmp_path / "out")
    said = [agree(module, folder, weights) for weights in ROUTINGS]
    assert all(float((said[0] - other).abs().max()) > 0.1 for other in said[1:])


def test_experts_may_share_a_and_be_on_a_tied_output_layer(tmp_path: Path) -> None:
    language = write_language(tmp_path / "language", tie_word_embeddings=True)
    plain = written(tuned(language), tmp_path / "plain")
    assert "output.weight" not in {tensor.name for tensor in gguf.GGUFReader(base_of(plain)).tensors}
    module = tuned(language, shared_a=True, targets=["q_proj", "lm_head"])
    folder = written(module, tmp_path / "out")
    halves = {tensor.name: tensor for tensor in gguf.GGUFReader(expert_of(folder, 2)).tensors}
    assert {"output.weight.lora_a", "output.weight.lora_b", "blk.1.attn_q.weight.lora_b"} < set(halves)
    assert "output.weight" in {tensor.name for tensor in gguf.GGUFReader(base_of(folder)).tensors}


def test_an_adapter_is_what_llama_cpp_wants(tmp_path: Path) -> None:
    folder = written(tuned(write_language(tmp_path / "language")), tmp_path / "out")
    reader = gguf.GGUFReader(expert_of(folder, 1))
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "llama"
    assert fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    assert fields["adapter.lora.alpha"] == 3.0  # the rank: alpha / r is in B
    shapes = {tensor.name: tuple(tensor.data.shape) for tensor in reader.tensors}
    assert shapes["blk.0.attn_k.weight.lora_a"] == (3, 64)
    assert shapes["blk.0.attn_k.weight.lora_b"] == (32, 3)
    assert len({path.name for path in folder.glob("expert*.gguf")}) == 4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_matrices_keep_their_dtype(tmp_path: Path, dtype: str) -> None:
    module = tuned(write_language(tmp_path / "language"), dtype=dtype)
    folder = written(module, tmp_path / "out")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(base_of(folder)).tensors}
    assert kinds["blk.0.attn_q.weight"] == {"bfloat16": "BF16", "float16": "F16"}[dtype]
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    found, lm = read(base_of(folder)), module.model.decoder.lm
    expected = lm.get_submodule("model.layers.1.self_attn.q_proj").base.weight.float()  # type: ignore[union-attr]
    assert torch.equal(found.get_parameter("model.layers.1.self_attn.q_proj.weight").float(), expected)


def test_scaled_rotary_frequencies_become_divisors(tmp_path: Path) -> None:
    module = tuned(write_language(tmp_path / "language", rope_parameters=LLAMA3))
    folder = written(module, tmp_path / "out")
    [factors] = [
        tensor for tensor in gguf.GGUFReader(base_of(folder)).tensors if tensor.name == "rope_freqs.weight"
    ]
    frequencies = 1000.0 ** -(np.arange(0, 16, 2) / 16)
    scaled = module.model.decoder.lm.get_submodule("model.rotary_emb").get_buffer("inv_freq").numpy()
    np.testing.assert_allclose(frequencies / factors.data, scaled, rtol=1e-5)
    assert factors.data.max() == pytest.approx(8.0)


def test_the_vocabulary_is_whole(tmp_path: Path) -> None:
    module = tuned(write_language(tmp_path / "language"))
    fields = gguf.GGUFReader(base_of(written(module, tmp_path / "out"))).fields
    backend = module.model.decoder.tokenizer.backend
    tokens, types = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type"))
    assert tokens[: len(backend)] == [backend.convert_ids_to_tokens(index) for index in range(len(backend))]
    assert types[-3:] == [int(gguf.TokenType.UNUSED)] * 3
    assert fields["tokenizer.ggml.eos_token_id"].contents() == backend.eos_token_id
    assert [tokens[index] for index, kind in enumerate(types) if kind == int(gguf.TokenType.CONTROL)] == [
        "<pad>",
        "<s>",
        "</s>",
    ]


def gpt2(folder: Path) -> Path:
    language = write_language(folder)
    config = GPT2Config(vocab_size=2200, n_embd=32, n_layer=1, n_head=2, eos_token_id=2, bos_token_id=1)
    GPT2LMHeadModel(config).save_pretrained(language)
    return language


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("llama", {"hidden_act": "gelu"}, "hidden_act silu only, found gelu"),
        ("mistral", {"sliding_window": 64}, "sliding_window None only, found 64"),
        (
            "llama",
            {"rope_parameters": {**LLAMA3, "rope_type": "dynamic"}},
            "rope_type default or linear or llama3 only",
        ),
        (
            "qwen2",
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type default only",
        ),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(
    tmp_path: Path, kind: str, options: dict[str, Any], said: str
) -> None:
    module = tuned(write_language(tmp_path / "language", kind, **options))
    with pytest.raises(ValueError, match=said):
        check_exportable(module)


def test_other_architectures_are_refused_with_those_that_are_supported(tmp_path: Path) -> None:
    module = tuned(gpt2(tmp_path / "language"), targets=["c_attn"])
    with pytest.raises(ValueError, match=r"architecture gpt2 .* supported are llama, mistral, qwen2, qwen3"):
        check_exportable(module)


def test_a_quantised_base_is_refused(tmp_path: Path) -> None:
    module = tuned(write_language(tmp_path / "language"))
    layer: Any = module.model.decoder.lm.get_submodule("model.layers.1.self_attn.v_proj")
    layer.base = Int8Linear(layer.base)
    with pytest.raises(
        ValueError, match=r"layers\.1\.self_attn\.v_proj is a Int8Linear .* quantised base cannot"
    ):
        check_exportable(module)
