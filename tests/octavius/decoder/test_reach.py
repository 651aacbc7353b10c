"""Layers that get experts are given whole samples, or are refused; those that no text runs through are left out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from octavius.checkpoint.export import write_merged
from octavius.decoder import decoder as decoder_module
from octavius.decoder.decoder import Decoder
from octavius.decoder.reach import layouts
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Sample
from octavius.instruction.tokenizer import Tokenizer
from octavius.lora_moe.merge import layers_of
from octavius.model import Octavius
from tests.octavius.decoder.architectures import tiny_model
from tests.octavius.settings import lora_moe

HEAD = ["q_proj", "lm_head"]
ROWS = [
    ("Which of these is red, the ball or the box?", "the ball"),
    ("What?", "a lamp beside the big blue chair"),
    ("Where is it, and who has put it there?", "no"),
]


def with_experts(make_model: Callable[..., Octavius], experts: int = 3, **options: Any) -> Octavius:
    return make_model(experts, targets=HEAD, **options).eval()


@pytest.mark.parametrize("experts", [1, 3])
def test_experts_in_the_output_layer_are_those_of_each_sample(
    make_model: Callable[..., Octavius],
    make_sample: Callable[..., Sample],
    write: Callable[..., Batch],
    experts: int,
) -> None:
    """In padded and packed batches, with likelihoods and answers, as each sample alone."""
    model = with_experts(make_model, experts)
    assert any(name.endswith("lm_head") for name in layers_of(model.decoder.lm))
    processor = model.processor()
    items = [processor.build_example(make_sample(f"s{n}"), *row) for n, row in enumerate(ROWS)]
    alone = torch.cat([model(processor.collate([item])).losses for item in items]).detach()
    for packed in (False, True):
        out = model(processor.collate(items, packed))
        order = torch.argsort(out.rows, stable=True)
        torch.testing.assert_close(out.losses[order], alone, rtol=1e-4, atol=1e-4)
    asked = [(make_sample(f"s{n}"), question, None) for n, (question, _) in enumerate(ROWS)]
    batch = write(processor, *asked)
    found = model.likelihoods(batch, [[answer] for _, answer in ROWS])
    lengths = [count for [(_, count)] in found]
    sums = [-float(part.sum()) for part in alone.split(lengths)]
    assert [score for [(score, _)] in found] == pytest.approx(sums, rel=1e-4)
    together, _ = model.generate(batch, 4)
    assert together == [model.generate(write(processor, one), 4)[0][0] for one in asked]


def test_gradients_of_a_packed_batch_reach_the_output_layers_experts(
    make_model: Callable[..., Octavius], make_sample: Callable[..., Sample]
) -> None:
    model = with_experts(make_model)
    processor = model.processor()
    items = [processor.build_example(make_sample(f"s{n}"), *row) for n, row in enumerate(ROWS)]
    layer: Any = model.decoder.lm.get_output_embeddings()
    found: list[list[Tensor]] = []
    for packed in (False, True):
        model.zero_grad()
        model(processor.collate(items, packed)).losses.sum().backward()
        found.append([layer.lora_A.grad.clone(), layer.lora_B.grad.clone()])
    for one, other in zip(*found, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_gate_of_tokens_cannot_be_in_the_output_layer(make_model: Callable[..., Octavius]) -> None:
    with pytest.raises(ValueError, match="'lm_head' is run on gathered positions of the output layer"):
        with_experts(make_model, gate="token")


def test_a_merged_output_layer_keeps_its_own_weights(
    make_model: Callable[..., Octavius], tmp_path: Path
) -> None:
    """The word embeddings are tied to it, and a folder that says so would be loaded without what was learnt."""
    model: Any = with_experts(make_model)
    ids = torch.tensor([[5, 9, 13, 7]])
    gate = torch.tensor([0.5, 0.0, 0.5])
    with model.routing.use(gate[None]), torch.no_grad():
        expected = model.decoder.lm(ids).logits
    module: Any = type("Module", (), {"model": model})
    write_merged(module, gate, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.tie_word_embeddings is False
    torch.testing.assert_close(loaded(ids).logits, expected, rtol=1e-4, atol=1e-4)


def reached(lm: PreTrainedModel, tokenizer: Tokenizer) -> dict[str, str]:
    linears = {name: part for name, part in lm.named_modules() if isinstance(part, nn.Linear)}
    return {**layouts(lm, tokenizer, lm.config._attn_implementation, linears)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama", {"samples", "head"}),
        ("qwen2_moe", {"samples", "head", "tokens"}),
        ("gpt_neox", {"samples", "head"}),
    ],
)
def test_what_layers_are_run_on(name: str, expected: set[str], tokenizer: Tokenizer) -> None:
    assert set(reached(tiny_model(name, len(tokenizer.backend)), tokenizer).values()) == expected


def test_selected_transposed_and_unused_layers_are_told(tokenizer: Tokenizer) -> None:
    lm: Any = tiny_model("llama", len(tokenizer.backend))
    mlp = lm.model.layers[0].mlp
    forward = mlp.forward
    mlp.forward = lambda x: forward(x.transpose(0, 1)).transpose(0, 1)
    other = lm.model.layers[1].mlp
    other_forward = other.forward
    other.forward = lambda x: other_forward(x.flatten(0, 1).flip(0)).flip(0).view(x.shape)
    lm.model.vision = nn.Linear(4, 4)
    found = reached(lm, tokenizer)
    assert found["model.layers.0.mlp.up_proj"] == "other"
    assert found["model.layers.1.mlp.up_proj"] == "other"
    assert found["model.vision"] == "none"
    assert found["model.layers.1.self_attn.q_proj"] == "samples"


def test_targets_are_left_out_or_refused_by_what_they_are_run_on(
    decoder_folder: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def model(targets: list[str], experts: int = 2) -> Octavius:
        lm: Any = tiny_model("llama", len(tokenizer.backend))
        lm.model.vision = nn.ModuleDict({"q_proj": nn.Linear(4, 4), "seen": nn.Linear(4, 4)})
        mlp = lm.model.layers[1].mlp
        forward = mlp.forward
        mlp.forward = lambda x: forward(x.flatten(0, 1).flip(0)).flip(0).view(x.shape)
        monkeypatch.setattr(decoder_module, "load_model", lambda *_: lm)
        return Octavius(
            Decoder(str(decoder_folder)), {}, lora_moe(experts=experts, rank=2, top_k=1, targets=targets)
        )

    names = layers_of(model(["q_proj"]).decoder.lm)
    assert [*names] == ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]
    with pytest.raises(ValueError, match=r"'seen' names only layers that no text runs .*vision\.seen"):
        model(["q_proj", "seen"])
    with pytest.raises(
        ValueError, match=r"layers\.1\.mlp\.up_proj' is run on rows that are not whole samples"
    ):
        model(["up_proj"])
    assert len(layers_of(model(["up_proj"], experts=1).decoder.lm)) == 2
    with pytest.raises(ValueError, match=r"targets that match no linear layer .*\['embed_tokens'\]"):
        model(["embed_tokens"])
