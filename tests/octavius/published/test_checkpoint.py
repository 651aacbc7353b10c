"""With the switches of the published code, a checkpoint in its format computes what that code does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from octavius.boxes3d import edges
from octavius.checkpoint.convert import import_into, read_source
from octavius.checkpoint.export import fixed_gate
from octavius.decoder.decoder import Decoder
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.precomputed_rois import PrecomputedRois
from octavius.evaluation.answers import Decoding, Sampling
from octavius.evaluation.generation import answer_batch
from octavius.instruction.batch import Batch
from octavius.instruction.prompt import Template
from octavius.instruction.sample import Media, References, Sample
from octavius.instruction.tokenizer import Tokenizer
from octavius.lora_moe import LoRAMoELinear, Routing
from octavius.lora_moe.build import LoRAMoEConfig
from octavius.lora_moe.gates.base import GateSize
from octavius.lora_moe.gates.published import PublishedGate
from octavius.training import OctaviusModule
from tests.octavius import published_code as published

PRESET = Path(__file__).resolve().parents[3] / "configs" / "published.yaml"
EXPERTS, RANK, IMAGE, CLOUD, HEADS, QUERIES = 3, 2, 5, 8, 2, 4
SYSTEM = "You look."
QUESTIONS = ("What is this?", "Is the ball red, or is it blue?", "Where is it?")
ANSWERS = ("A ring.", "Red", "On the left of the box.")
READER = ReaderSizes(width=CLOUD, queries=QUERIES, heads=HEADS, layers=1, dropout=0.0, hidden=8)


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaMA with an output layer of its own, as Vicuna has."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer.backend),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    place = tmp_path_factory.mktemp("vicuna")
    LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.backend.save_pretrained(str(place))
    return place


def switches() -> dict[str, Any]:
    """The preset's settings of the model, for a tiny one."""
    model = yaml.safe_load(PRESET.read_text())["model"]["init_args"]
    templates = {
        name: Template(**model.pop(name) | {"system": SYSTEM}) for name in ("template", "test_template")
    }
    object.__setattr__(templates["template"], "padded", {"cloud": 7})
    lora = LoRAMoEConfig(experts=EXPERTS, rank=RANK, dropout=0.0, **model.pop("lora"))
    return model | templates | {"lora": lora}


def make(folder: Path, **changes: Any) -> OctaviusModule:
    encoders = {"image": PrecomputedFeatures(3, IMAGE), "cloud": PrecomputedRois(CLOUD, reader=READER)}
    torch.manual_seed(1)
    return OctaviusModule(Decoder(str(folder)), **{"encoders": encoders, **switches(), **changes})


@pytest.fixture(scope="module")
def state(folder: Path) -> dict[str, Tensor]:
    """The fabricated checkpoint: the spare token and the tags of two modalities more than the tokenizer has."""
    rows = make(folder).model.decoder.embed(torch.tensor([0])).shape  # the tokenizer grows with the model
    assert rows == (1, 32)
    base = LlamaForCausalLM.from_pretrained(folder)
    tokens = len(make(folder).model.decoder.tokenizer.backend)
    return published.fabricate(base, tokens, EXPERTS, RANK, IMAGE, CLOUD, QUERIES)


