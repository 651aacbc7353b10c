"""Losses equal a slow oracle, a batch its rows, padding changes nothing, gradients go where they should."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from octavius.instruction.batch import IGNORE_INDEX, Batch
from octavius.instruction.sample import Sample
from octavius.lora_moe import LoRAMoELinear
from octavius.model import Octavius

MakeModel = Callable[..., Octavius]
MakeSample = Callable[..., Sample]
Write = Callable[..., Batch]
Row = tuple[Sample, str, str | None]

TURNS = [
    ("Is it red?", "no", ["image"]),
    ("What do you hear in the dark, and how many of them are there?", "two big cats", ["sound"]),
    ("Say something.", "a very long answer that goes on and on", []),
    ("Describe both.", "one", ["image", "sound"]),
]


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> Octavius:
    """Three experts; tests do not change it."""
    return make_model()


@pytest.fixture
def rows(make_sample: MakeSample) -> list[Row]:
    return [
        (make_sample(f"s{index}", *media), asked, said) for index, (asked, said, media) in enumerate(TURNS)
    ]


def unanswered(rows: list[Row]) -> list[Row]:
    return [(sample, asked, None) for sample, asked, _ in rows]


def padded(batch: Batch, left: int, right: int) -> Batch:
    """The same batch with more padding on both sides."""

    def wider(table: Tensor, fill: int) -> Tensor:
        return F.pad(table, (left, right), value=fill)

    slots = {name: places + torch.tensor([0, left]) for name, places in batch.slots.items()}
    return Batch(
        wider(batch.input_ids, 7),
        wider(batch.attention_mask, 0),
        wider(batch.labels, IGNORE_INDEX),
        F.pad(batch.gate_ids, (0, 3), value=9),
        F.pad(batch.gate_mask, (0, 3)),
        slots,
        batch.media,
        batch.samples,
    )


def oracle(model: Octavius, row: Row, write: Write) -> Tensor:
    """The losses of one answer's tokens: embeddings put together, full logits, and shift, all by hand."""
    batch = write(model.processor(), row)
    prompt = model.processor().prompts.build(*row)
    lm: Any = model.decoder.lm
    pieces = [lm.get_input_embeddings().weight[token] for token in prompt.ids]
    for name, places in prompt.slots.items():
        features = torch.from_numpy(row[0].media[name].array)
        linear = model.projectors[name].linear
        for place, feature in zip(places, features, strict=True):
            pieces[place] = linear.weight @ feature + linear.bias
    gate = None
    if model.gate is not None:
        mean = torch.stack([lm.get_input_embeddings().weight[token] for token in prompt.gate_ids]).mean(0)
        mean = mean / mean.square().mean().sqrt()
        best = (model.gate.weight @ mean).topk(model.gate.top_k)
        gate = torch.zeros(1, model.gate.experts)
        gate[0, best.indices] = best.values.softmax(0)
    weights = torch.ones(1, 1) if gate is None else gate
    with model.routing.use(weights):
        logits = lm(inputs_embeds=torch.stack(pieces)[None]).logits[0]
    losses = [
        -logits[place - 1].log_softmax(0)[prompt.ids[place]]
        for place in range(prompt.answer_start, len(prompt.ids))
    ]
    assert batch.labels[0].ne(IGNORE_INDEX).sum() == len(losses)
    return torch.stack(losses)


@pytest.mark.parametrize("experts", [1, 3])
@pytest.mark.parametrize("side", ["right", "both"])
def test_losses_equal_the_oracle(
    make_model: MakeModel, rows: list[Row], write: Write, experts: int, side: str
) -> None:
    model = make_model(experts)
    batch = write(model.processor(), *rows)
    out = model(batch if side == "right" else padded(batch, 4, 3))
    assert (out.losses.dtype, out.losses.shape) == (torch.float32, out.rows.shape)
    for index, row in enumerate(rows):
        torch.testing.assert_close(
            out.losses[out.rows == index], oracle(model, row, write), rtol=1e-4, atol=1e-5
        )


