"""A decoder is loaded whole or not at all, from a folder or a GGUF file, without its authors' generation settings."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from octavius.decoder.decoder import Decoder
from octavius.decoder.loading import to_float32
from octavius.instruction.tokenizer import Tokenizer

IDS = torch.tensor([[5, 9, 13, 7, 22], [8, 3, 40, 41, 30]])


@pytest.fixture
def copy(decoder_folder: Path, tmp_path: Path) -> Path:
    """A decoder's folder that a test may damage."""
    return Path(shutil.copytree(decoder_folder, tmp_path / "copy"))


def test_a_folder(decoder_folder: Path, tokenizer: Tokenizer) -> None:
    decoder, lm = Decoder(str(decoder_folder)), LlamaForCausalLM.from_pretrained(decoder_folder)
    assert (decoder.width, decoder.name) == (32, str(decoder_folder))
    assert decoder.tokenizer.encode("a ring") == tokenizer.encode("a ring")
    mask = torch.ones_like(IDS)
    embeddings = decoder.embed(IDS)
    assert embeddings.shape == (2, 5, 32)
    wanted = torch.tensor([[0, 1, 0, 0, 1], [0, 0, 1, 0, 0]]).bool()
    found = decoder.logits(embeddings, mask, wanted)
    torch.testing.assert_close(found, lm(input_ids=IDS).logits[wanted])


def test_types_of_weights(decoder_folder: Path) -> None:
    decoder = Decoder(str(decoder_folder), dtype="bfloat16")
    assert {part.dtype for part in decoder.parameters()} == {torch.bfloat16}


def test_a_tied_head_stays_tied(decoder_folder: Path) -> None:
    decoder = Decoder(str(decoder_folder))
    with torch.no_grad():
        decoder.lm.get_input_embeddings().weight[7] *= 2
    head = decoder.lm.get_output_embeddings().weight
    assert head is decoder.lm.get_input_embeddings().weight
    assert sum("embed" in name or "head" in name for name, _ in decoder.named_parameters()) == 1


def test_an_architecture_from_scratch(decoder_folder: Path) -> None:
    trained = Decoder(str(decoder_folder))
    torch.manual_seed(1)
    fresh = Decoder(str(decoder_folder), from_scratch=True)
    assert fresh.width == trained.width
    for (name, one), (_, two) in zip(trained.named_parameters(), fresh.named_parameters(), strict=True):
        assert one.shape == two.shape
        assert "norm" in name or not torch.equal(one, two)


def test_new_tokens_are_greedy_whatever_the_folder_advises(copy: Path, decoder_folder: Path) -> None:
    advice = {
        "repetition_penalty": 9.0,
        "do_sample": True,
        "temperature": 5.0,
        "num_beams": 3,
        "min_new_tokens": 30,
    }
    (copy / "generation_config.json").write_text(json.dumps(advice))
    mask, plain, advised = torch.ones_like(IDS), Decoder(str(decoder_folder)), Decoder(str(copy))
    found = [decoder.generate(decoder.embed(IDS), mask, 20) for decoder in (plain, advised)]
    assert torch.equal(found[0], found[1])
    assert found[0].shape[1] <= 20
    sampled = plain.generate(plain.embed(IDS), mask, 20, do_sample=True, temperature=50.0)
    assert not torch.equal(sampled[:, :10], found[0][:, :10])


def test_generation_ends_with_the_end(decoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first row's second token is made the end: it pads, while the other row goes on."""
    decoder = Decoder(str(decoder_folder))
    free = decoder.generate(decoder.embed(IDS), torch.ones_like(IDS), 6)
    end = int(free[0, 1])
    assert end not in free[1]
    monkeypatch.setattr(decoder.tokenizer, "eos_id", end)
    found = decoder.generate(decoder.embed(IDS), torch.ones_like(IDS), 6)
    assert found[0].tolist() == [*free[0, :2].tolist(), *[decoder.tokenizer.pad_id] * 4]
    assert found[1].tolist() == free[1].tolist()


def refused(name: Path | str, message: str, **options: Any) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Decoder(str(name), **options)
    assert str(name) in str(caught.value)


def paired(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a rotated projection as GGUF keeps them: the two halves of a head in turn."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, folder: Path) -> None:
    """A Llama's folder as one GGUF file."""
    gguf: Any = pytest.importorskip("gguf")
    lm, tokenizer = (
        LlamaForCausalLM.from_pretrained(folder),
        json.loads((folder / "tokenizer.json").read_text()),
    )
    config: LlamaConfig = lm.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    places = {word: place for word, place in tokenizer["model"]["vocab"].items()}
    places |= {added["content"]: added["id"] for added in tokenizer["added_tokens"]}
    words = {place: word for word, place in places.items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([words.get(place, f"<unused {place}>") for place in range(config.vocab_size)])
    writer.add_token_types(
        [3 if words.get(place) in ("<s>", "</s>", "<pad>") else 1 for place in range(config.vocab_size)]
    )
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_pad_token_id(config.pad_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in lm.state_dict().items():
        if name != "lm_head.weight":  # tied
            turned = [paired(weight, count) for kind, count in heads.items() if kind in name]
            stored = (turned or [weight])[0].contiguous().numpy()
            writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file(decoder_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, decoder_folder)
    decoder, expected = Decoder(str(path)), Decoder(str(decoder_folder))
    torch.testing.assert_close(dict(decoder.lm.state_dict()), dict(expected.lm.state_dict()))
    ours, theirs = decoder.tokenizer, expected.tokenizer
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (theirs.bos_id, theirs.eos_id, theirs.pad_id)
    assert ours.decode(ours.encode("two red rings (B)")) == "two red rings (B)"
    assert Decoder(str(path), from_scratch=True).width == 32
    rounded = Decoder(str(path), dtype="bfloat16")
    with pytest.raises(ValueError, match="not supported for quantized"):
        rounded.lm.float()  # by transformers, though a GGUF file's weights are in floating point once they are loaded
    to_float32(rounded.lm)
    expected.lm.bfloat16().float()
    torch.testing.assert_close(dict(rounded.lm.state_dict()), dict(expected.lm.state_dict()), rtol=0, atol=0)
    path.write_bytes(path.read_bytes()[:1000])
    refused(path, "no language model could be loaded")


def test_without_a_compiler_it_warns_and_trains_as_it_is(
    decoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.warns(UserWarning, match="there is no 'no-such-compiler' here: training goes on without"):
        decoder = Decoder(str(decoder_folder), compile=True).train()
    everywhere = torch.ones_like(IDS)
    decoder.logits(decoder.embed(IDS), everywhere, everywhere.bool()).sum().backward()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_decoder_trains_and_answers_as_a_plain_one(decoder_folder: Path) -> None:
    plain, fast = Decoder(str(decoder_folder)), Decoder(str(decoder_folder), compile=True)
    assert list(plain.state_dict()) == list(fast.state_dict())
    gradients = []
    for decoder in (plain, fast):
        decoder.train()
        everywhere = torch.ones_like(IDS)
        decoder.logits(decoder.embed(IDS), everywhere, everywhere.bool()).square().mean().backward()
        gradients.append([parameter.grad for parameter in decoder.parameters()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
    answers = [decoder.generate(decoder.embed(IDS), torch.ones_like(IDS), 5) for decoder in (plain, fast)]
    assert answers[0].tolist() == answers[1].tolist()
