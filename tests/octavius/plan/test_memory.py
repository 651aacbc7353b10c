"""Memory of a plan, by hand and as the batch grows."""

from dataclasses import replace

import pytest

from octavius.plan.memory import GIB, KINDS, parts, plan_memory, standing
from octavius.plan.outline import Setup, outline
from octavius.plan.rehearsal import Step

MIB = 2**20


def test_memory_that_stands_adds_up_by_hand(setup: Setup) -> None:
    layer = 4 * 64 * 64 + 3 * 64 * 100 + 2 * 64
    adapter = 2 * 4 * (64 + 64)
    root = 2 * 1000 * 64 + 64 + 2 * 64  # embeddings, head, the last norm; the gate
    frozen, trained = 4 * layer + 2 * 1000 * 64 + 64, 4 * adapter + 2 * 64
    model = outline(setup)
    alone = standing(setup, model, 1)
    assert list(alone) == list(KINDS)
    assert alone == {
        "frozen decoder": 4 * frozen,
        "frozen encoders": 0,
        "trained weights": 4 * trained,
        "gradients": 4 * trained,
        "optimizer states": 8 * trained,
        "gathered": 0,
    }
    assert standing(setup, model, 4) == alone | {"gathered": 4 * trained}
    assert standing(replace(setup, sharded=True), model, 4) == {
        "frozen decoder": frozen,
        "frozen encoders": 0,
        "trained weights": trained,
        "gradients": trained,
        "optimizer states": 2 * trained,
        "gathered": 4 * (root + 2 * 64 + 3 * (layer + adapter) + 2 * adapter),
    }
    assert parts(model)["LoRA experts"] == (4 * adapter, 4 * adapter)


@pytest.mark.slow
def test_memory_grows_with_the_batch(setup: Setup) -> None:
    model = outline(setup)
    one, two = (plan_memory(setup, model, 1, Step(batch, 64, 32), GIB) for batch in (4, 8))
    assert two.kinds["activations"] == pytest.approx(2 * one.kinds["activations"], rel=0.01)
    assert one.total - GIB > one.kinds["activations"] > MIB / 2


@pytest.mark.parametrize(("kind", "bits"), [("nf4", 4.127), ("int8", 8.0)])
def test_a_quantised_decoder_takes_fewer_bytes(setup: Setup, kind: str, bits: float) -> None:
    model = outline(setup)
    less = replace(setup, decoder={**setup.decoder, "quantise": kind})
    before, after = (standing(one, model, 1)["frozen decoder"] for one in (setup, less))
    linear = [
        part for name, part in model.decoder.named_parameters() if "proj" in name and "lora" not in name
    ]
    saved = sum(part.numel() * (part.element_size() - bits / 8) for part in linear)
    assert before - after == pytest.approx(saved, rel=1e-3)