def test_without_experts_the_whole_decoder_learns(
    make_model: MakeModel, rows: list[Row], write: Write
) -> None:
    model = make_model(experts=None)
    out = model(write(model.processor(), *rows))
    assert out.gate is None
    torch.testing.assert_close(out.losses[out.rows == 0], oracle(model, rows[0], write), rtol=1e-4, atol=1e-5)
    out.losses.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_logits_are_made_at_answer_positions_only(
    model: Octavius, rows: list[Row], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    head: Any = model.decoder.lm.get_output_embeddings()
    make = head.forward
    monkeypatch.setattr(head, "forward", lambda hidden: shapes.append(hidden.shape) or make(hidden))
    out = model(write(model.processor(), *rows))
    tokenizer = model.decoder.tokenizer
    said = sum(len(tokenizer.encode(f" {answer}")) + 1 for _, answer, _ in TURNS)
    assert shapes == [(1, said, 32)]
    assert len(out.losses) == said


def test_another_number_of_vectors_than_slots_is_refused(
    model: Octavius, rows: list[Row], write: Write
) -> None:
    batch = write(model.processor(), *rows)
    batch.media["image"] = batch.media["image"][:1]
    with pytest.raises(ValueError, match="the prompts hold 6 slots for image, the encoder gave 3 vectors"):
        model(batch)


@pytest.mark.parametrize("experts", [1, 3])
@pytest.mark.parametrize("beams", [1, 2])
def test_answers_of_a_batch_are_those_of_its_rows(
    make_model: MakeModel, rows: list[Row], write: Write, experts: int, beams: int
) -> None:
    model = make_model(experts).eval()
    processor, asked = model.processor(), unanswered(rows)
    together, gate = model.generate(write(processor, *asked), 8, num_beams=beams)
    assert gate is not None
    assert len(set(together)) == len(together)  # else the test would see nothing
    for index, row in enumerate(asked):
        alone, weights = model.generate(write(processor, row), 8, num_beams=beams)
        assert alone == together[index : index + 1]
        torch.testing.assert_close(weights, gate[index : index + 1])
    more, _ = model.generate(padded(write(processor, *asked), 5, 0), 8, num_beams=beams)
    assert more == together
    backwards, _ = model.generate(write(processor, *asked[::-1]), 8, num_beams=beams)
    assert backwards[::-1] == together


def test_greedy_answers_equal_a_search_token_by_token(model: Octavius, rows: list[Row], write: Write) -> None:
    tokenizer, processor = model.decoder.tokenizer, model.processor()
    batch = write(processor, unanswered(rows)[1])
    gate = model.route(batch)
    embeddings, said = model.embed(batch), list[int]()
    for _ in range(6):
        with model.routing.use(gate):
            logits = model.decoder.lm(inputs_embeds=embeddings).logits[0, -1]
        said.append(int(logits.argmax()))
        embeddings = torch.cat([embeddings, model.decoder.embed(torch.tensor([[said[-1]]]))], dim=1)
    assert model.generate(batch, 6)[0] == [tokenizer.decode(said)]


def test_each_answer_has_its_own_limit(model: Octavius, rows: list[Row], write: Write) -> None:
    processor, asked = model.processor(), unanswered(rows)
    texts, _ = model.generate(write(processor, *asked), [2, 4, 6, 8])
    for row, text, limit in zip(asked, texts, [2, 4, 6, 8], strict=True):
        assert model.generate(write(processor, row), limit)[0] == [text]


def test_a_question_is_routed_alike_in_training_and_in_use(
    model: Octavius, rows: list[Row], make_sample: MakeSample, write: Write
) -> None:
    processor = model.processor()
    _, gate = model.generate(write(processor, *unanswered(rows)), 1)
    assert gate is not None
    torch.testing.assert_close(model(write(processor, *rows)).gate, gate)
    assert (gate > 0).sum(dim=1).tolist() == [2] * len(rows)
    torch.testing.assert_close(gate.sum(dim=1), torch.ones(len(rows)))
    assert len({tuple(row) for row in gate.tolist()}) == len(rows)
    other = make_sample("other", "image", history=(("Before?", "yes"),))  # another picture, another past
    again = model(write(processor, (other, TURNS[1][0], "something else"))).gate
    torch.testing.assert_close(again, gate[1:2])


def test_routing_is_unset_after_an_answer_and_after_an_error(
    make_model: MakeModel, rows: list[Row], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model().eval()
    batch = write(model.processor(), *unanswered(rows))
    model.generate(batch, 1)
    assert repr(model.routing) == "Routing(unset)"

    def broken(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.decoder.lm, "generate", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        model.generate(batch, 1)
    assert repr(model.routing) == "Routing(unset)"


def test_one_expert_is_plain_lora(make_model: MakeModel, rows: list[Row], write: Write) -> None:
    """The same losses as the frozen decoder with alpha / r * B A added to its weights."""
    model, merged = make_model(1), make_model(None)
    batch = write(model.processor(), *rows)
    merged.projectors.load_state_dict(model.projectors.state_dict())
    for name, layer in model.decoder.named_modules():
        if isinstance(layer, LoRAMoELinear):
            weight = merged.decoder.get_parameter(f"{name}.weight")
            assert torch.equal(weight, layer.base.weight)
            weight.data += 4.0 / 2 * layer.lora_B.detach() @ layer.lora_A.detach()
    assert model.gate is None
    torch.testing.assert_close(model(batch).losses, merged(batch).losses, rtol=1e-4, atol=1e-5)
    assert (model(batch).losses - make_model(None)(batch).losses).abs().max() > 0.1


def trained(model: Octavius) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def test_what_is_frozen_and_what_learns(make_model: MakeModel, rows: list[Row], write: Write) -> None:
    model = make_model()
    model(write(model.processor(), *rows)).losses.sum().backward()
    names = {name for name, _ in trained(model)}
    assert names == {
        *(f"projectors.{name}.linear.{part}" for name in ("image", "sound") for part in ("weight", "bias")),
        *(
            f"decoder.lm.model.layers.{layer}.self_attn.{letter}_proj.lora_{half}"
            for layer in range(2)
            for letter in "qkvo"
            for half in "AB"
        ),
        "gate.weight",
    }
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in names)
        if name in names:
            assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("places", "absent"), [([2], {"image", "sound"}), ([0, 2], {"sound"}), ([1], {"image"})]
)
def test_an_absent_modality_gets_a_gradient_of_zero(
    make_model: MakeModel, rows: list[Row], write: Write, places: list[int], absent: set[str]
) -> None:
    model = make_model()
    batch = write(model.processor(), *(rows[index] for index in places))
    out = model(batch)
    for place, index in enumerate(places):
        torch.testing.assert_close(
            out.losses[out.rows == place], oracle(model, rows[index], write), rtol=1e-4, atol=1e-5
        )
    out.losses.sum().backward()
    for name in ("image", "sound"):
        grads = [parameter.grad for parameter in model.projectors[name].parameters()]
        assert all(grad is not None for grad in grads)
        assert all(bool((grad == 0).all()) == (name in absent) for grad in grads)


def test_activation_checkpointing_changes_no_gradient(
    make_model: MakeModel, rows: list[Row], write: Write
) -> None:
    found, calls = [], []
    for checkpointing in (False, True):
        model = make_model(dropout=0.2)
        if checkpointing:
            model.decoder.lm.gradient_checkpointing_enable(
                {"use_reentrant": False, "context_fn": model.routing.checkpoint_context}
            )
        layer: Any = model.decoder.lm.model.layers[0].self_attn.q_proj.base
        layer.register_forward_hook(lambda *_: calls.append(1))
        torch.manual_seed(1)
        loss = model(write(model.processor(), *rows)).losses.sum()
        model.eval().generate(
            write(model.processor(), *unanswered(rows)[:1]), 1
        )  # another routing in between
        calls.clear()
        model.train()
        loss.backward()
        found.append({name: parameter.grad for name, parameter in trained(model)})
        assert len(calls) == checkpointing  # the layer ran again in backward
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad)


