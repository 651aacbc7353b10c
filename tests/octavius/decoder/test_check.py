"""Losses, likelihoods and answers of every architecture that is let in are its own; others are refused by name."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from octavius.decoder import decoder as decoder_module
from octavius.decoder.check import check_model
from octavius.decoder.decoder import Decoder
from octavius.instruction.tokenizer import Tokenizer
from tests.octavius.decoder.architectures import NAMES, tiny_model

TEXTS = ("a red ball beside the chair", "two boxes", "the big blue lamp in a corner of the small room is on")

TELLING = {
    "llama": "packed",
    "granite": "packed",
    "cohere": "packed",
    "minicpm3": "packed",
    "olmo2": "packed",
    "gemma2": "padded",
    "gemma3_text": "packed",
    "gpt2": "packed",
    "bloom": "padded",
    "lfm2": "padded",
    "qwen3_next": "padded",
    "jamba": "padded",
    "mamba2": "padded",
    "falcon_h1": "as embeddings in a padded batch",
    "rwkv": "cannot answer in batches",
    "bert": "packed",
    "roberta": "cannot answer in batches",
    "whisper": "not trained to tell the next token",
    "gemma3": "cannot answer prompts that are given as embeddings",
    "git": "cannot be run on text alone",
}
"""Architectures of every kind, with what they can be used for, or why they are refused."""

COMPOSITE = (
    "its configuration holds parts whose sizes depend on each other; the text part is tried by its own name"
)
NOT_MADE = {
    "dots3_note": COMPOSITE,
    "gemma3n": COMPOSITE,
    "gemma4_assistant": "it drafts for another model, whose states it reads",
    "gemma4_unified_assistant": "it drafts for another model, whose states it reads",
    "musicgen": "it makes audio from the states of a text encoder",
    "musicgen_melody": "it makes audio from the states of a text encoder",
    "qwen4_exp": COMPOSITE,
}
"""Architectures of which no tiny model is made, and why."""

NOT_NEXT = "is not trained to tell the next token"
NOT_IN_BATCHES = "cannot answer in batches"
NO_EMBEDDINGS = "cannot answer prompts that are given as embeddings"
REFUSED = {
    "bamba": NO_EMBEDDINGS,
    "bart": NOT_NEXT,
    "bigbird_pegasus": NOT_NEXT,
    "blenderbot": NOT_NEXT,
    "blenderbot-small": NOT_NEXT,
    "blt": "input_ids is required",
    "camembert": NOT_IN_BATCHES,
    "cpmant": "cannot be trained on embeddings",
    "ctrl": NO_EMBEDDINGS,
    "data2vec-text": NOT_IN_BATCHES,
    "deepseek_v4": "cannot be trained on embeddings",
    "falcon_h1": "enters as embeddings in a padded batch",
    "gemma3": NO_EMBEDDINGS,
    "gemma4": NO_EMBEDDINGS,
    "gemma4_unified": NO_EMBEDDINGS,
    "git": "cannot be run on text alone",
    "marian": NOT_NEXT,
    "mbart": NOT_NEXT,
    "mvp": NOT_NEXT,
    "nemotron_h": NO_EMBEDDINGS,
    "openai-gpt": NO_EMBEDDINGS,
    "pegasus": NOT_NEXT,
    "plbart": NOT_NEXT,
    "prophetnet": "the output layer of ProphetNetForCausalLM is run on",
    "recurrent_gemma": NOT_IN_BATCHES,
    "reformer": "multiply to sequence length",
    "roberta": NOT_IN_BATCHES,
    "roberta-prelayernorm": NOT_IN_BATCHES,
    "roc_bert": NO_EMBEDDINGS,
    "roformer": NOT_IN_BATCHES,
    "rwkv": NOT_IN_BATCHES,
    "trocr": NOT_NEXT,
    "whisper": NOT_NEXT,
    "xlm": NOT_NEXT,
    "xlm-roberta": NOT_IN_BATCHES,
    "xlm-roberta-xl": NOT_IN_BATCHES,
    "xlnet": NOT_NEXT,
    "xlstm": NO_EMBEDDINGS,
    "xmod": NOT_IN_BATCHES,
    "zamba": NO_EMBEDDINGS,
    "zamba2": NO_EMBEDDINGS,
}
"""All other architectures that are refused, and why."""

MakeDecoder = Callable[[PreTrainedModel], Decoder]


@pytest.fixture
def make_decoder(decoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> MakeDecoder:
    """Makes a decoder of a model in memory, with the miniature's tokenizer."""

    def make(lm: PreTrainedModel) -> Decoder:
        monkeypatch.setattr(decoder_module, "load_model", lambda *_: lm)
        return Decoder(str(decoder_folder), attention=lm.config._attn_implementation)

    return make


