"""Calls and generation of a routed model: every sample by its own question, and the base where nothing is learned."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel

from octavius.lora_moe import LoRAMoEConfig, RoutedModel, get_routed_model
from octavius.lora_moe.gates.cluster import ClusterGate
from octavius.lora_moe.gates.question import pooled
from octavius.lora_moe.losses import auxiliary
from tests.octavius.settings import lora_moe

Batch = dict[str, Tensor]
Make = Callable[..., Any]
GATES = [{}, {"gate": "dense", "per_layer": True}, {"gate": "token"}, {"gate": "uniform"}, {"experts": 1}]


def without_labels(batch: Batch) -> Batch:
    return {name: part for name, part in batch.items() if name != "labels"}


@pytest.mark.parametrize("options", GATES, ids=str)
def test_a_fresh_routed_model_is_its_base_to_the_last_bit(
    make_routed: Make, make_llama: Make, batch: Batch, options: dict[str, Any]
) -> None:
    routed, plain = make_routed(live=False, **options), make_llama()
    assert torch.equal(routed(**batch).logits, plain(**batch).logits)
    prompt = {name: part[:, :5] for name, part in without_labels(batch).items()}
    told = {"max_new_tokens": 6, "do_sample": False}
    assert torch.equal(routed.generate(**prompt, **told), plain.generate(**prompt, **told))


def test_it_stays_the_model_that_it_was_to_everything_that_asks(make_routed: Make) -> None:
    routed = make_routed()
    assert isinstance(routed, RoutedModel)
    assert isinstance(routed, LlamaForCausalLM)
    assert isinstance(routed, PreTrainedModel)
    assert type(routed).__name__ == "LlamaForCausalLM"
    known = [*inspect.signature(routed.forward).parameters]
    assert {"input_ids", "labels", "question_ids", "question_mask", "tasks"} <= set(known)
    assert known[-1] == "kwargs"


def test_a_model_without_input_embeddings_names_its_own(batch: Batch) -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.out = nn.Embedding(61, 8), nn.Linear(8, 5)

        def forward(self, ids: Tensor) -> Tensor:
            return torch.relu(self.out(self.words(ids)))

    plain = Bag()
    settings = LoRAMoEConfig(experts=3, rank=2, targets=["out"])
    with pytest.raises(ValueError, match="name the submodule by `embeddings`"):
        get_routed_model(plain, settings)
    assert type(plain) is Bag
    expected = plain(batch["input_ids"])
    routed = get_routed_model(plain, settings, embeddings="words")
    assert torch.equal(routed(batch["input_ids"], question_ids=batch["input_ids"]), expected)
    nn.init.normal_(routed.out.lora_B)
    merged = routed.merge(batch["input_ids"][0])
    assert type(merged) is Bag
    routed.eval()  # no dropout
    assert torch.allclose(
        merged(batch["input_ids"]),
        routed(batch["input_ids"], question_ids=batch["input_ids"][:1]),
        atol=1e-5,
    )


def test_labels_tell_the_question_that_could_be_given_as_well(make_routed: Make, batch: Batch) -> None:
    routed = make_routed()
    question = batch["input_ids"][:, :5]
    said = routed(
        **without_labels(batch), question_ids=question, question_mask=batch["attention_mask"][:, :5]
    )
    assert torch.equal(routed(**batch).logits, said.logits)
    by_pad = routed(**without_labels(batch), question_ids=question)  # 0 is padding by the configuration
    assert torch.equal(by_pad.logits, said.logits)
    with routed.routing.use(routed.route(question, batch["attention_mask"][:, :5])):
        assert torch.equal(routed(**without_labels(batch)).logits, said.logits)
    assert not routed.routing.is_set


def test_the_answer_never_changes_the_routing(make_routed: Make, batch: Batch) -> None:
    routed = make_routed()
    other = copy.deepcopy(batch)
    other["input_ids"][:, 6:] = 33
    other["labels"][:, 6:] = 33
    assert torch.equal(routed(**batch).logits[:, :6], routed(**other).logits[:, :6])


def test_neighbours_and_padding_change_no_row(make_routed: Make, batch: Batch) -> None:
    routed = make_routed()
    alone = {name: part[1:, 2:] for name, part in batch.items()}
    assert torch.allclose(routed(**batch).logits[1, 2:], routed(**alone).logits[0], atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"gate": "dense", "per_layer": True}, {"gate": "token"}], ids=str)
@pytest.mark.parametrize(
    "told",
    [{}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}],
    ids=["greedy", "beams", "more"],
)
def test_each_prompt_of_a_padded_batch_is_answered_as_alone(
    make_routed: Make, batch: Batch, options: dict[str, Any], told: dict[str, Any]
) -> None:
    routed = make_routed(**options)
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, **told}
    ids, mask = batch["input_ids"][:, :6], batch["attention_mask"][:, :6]
    together = routed.generate(ids, attention_mask=mask, **settings)
    first = routed.generate(ids[:1], attention_mask=mask[:1], **settings)
    second = routed.generate(ids[1:, 2:], **settings)
    count = told.get("num_return_sequences", 1)
    assert torch.equal(together[:count, 6:], first[:, 6:])
    assert torch.equal(together[count:, 6:], second[:, 4:])


def test_generation_takes_another_question_than_its_prompt(make_routed: Make, batch: Batch) -> None:
    routed = make_routed()
    ids, question = batch["input_ids"][:1, :6], torch.tensor([[44, 45]])
    settings = {"max_new_tokens": 6, "do_sample": False}
    with routed.routing.use(routed.route(question)):
        expected = routed.generate(ids, **settings)
    assert torch.equal(routed.generate(ids, question_ids=question, **settings), expected)
    embeds = routed.get_input_embeddings()(ids)
    found = routed.generate(inputs_embeds=embeds, question_ids=question, **settings)
    assert torch.equal(found, expected[:, 6:])
    with pytest.raises(ValueError, match="without input_ids"):
        routed.generate(inputs_embeds=embeds, **settings)


def test_unpadded_prompts_need_no_pad_token() -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=61, n_embd=16, n_layer=1, n_head=2, n_positions=32, eos_token_id=60)
    routed = get_routed_model(
        GPT2LMHeadModel(config).eval(), LoRAMoEConfig(experts=2, rank=2, targets=["c_attn"])
    )
    out = routed.generate(
        torch.tensor([[5, 60, 7]]), max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=60
    )
    assert out.shape == (1, 6)


@pytest.mark.parametrize("gate", ["instance", "individual"])
def test_a_call_that_names_no_question_says_what_to_do(make_routed: Make, batch: Batch, gate: str) -> None:
    named = {"tasks": ["a", "b", "c"]} if gate == "individual" else {}
    routed = make_routed(gate=gate, **named)
    with pytest.raises(ValueError, match="task's name" if named else "pass question_ids, or labels"):
        routed(**without_labels(batch))
    with pytest.raises(ValueError, match="task's name" if named else "pass question_ids, or labels"):
        routed.route()
    assert not routed.routing.is_set


def test_wrong_questions_are_refused(make_routed: Make, batch: Batch) -> None:
    routed = make_routed()
    with pytest.raises(ValueError, match=r"no real question token: \[1\]"):
        routed(**batch, question_ids=torch.tensor([[5, 6], [0, 0]]))
    with pytest.raises(ValueError, match="3 questions for a batch of 2"):
        routed(**batch, question_ids=torch.ones(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="needs question_ids"):
        make_routed(gate="published")(**batch)


def test_tasks_choose_their_experts(make_routed: Make, batch: Batch) -> None:
    routed = make_routed(gate="individual", tasks=["a", "b", "c"])
    both = routed(**batch, tasks=["c", "a"]).logits
    with routed.routing.use(torch.eye(3)[[2, 0]]):
        assert torch.equal(routed(**batch).logits, both)


def test_clusters_are_fitted_by_hand(make_routed: Make, batch: Batch) -> None:
    routed = make_routed(gate="cluster", clusters=2)
    assert isinstance(routed.gate, ClusterGate)
    with pytest.raises(ValueError, match="has no clusters"):
        routed(**batch)
    embed = routed.get_input_embeddings()
    routed.gate.fit(pooled(embed(batch["input_ids"]), batch["attention_mask"], 32))
    assert routed(**batch).loss > 0


@pytest.mark.parametrize("options", GATES, ids=str)
def test_disabled_experts_leave_the_base(
    make_routed: Make, make_llama: Make, batch: Batch, options: dict[str, Any]
) -> None:
    routed, inputs = make_routed(**options), without_labels(batch)
    before = routed(**batch).logits
    with routed.disable(), routed.disable():
        assert torch.equal(routed(**inputs).logits, make_llama()(**inputs).logits)
    assert torch.equal(routed(**batch).logits, before)
    with pytest.raises(RuntimeError), routed.disable():
        raise RuntimeError
    assert torch.equal(routed(**batch).logits, before)


@pytest.mark.parametrize("gate", ["instance", "token"])
def test_recomputed_layers_keep_the_weights_of_their_own_pass(
    make_routed: Make, batch: Batch, gate: str
) -> None:
    def gradients(checkpointing: bool) -> list[Tensor]:
        routed = make_routed(gate=gate).train()
        if checkpointing:
            routed.gradient_checkpointing_enable()
        other = {name: part.flip(0) for name, part in batch.items()}
        first, second = routed(**batch).loss, routed(**other, question_ids=torch.tensor([[50, 51]])).loss
        (first + 2 * second).backward()  # both passes are recomputed when neither's weights are set any more
        return [part.grad for part in routed.parameters() if part.requires_grad]

    for expected, found in zip(gradients(False), gradients(True), strict=True):
        assert torch.allclose(expected, found, atol=1e-6)


def test_reentrant_checkpointing_is_refused(make_routed: Make) -> None:
    with pytest.raises(ValueError, match='"use_reentrant": False'):
        make_routed().gradient_checkpointing_enable({"use_reentrant": True})


@pytest.mark.parametrize("gate", ["instance", "token"])
def test_auxiliary_losses_are_added_by_the_share_of_a_step(
    make_routed: Make, batch: Batch, gate: str
) -> None:
    plain = make_routed(gate=gate).train()
    routed = make_routed(gate=gate, losses={"cv": 0.5, "switch": 0.25}).train()
    loss = plain(**batch).loss
    with torch.no_grad():
        choices = plain._choices(batch, None, None, None) or plain.routing.noted()
        cv, switch = auxiliary(["cv", "switch"], choices, batch["attention_mask"])
    added = 0.5 * cv + 0.25 * switch
    assert added > 0
    assert torch.allclose(routed(**batch).loss, loss + added)
    # A step of 24 answer tokens, of which this micro-batch holds 6: its loss is a sum over 24, too.
    step = {"num_items_in_batch": torch.tensor(24)}
    assert torch.allclose(routed(**batch, **step).loss, 6 / 24 * (loss + added))
    assert torch.allclose(routed.eval()(**batch).loss, loss)


def test_auxiliary_losses_that_nobody_would_add_are_refused(make_routed: Make, batch: Batch) -> None:
    routed = make_routed(losses={"cv": 0.5}).train()
    with pytest.raises(ValueError, match="leave `losses` out"):
        routed(**without_labels(batch), question_ids=batch["input_ids"])


def test_what_cannot_be_routed_is_refused_and_stays_as_it_was(make_llama: Make, make_routed: Make) -> None:
    plain, settings = make_llama(), LoRAMoEConfig(experts=2, rank=2)
    for model, config, said in (
        (make_routed(), settings, "has experts already"),
        (DataParallel(plain), settings, "wrapped already"),
        (torch.compile(plain), settings, "wrapped already"),
        (plain, {"experts": 2}, "found a dict"),
        (plain, lora_moe(experts=2, inputs=["media"]), "reads media, which this model is not given"),
        (plain, LoRAMoEConfig(experts=2, targets=["c_attn"]), "q_proj"),
        (plain, lora_moe(experts=2, top_k=3), "top_k = 3"),
    ):
        with pytest.raises(ValueError, match=said):
            get_routed_model(model, config)
    assert type(plain) is LlamaForCausalLM
    assert all(part.requires_grad for part in plain.parameters())


def test_threads_of_data_parallel_are_refused(make_routed: Make) -> None:
    with pytest.raises(ValueError, match="torchrun"):
        make_routed()._replicate_for_data_parallel()


def test_parameters_are_counted_as_peft_prints_them(
    make_routed: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    routed = make_routed()
    routed.print_trainable_parameters()
    # Two layers of q (32 to 32) and v (32 to 16), 3 experts of rank 2 each; the gate has 3 x 32.
    trained = 2 * (6 * (32 + 32) + 6 * (32 + 16)) + 96
    total = sum(part.numel() for part in routed.parameters())
    assert capsys.readouterr().out == (
        f"trainable params: {trained:,} || all params: {total:,} || trainable%: {100 * trained / total:.4f}\n"
    )