def test_noise_and_dropout_are_of_training_alone(
    make_model: MakeModel, rows: list[Row], write: Write
) -> None:
    for options in ({"noise": 0.5}, {"dropout": 0.5}):
        model = make_model(**options)
        batch = write(model.processor(), *rows)
        assert not torch.equal(model(batch).losses, model(batch).losses)
        model.eval()
        assert torch.equal(model(batch).losses, model(batch).losses)


def test_several_media_of_a_sample(model: Octavius, make_sample: MakeSample, write: Write) -> None:
    """Each goes where its placeholder is, in a mixed batch, a packed one and alone."""
    first, second = (make_sample(name, "image", "sound") for name in "ab")
    turn = ("<image><sound>Which is larger?", "the first")
    media = (
        ("image", first.media["image"]),
        ("sound", first.media["sound"]),
        ("image", second.media["image"]),
    )
    two = make_sample("s", history=(turn,), placed=media)
    question = "And <image>?"
    rows: list[Row] = [(two, question, "no"), (first, "Say something.", "one"), (two, question, "a big cat")]
    together = model(write(model.processor(), *rows)).losses
    singles = torch.cat([model(write(model.processor(), row)).losses for row in rows])
    torch.testing.assert_close(together, singles, atol=1e-4, rtol=0)
    processor = model.processor()
    packed = processor.collate([processor.build_example(*row) for row in rows], packed=True)
    torch.testing.assert_close(model(packed).losses, singles, atol=1e-4, rtol=0)
    # By hand: the embeddings of the slots are the projected features, image for image.
    batch = write(model.processor(), rows[0])
    found, places = model.embed(batch)[0], model.processor().prompts.build(*rows[0]).slots
    for name, items in (("image", (first, second)), ("sound", (first,))):
        features = torch.cat([torch.from_numpy(item.media[name].array) for item in items])  # type: ignore[arg-type]
        torch.testing.assert_close(found[places[name]], model.projectors[name].linear(features))  # type: ignore[operator, union-attr]
    other = (two.placed[2], two.placed[1], two.placed[0])
    swapped = model(write(model.processor(), (replace(two, placed=other), question, "no"))).losses
    assert not torch.allclose(swapped, singles[: len(swapped)], atol=1e-3)
