"""Packed and padded batches of the same samples have equal losses and gradients."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM

from octavius.decoder.decoder import Decoder
from octavius.decoder.packed_attention import PACKED, packed_mask, positions_in
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.precomputed_rois import PrecomputedRois
from octavius.instruction.batch import IGNORE_INDEX, Batch, Example, Processor
from octavius.instruction.sample import Media, References, Sample
from octavius.model import Octavius
from tests.octavius.settings import lora_moe
from tests.tiny import write_models

TEXTS = (
    "a red ball",
    "two blue boxes and a chair beside the big green table in a corner of the room",
    "no",
    "a lamp",
)


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models")) / "language"


def made(
    language: Path, attention: Literal["sdpa", "eager"], experts: int | list[int], **options: Any
) -> Octavius:
    """A model of two modalities and some experts that do something, without dropout."""
    torch.manual_seed(0)
    encoders = {
        "image": PrecomputedFeatures(5, 8),
        "cloud": PrecomputedRois(4, reader=ReaderSizes(width=8, queries=3, heads=2, dropout=0.0, hidden=8)),
    }
    lora = lora_moe(experts=experts, rank=2, dropout=0.0, **options)
    model = Octavius(Decoder(str(language), attention=attention), encoders, lora)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_B"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


def examples(processor: Processor) -> list[Example]:
    """Eight instances: with a picture, with a cloud of three objects or none, and of text alone."""
    numbers = np.random.default_rng(0)
    picture = Media(array=numbers.normal(size=(5, 8)).astype(np.float32))
    things = numbers.uniform(1, 2, size=(3, 10)).astype(np.float32)
    media = [{"image": picture}, {"cloud": Media(array=things)}, {}, {"cloud": Media(array=things[:0])}]
    return [
        processor.build_example(
            Sample(str(index), "captioning", "none", media[index % 4], "", References(("a",))),
            "What is there?" if index % 3 else "Describe the room and all that is in it.",
            TEXTS[index * 3 % 4],
        )
        for index in range(8)
    ]


def both(model: Octavius) -> tuple[Batch, Batch]:
    processor = model.processor()
    items = examples(processor)
    return processor.collate(items), processor.collate(items, packed=True)


def outcome(model: Octavius, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Losses in the order of the samples, the sample of each, and all gradients of a weighted sum of them."""
    model.zero_grad()
    out = model(batch)
    order = torch.argsort(out.rows, stable=True)
    losses, rows = out.losses[order], out.rows[order]
    (losses * (1.0 + rows)).sum().backward()
    found = {name: part.grad for name, part in model.named_parameters() if part.grad is not None}
    return losses.detach(), rows, {name: part.clone() for name, part in found.items()}


@pytest.mark.parametrize(("attention", "experts"), [("sdpa", 3), ("eager", 3), ("sdpa", 1)])
def test_losses_and_gradients_are_those_of_padded_rows(
    language: Path, attention: Literal["sdpa", "eager"], experts: int
) -> None:
    model = made(language, attention, experts)
    padded, packed = both(model)
    assert packed.input_ids.shape == (1, int(padded.attention_mask.sum()))
    assert bool(packed.attention_mask.all())
    for one, other in zip(outcome(model, padded), outcome(model, packed), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=3e-5)
    assert any(name.startswith("gate") for name in outcome(model, packed)[2]) == (experts > 1)


@pytest.mark.parametrize(
    "options",
    [
        {"gate": "token", "losses": {"switch": 0.1}},
        {"inputs": ["modality", "media"]},
        {"experts": [2, 3]},
    ],
)
def test_whatever_the_gate_reads(language: Path, options: dict[str, Any]) -> None:
    model = made(language, "sdpa", **{"experts": 3, **options})
    padded, packed = both(model)
    one, other = model(padded), model(packed)
    torch.testing.assert_close(other.gate, one.gate, rtol=1e-4, atol=3e-5)
    torch.testing.assert_close(other.auxiliary, one.auxiliary, rtol=1e-4, atol=3e-5)
    for first, second in zip(outcome(model, padded), outcome(model, packed), strict=True):
        torch.testing.assert_close(second, first, rtol=1e-4, atol=3e-5)