@pytest.fixture
def vocabulary(tokenizer: Tokenizer) -> int:
    return len(tokenizer.backend)


def own_loss(lm: PreTrainedModel, ids: Tensor, start: int = 0) -> float:
    """The model's own loss on one text, unpadded, of its tokens from `start` on."""
    labels = ids.clone()
    labels[:start] = -100
    router = getattr(lm.config, "output_router_logits", None)
    assert not router, "a tiny model is made without the auxiliary loss of its router"
    with torch.no_grad():
        return float(lm(input_ids=ids[None], labels=labels[None]).loss)


@torch.no_grad()
def compare(decoder: Decoder) -> None:
    """Losses in a padded and a packed batch, likelihoods and answers against the model's own loss and logits."""
    lm: Any = decoder.lm.eval()
    texts = [torch.tensor(decoder.tokenizer.encode(text)) for text in TEXTS]
    expected = [own_loss(lm, text) for text in texts]
    ids = pad_sequence(texts, batch_first=True)
    mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    wanted = F.pad(mask[:, 1:].bool(), (0, 1))
    logits = decoder.logits(decoder.embed(ids), mask, wanted)
    losses = F.cross_entropy(logits, ids[:, 1:][wanted[:, :-1]], reduction="none")
    lengths = [len(text) - 1 for text in texts]
    assert [float(part.mean()) for part in losses.split(lengths)] == pytest.approx(expected, rel=2e-4)
    segment_ids = torch.cat([torch.full_like(text, index) for index, text in enumerate(texts)])[None]
    row = torch.cat(texts)[None]
    if decoder.capabilities.packing is None and lm._supports_sdpa:
        wanted = F.pad(segment_ids[:, 1:] == segment_ids[:, :-1], (0, 1))
        logits = decoder.logits(decoder.embed(row), torch.ones_like(row), wanted, segment_ids)
        losses = F.cross_entropy(logits, row[:, 1:][wanted[:, :-1]], reduction="none")
        assert [float(part.mean()) for part in losses.split(lengths)] == pytest.approx(expected, rel=2e-4)
    else:
        with pytest.raises(ValueError, match="texts cannot be packed: "):
            decoder.logits(decoder.embed(row), torch.ones_like(row), segment_ids > -1, segment_ids)
    compare_use(decoder, texts)


def compare_use(decoder: Decoder, texts: list[Tensor]) -> None:
    """Likelihoods of candidates and greedy answers after prompts of different lengths."""
    lm: Any = decoder.lm
    prompts = pad_sequence(texts, batch_first=True, padding_side="left")
    mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True, padding_side="left")
    candidates = [["a lamp", "two red boxes"], [], ["no"]]
    hold = lambda *_: nullcontext()  # noqa: E731
    found = decoder.likelihoods(decoder.embed(prompts), mask, candidates, hold)
    for text, words, scores in zip(texts, candidates, found, strict=True):
        for said, (score, count) in zip(words, scores, strict=True):
            answer = torch.tensor([*decoder.tokenizer.encode(f" {said}"), decoder.tokenizer.eos_id])
            whole = torch.cat([text, answer])
            assert count == len(answer)
            assert score == pytest.approx(-count * own_loss(lm, whole, len(text)), rel=5e-4)
    new = decoder.generate(decoder.embed(prompts), mask, 3)
    for text, tokens in zip(texts, new, strict=True):
        for token in tokens:
            logits = lm(input_ids=text[None]).logits[0, -1]
            assert float(logits.max() - logits[token]) < 1e-3  # the largest, or equal to it up to rounding
            if int(token) == decoder.tokenizer.eos_id:
                break
            text = torch.cat([text, token[None]])