@pytest.fixture(scope="module")
def module(
    folder: Path, state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> OctaviusModule:
    """A model filled from the file."""
    file = tmp_path_factory.mktemp("file") / "pytorch_model.pt"
    torch.save(state, file)
    made = make(folder)
    assert "3 experts, gate and image, cloud projectors" in import_into(made, read_source([file]))
    return made.eval()


def samples() -> list[Sample]:
    """A picture, a cloud of three objects, and another picture."""
    rng = np.random.default_rng(2)

    def picture() -> dict[str, Media]:
        return {"image": Media(array=rng.normal(size=(3, IMAGE)).astype(np.float32))}

    scene = {"cloud": Media(array=rng.uniform(0.2, 1.0, size=(3, CLOUD + 6)).astype(np.float32))}
    gold = References(("a",))
    return [
        Sample(str(index), "captioning", "b", media, QUESTIONS[index], gold)
        for index, media in enumerate((picture(), scene, picture()))
    ]


def batch_of(module: OctaviusModule, answered: bool, rows: slice = slice(0, 3)) -> Batch:
    examples = [
        module.processor.build_example(sample, sample.question, ANSWERS[int(sample.id)] if answered else None)
        for sample in samples()[rows]
    ]
    return module.processor.collate(examples)


def vectors_of(state: dict[str, Tensor], sample: Sample) -> Tensor:
    """The media vectors of a sample, by the oracle."""
    [(name, media)] = sample.media.items()
    assert media.array is not None
    array = torch.from_numpy(media.array)
    if name == "image":
        return array @ state["llama_proj.weight"].T + state["llama_proj.bias"]
    return published.read_scene(state, array[:, :CLOUD], edges(array[:, CLOUD:]), HEADS)


def test_the_loss_is_the_published_one(
    module: OctaviusModule, state: dict[str, Tensor], folder: Path
) -> None:
    """From the file's tensors and words, step by step: gate, prompt, projectors, experts, loss."""
    tokens, table = module.processor.prompts.tokenizer, state[f"{published.LLM}model.embed_tokens.weight"]
    asked = [tokens.encode(question) for question in QUESTIONS]
    longest = max(map(len, asked))
    padded = torch.tensor([ids + [tokens.pad_id] * (longest - len(ids)) for ids in asked])
    weights = published.gate(state["gating_network.w_gating"], table[padded])
    sequences, masks, labels = [], [], []
    for sample, answer in zip(samples(), ANSWERS, strict=True):
        tag = "Img" if "image" in sample.media else "Pcl"
        vectors = vectors_of(state, sample)
        room = 0 if tag == "Img" else 7 - len(vectors)  # hidden positions behind the slots of a cloud
        head = [tokens.bos_id, *tokens.encode(f"{SYSTEM}\n\n### Human:")]
        head += tokens.encode(f"<{tag}>", special=True)
        tail = tokens.encode(f"</{tag}>", special=True)
        tail += tokens.encode(f"{sample.question}\n### Assistant:")
        said = tokens.encode(f"{answer}\n###")
        parts = [table[head], vectors, torch.zeros(room, 32), table[tail], table[said]]
        sequences.append(torch.cat(parts))
        before = len(head) + len(vectors) + room + len(tail)
        labels.append([-100] * before + said)
        masks.append([1] * (len(head) + len(vectors)) + [0] * room + [1] * (len(tail) + len(said)))
    length = max(map(len, sequences))
    logits = torch.zeros(3, length, len(table))
    base = LlamaForCausalLM.from_pretrained(folder)
    for row, model in enumerate(published.with_routing(base, state, weights)):
        short = length - len(sequences[row])
        embeddings = torch.cat([sequences[row], table[[tokens.pad_id] * short]])
        mask = torch.tensor([masks[row] + [0] * short])
        labels[row] += [-100] * short
        with torch.no_grad():
            logits[row] = model.eval()(inputs_embeds=embeddings[None], attention_mask=mask).logits[0]
    expected = published.loss(logits, torch.tensor(labels))

    batch = batch_of(module, answered=True)
    out = module.model(batch)
    factors, divisor = module._weights(out, batch)
    torch.testing.assert_close(out.gate, weights, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((out.losses * factors).sum() / divisor, expected, rtol=1e-4, atol=1e-5)


def test_the_gate_reads_pads_and_the_whole_prompt_in_use(
    module: OctaviusModule, state: dict[str, Tensor]
) -> None:
    tokens, table = module.processor.prompts.tokenizer, state[f"{published.LLM}model.embed_tokens.weight"]
    read = [
        tokens.encode("</Img>" if "image" in sample.media else "</Pcl>", special=True)
        + tokens.encode(f"{SYSTEM}\n\nHuman: {sample.question}\n###\n### Assistant:")
        for sample in samples()
    ]
    longest = max(map(len, read))
    padded = torch.tensor([ids + [tokens.pad_id] * (longest - len(ids)) for ids in read])
    expected = published.gate(state["gating_network.w_gating"], table[padded])
    together = module.model.route(batch_of(module, answered=False))
    assert isinstance(together, Tensor)
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-6)
    alone = module.model.route(batch_of(module, answered=False, rows=slice(0, 1)))
    assert isinstance(alone, Tensor)
    assert (alone[0] - together[0]).abs().max() > 1e-4  # what shares the batch changes the routing


def test_the_layer_is_the_published_one() -> None:
    torch.manual_seed(0)
    base = nn.Linear(7, 5, bias=False)
    layer = LoRAMoELinear(base, EXPERTS, RANK, 99.0, 0.0, Routing(), scale="published")
    lora_a, lora_b = torch.randn(EXPERTS, 7, RANK), torch.randn(EXPERTS, RANK, 5)
    layer.lora_A.data = lora_a.transpose(1, 2).reshape(EXPERTS * RANK, 7)
    layer.lora_B.data = lora_b.permute(2, 0, 1).reshape(5, EXPERTS * RANK)
    x, weights = torch.randn(2, 4, 7), torch.rand(2, EXPERTS)
    with layer.routing.use(weights):
        torch.testing.assert_close(layer(x), published.moe_layer(x, base.weight, lora_a, lora_b, weights))


def test_the_start_is_the_published_one() -> None:
    """Kaiming's uniform on the tensor (E, in, R) has the fan-in in * R; the gate is drawn from N(0, 1)."""
    layer = LoRAMoELinear(nn.Linear(50, 5), 4, 8, 8.0, 0.0, Routing(), init="published")
    drawn = nn.init.kaiming_uniform_(torch.empty(4, 50, 8), a=5**0.5)
    assert layer.lora_A.abs().max() <= (50 * 8) ** -0.5
    assert float(layer.lora_A.detach().std()) == pytest.approx(float(drawn.std()), rel=0.05)
    gate = PublishedGate(GateSize(400, 4))
    assert float(next(gate.parameters()).detach().std()) == pytest.approx(1.0, rel=0.05)


def test_an_answer_ends_at_the_marks(module: OctaviusModule, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = module.processor.prompts.tokenizer
    batch = batch_of(module, answered=False)
    ids = [tokens.encode("red ball\n### box"), tokens.encode("### box red"), tokens.encode("a box")]
    longest = max(map(len, ids))
    stops = []

    def generate(*_: Any, stop: str, **__: Any) -> Tensor:
        stops.append(stop)
        return torch.tensor([row + [tokens.pad_id] * (longest - len(row)) for row in ids])

    monkeypatch.setattr(module.model.decoder, "generate", generate)
    assert module.answer(batch, longest)[0] == ["red ball", "", "a box"]
    assert stops == ["###"]


def test_generation_stops_at_the_marks(module: OctaviusModule, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output layer is made to say `###` whatever was said."""
    [mark] = module.processor.prompts.tokenizer.encode("###")[-1:]
    decoder, batch = module.model.decoder, batch_of(module, answered=False)

    def always(hidden: Tensor) -> Tensor:
        logits = torch.zeros(*hidden.shape[:-1], len(decoder.tokenizer.backend))
        logits[..., mark] = 1.0
        return logits

    monkeypatch.setattr(decoder.lm.lm_head, "forward", always)
    mask, weights = batch.attention_mask, module.model.route(batch)
    assert weights is not None
    with module.model.routing.use(weights):
        ids = decoder.generate(module.model.embed(batch), mask, 12, stop=decoder.tokenizer.decode([mark]))
        assert ids.shape[1] < 12
        assert decoder.generate(module.model.embed(batch), mask, 12).shape[1] == 12


def test_answers_may_be_drawn_by_chance(module: OctaviusModule) -> None:
    batch = batch_of(module, answered=False)

    def texts(seed: int, sampling: Sampling | None) -> list[str]:
        torch.manual_seed(seed)
        return [item.text for item in answer_batch(module, batch, Decoding(8, sampling=sampling))]

    greedy = texts(0, None)
    assert texts(1, Sampling(top_k=1)) == greedy
    hot = Sampling(temperature=20.0, top_p=1.0)
    assert texts(0, hot) == texts(0, hot)
    assert len({tuple(texts(seed, hot)) for seed in range(4)} | {tuple(greedy)}) > 3


def test_word_embeddings_are_trained(module: OctaviusModule, tokenizer: Tokenizer) -> None:
    trained = {name for name, part in module.named_parameters() if part.requires_grad}
    assert {"model.decoder.lm.model.embed_tokens.weight", "model.decoder.lm.lm_head.weight"} <= trained
    backend = module.model.decoder.tokenizer.backend
    known = len(tokenizer.backend)
    assert backend.convert_ids_to_tokens(known) == "<XSFQ/>"
    for tag in ("<Img>", "</Img>", "<Pcl>", "</Pcl>"):
        assert module.processor.prompts.tokenizer.encode(tag, special=True) == [
            backend.convert_tokens_to_ids(tag)
        ]
        assert len(module.processor.prompts.tokenizer.encode(tag)) > 1  # where data say it, it is words
    module.model(batch_of(module, answered=True)).losses.sum().backward()
    assert module.model.decoder.lm.get_input_embeddings().weight.grad.abs().sum() > 0


def test_a_routing_leaves_for_the_tag_that_the_gate_reads(
    folder: Path, module: OctaviusModule, state: dict[str, Tensor]
) -> None:
    """With pictures alone; of two modalities the question does not tell which tag follows."""
    with pytest.raises(ValueError, match="whose tags tell image from cloud"):
        fixed_gate(module, QUESTIONS[0], None)
    alone = make(folder, encoders={"image": PrecomputedFeatures(3, IMAGE)}).eval()
    gate = alone.model.gate
    assert gate is not None
    gate.load_state_dict({"weight": state["gating_network.w_gating"].T})
    expected = alone.model.route(batch_of(alone, answered=False, rows=slice(0, 1)))
    assert isinstance(expected, Tensor)
    found = fixed_gate(alone, QUESTIONS[0], None)
    torch.testing.assert_close(next(iter(found.values())), expected[0])


def test_candidates_are_not_scored_with_another_end(module: OctaviusModule) -> None:
    with pytest.raises(ValueError, match=r"leave evaluation\.likelihood off"):
        module.likelihoods(batch_of(module, answered=False), [["a"]] * 3)