def test_also_when_layers_are_computed_again(language: Path) -> None:
    model = made(language, "sdpa", 3)
    padded, packed = both(model)
    expected = outcome(model, padded)
    model.decoder.lm.gradient_checkpointing_enable(
        {"use_reentrant": False, "context_fn": model.routing.checkpoint_context}
    )
    for one, other in zip(expected, outcome(model, packed), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=3e-5)


def test_what_a_neighbour_says_changes_nothing(language: Path) -> None:
    model = made(language, "sdpa", 3)
    processor = model.processor()
    items = examples(processor)
    other = processor.build_example(items[1].sample, "What is there?", "nothing that was said before")
    changed = [items[0], other, *items[2:]]
    losses, rows, _ = outcome(model, processor.collate(items, packed=True))
    again, rows_again, _ = outcome(model, processor.collate(changed, packed=True))
    torch.testing.assert_close(again[rows_again != 1], losses[rows != 1], rtol=1e-4, atol=3e-5)


def test_another_attention_is_refused(language: Path) -> None:
    model = made(language, "sdpa", 1)
    _, packed = both(model)
    model.decoder.attention = "flash_attention_2"
    with pytest.raises(ValueError, match=r"found .flash_attention_2. .*batching to grouped"):
        model(packed)


def test_a_model_without_sdpa_is_refused(language: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(language, "eager", 1)
    _, packed = both(model)
    monkeypatch.setattr(type(model.decoder.lm), "_supports_sdpa", False)
    with pytest.raises(ValueError, match=r"LlamaForCausalLM; set data\.init_args\.batching to grouped"):
        model(packed)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_what_follows_attends_as_before(language: Path, attention: Literal["sdpa", "eager"]) -> None:
    model = made(language, attention, 3)
    padded, packed = both(model)
    expected = model(padded).losses
    model(packed)
    assert torch.equal(model(padded).losses, expected)
    assert model.decoder.lm.config._attn_implementation == attention


def test_hidden_tokens_and_a_sliding_window_are_kept_to(language: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2}
    lm = MistralForCausalLM(MistralConfig(vocab_size=9, num_hidden_layers=2, sliding_window=3, **sizes))
    decoder = made(language, "sdpa", 1).decoder
    decoder.lm = lm
    lengths, x = [7, 2, 5], torch.randn(14, 16)
    real = torch.ones(14, dtype=torch.long)
    real[[2, 8, 11]] = 0
    segment_ids = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    everywhere = torch.ones(1, 14, dtype=torch.bool)
    found = decoder.logits(x[None], real[None], everywhere, segment_ids[None])
    assert lm.config._attn_implementation == PACKED
    lm.config._attn_implementation = "sdpa"
    for own, mask, text in zip(found.split(lengths), real.split(lengths), x.split(lengths), strict=True):
        places = torch.arange(len(text))[None]
        alone = lm(inputs_embeds=text[None], attention_mask=_band(mask, 3), position_ids=places)
        torch.testing.assert_close(own, alone.logits[0], rtol=1e-4, atol=3e-5)


def _band(mask: Tensor, window: int) -> Tensor:
    """Which tokens see which of the last `window`, hidden ones only themselves, spelt out."""
    count = len(mask)
    pairs = [
        [key == query or (query - window < key < query and bool(mask[key])) for key in range(count)]
        for query in range(count)
    ]
    return torch.tensor(pairs)[None, None]


def test_a_packed_batch_by_hand() -> None:
    segment_ids = torch.tensor([[1, 1, 1, 0, 0]])
    assert positions_in(segment_ids).tolist() == [[0, 1, 2, 0, 1]]
    assert packed_mask(segment_ids, torch.tensor([[1, 0, 1, 1, 1]])).tolist() == [
        [[[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]]]
    ]


def test_answers_to_come_are_never_packed(language: Path) -> None:
    processor = made(language, "sdpa", 1).processor()
    items = [processor.build_example(item.sample, "What is there?", None) for item in examples(processor)]
    batch = processor.collate(items, packed=True)
    assert batch.segment_ids is None
    assert bool((batch.labels == IGNORE_INDEX).all())
    assert bool((batch.attention_mask[:, -1] == 1).all())
