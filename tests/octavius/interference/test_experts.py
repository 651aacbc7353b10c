"""Experts switched off or alone, their similarity, and the gate's weights, each against slow versions."""

from collections.abc import Callable

import pytest
import torch

from octavius.instruction.batch import Batch
from octavius.instruction.sample import Sample
from octavius.interference.experts import losses_with, only, similarity, weights_of, without
from octavius.lora_moe import LoRAMoELinear
from octavius.lora_moe.inject import adapter_parameters
from octavius.model import Octavius

MakeModel = Callable[..., Octavius]


MakeSample = Callable[..., Sample]


Write = Callable[..., Batch]


def batch_of(model: Octavius, make_sample: MakeSample, write: Write, *turns: tuple[str, str]) -> Batch:
    return write(model.processor(), *((make_sample(f"s{n}"), *turn) for n, turn in enumerate(turns)))


def test_changed_weights_reach_the_layers_and_nothing_stays_changed(
    make_model: MakeModel, make_sample: MakeSample, write: Write
) -> None:
    model = make_model().eval()
    batch = batch_of(model, make_sample, write, ("Is it red?", "no"), ("What is it?", "a cat"))
    before = losses_with(model, [batch])
    gate = model.gate
    alone = losses_with(model, [batch], only(1))
    assert model.gate is gate
    assert torch.equal(losses_with(model, [batch]), before)
    for name, parameter in adapter_parameters(model.decoder.lm).items():
        if name.endswith("lora_B"):  # every other expert gives nothing, expert 1 has weight 1
            with torch.no_grad():
                wide = parameter.unflatten(1, (3, -1))
                wide[:, [0, 2]] = 0.0
    torch.testing.assert_close(losses_with(model, [batch], lambda weights: torch.ones_like(weights)), alone)


def test_without_an_expert_the_others_have_its_weight() -> None:
    weights = torch.tensor([[0.6, 0.4, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(without(1)(weights), torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5]]))


@pytest.mark.parametrize("shared_a", [False, True])
def test_similarity_is_that_of_the_products(make_model: MakeModel, shared_a: bool) -> None:
    model = make_model(shared_a=shared_a)
    table = similarity(model).set_index(["layer", "expert", "other"])["cosine"]
    for name, layer in model.decoder.lm.named_modules():
        if isinstance(layer, LoRAMoELinear):
            downs = [layer.lora_A] * 3 if shared_a else list(layer.lora_A.chunk(3))
            updates = [
                (up @ down).flatten() for up, down in zip(layer.lora_B.chunk(3, 1), downs, strict=True)
            ]
            for expert, other in ((0, 1), (0, 2), (1, 2)):
                expected = torch.cosine_similarity(updates[expert], updates[other], dim=0)
                assert table[name, expert, other] == pytest.approx(expected.item(), abs=1e-5)


def test_weights_are_those_of_the_gate(make_model: MakeModel, make_sample: MakeSample, write: Write) -> None:
    model = make_model()
    batch = batch_of(model, make_sample, write, ("Is it red?", "no"), ("What is it?", "a cat"))
    torch.testing.assert_close(weights_of(model, [batch]), model.route(batch))