@pytest.mark.parametrize("name", TELLING)
def test_losses_likelihoods_and_answers_are_the_models_own(
    name: str, vocabulary: int, make_decoder: MakeDecoder
) -> None:
    lm, kind = tiny_model(name, vocabulary), TELLING[name]
    if kind not in ("packed", "padded"):
        with pytest.raises(ValueError, match=rf"cannot be used: {type(lm).__name__} .*{kind}"):
            make_decoder(lm)
        return
    decoder = make_decoder(lm)
    assert (decoder.capabilities.packing is None) == (kind == "packed")
    compare(decoder)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_is_equal_or_refused_by_name(
    name: str, vocabulary: int, make_decoder: MakeDecoder
) -> None:
    if name in NOT_MADE:
        pytest.skip(NOT_MADE[name])
    lm = tiny_model(name, vocabulary)
    if name in REFUSED:
        with pytest.raises(ValueError, match=rf"cannot be used: {type(lm).__name__} .*{REFUSED[name]}"):
            make_decoder(lm)
        return
    compare(make_decoder(lm))


def test_a_bidirectional_model_is_refused(tokenizer: Tokenizer, vocabulary: int) -> None:
    lm = tiny_model("bert", vocabulary, is_decoder=False)
    with pytest.raises(ValueError, match="BertLMHeadModel looks at later tokens"):
        check_model(lm, tokenizer, "sdpa")


def test_a_scale_behind_the_logits_of_the_head_is_not_missed(
    vocabulary: int, make_decoder: MakeDecoder
) -> None:
    """An architecture that nobody thought of: its own forward method changes logits after the output layer."""
    lm: Any = tiny_model("llama", vocabulary)
    forward = lm.forward

    def scaled(*args: Any, labels: Tensor | None = None, **options: Any) -> Any:
        out = forward(*args, **options)
        out.logits = torch.tanh(out.logits) * 3 + 0.1 * torch.arange(vocabulary)
        if labels is not None:
            out.loss = F.cross_entropy(out.logits[0, :-1], labels[0, 1:])
        return out

    lm.forward = scaled
    compare(make_decoder(lm))


def test_leaking_state_is_found_in_half_precision_too(tokenizer: Tokenizer, vocabulary: int) -> None:
    leaking = check_model(tiny_model("qwen3_next", vocabulary).bfloat16(), tokenizer, "sdpa")
    assert "texts that share a row change each other" in str(leaking.packing)
    assert check_model(tiny_model("llama", vocabulary).bfloat16(), tokenizer, "sdpa").packing is None


def test_a_type_of_weights_stays_to_the_last_bit(tokenizer: Tokenizer, vocabulary: int) -> None:
    lm = tiny_model("llama", vocabulary).bfloat16()
    before = {name: part.clone() for name, part in lm.state_dict().items()}
    check_model(lm, tokenizer, "sdpa")
    assert all(torch.equal(part, before[name]) for name, part in lm.state_dict().items())
    assert {part.dtype for part in lm.parameters()} == {torch.bfloat16}


def test_weights_mode_and_random_numbers_stay(tokenizer: Tokenizer, vocabulary: int) -> None:
    lm = tiny_model("llama", vocabulary, attention_dropout=0.5).train()
    before = {name: part.clone() for name, part in lm.state_dict().items()}
    torch.manual_seed(3)
    check_model(lm, tokenizer, "sdpa")
    drawn = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(4))
    assert lm.training
    assert lm.config._attn_implementation == "sdpa"
    assert all(torch.equal(part, before[name]) for name, part in lm.state_dict().items())


def test_a_deep_model_is_run_with_one_layer_of_each_kind(
    tokenizer: Tokenizer, vocabulary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octavius.decoder.check.LARGE", 1)
    kinds = ["full_attention"] * 3 + ["linear_attention"] * 4
    lm: Any = tiny_model("qwen3_next", vocabulary, num_hidden_layers=7, layer_types=kinds)
    runs = [0] * 7
    for place, layer in enumerate(lm.model.layers):
        layer.register_forward_pre_hook(lambda *_, place=place: runs.__setitem__(place, runs[place] + 1))
    assert check_model(lm, tokenizer, "sdpa").packing is not None
    assert len(lm.model.layers) == 7
    assert runs[0] > 0 < runs[3]
    assert runs[4:] == [0, 0, 0]
