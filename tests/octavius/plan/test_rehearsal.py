"""The rehearsal of a training step counts what the real step saves and computes."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig

from octavius.decoder.decoder import Decoder
from octavius.instruction.batch import IGNORE_INDEX, Batch
from octavius.instruction.sample import References, Sample
from octavius.model import Octavius
from octavius.plan.outline import Setup, outline
from octavius.plan.rehearsal import Live, Rehearsal, Step, rehearse, rehearse_model

STEP = Step(batch=3, tokens=40, answer=15)
SLOTS, WIDTH = 4, 6


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("decoder")
    LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=5, num_attention_heads=4, vocab_size=90
    ).save_pretrained(folder)
    encoder = {
        "class_path": "octavius.encoders.precomputed.PrecomputedFeatures",
        "init_args": {"num_tokens": SLOTS, "width": WIDTH},
    }
    return Setup(
        decoder={"name": str(folder)},
        encoders={"image": encoder},
        lora={"experts": 3, "rank": 2, "dropout": 0.1},
        normalise_features=False,
        max_tokens=40,
        checkpointing=False,
        precision="32-true",
        sharded=False,
        batch_size=3,
        accumulate=1,
        epochs=1,
        max_steps=-1,
        samples_per_epoch=30,
    )


def test_tensors_count_while_they_live() -> None:
    known = torch.zeros(1000)
    with Live([known]) as live:
        view = known[:10]
        first = torch.ones(256)
        also = first.view(16, 16)
        assert live.now == 1024
        second = first.double()
        del first, also
        assert (live.now, live.peak) == (2048, 3072)
        second.mul_(2)
        del second, view
        assert live.now == 0


def test_a_product_counts_two_operations_a_number() -> None:
    with Live([]) as live:
        torch.ones(3, 5) @ torch.ones(5, 7)
    assert live.operations == 2 * 3 * 5 * 7


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_few_layers_tell_of_all(setup: Setup, checkpointing: bool, precision: str) -> None:
    found = rehearse(replace(setup, precision=precision), STEP, checkpointing)
    whole = rehearse_model(outline(setup), precision, STEP, checkpointing)
    assert near(found, whole)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_it_is_the_step_that_training_takes(setup: Setup, checkpointing: bool) -> None:
    planned = rehearse_model(outline(setup), setup.precision, STEP, checkpointing)
    real = measured(filled(outline(setup)), checkpointing)
    assert planned.held == pytest.approx(real.held, rel=0.02)
    assert planned.peak == pytest.approx(real.peak, rel=0.02)
    assert planned.operations == pytest.approx(real.operations, rel=0.01)


@pytest.mark.slow
def test_checkpointing_keeps_less_and_computes_more(setup: Setup) -> None:
    kept, again = (rehearse(setup, STEP, checkpointing) for checkpointing in (False, True))
    assert again.held < kept.held / 4
    assert again.operations > 1.2 * kept.operations


def near(one: Rehearsal, other: Rehearsal) -> bool:
    """Whether two are equal up to what rounding of block sizes does."""
    pairs = ((one.held, other.held), (one.peak, other.peak), (one.operations, other.operations))
    return all(abs(mine - theirs) <= 0.005 * theirs for mine, theirs in pairs)


def filled(model: Octavius) -> Octavius:
    """The model of an outline with random weights."""
    model = model.to_empty(device="cpu")
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            torch.nn.init.normal_(tensor, std=0.02)
    return model


def measured(model: Octavius, checkpointing: bool) -> Rehearsal:
    """What the model's own forward and backward pass keep of a batch without a short sample."""
    model.train()
    decoder: Decoder = model.decoder
    if checkpointing:
        decoder.lm.gradient_checkpointing_enable(
            {"use_reentrant": False, "context_fn": model.routing.checkpoint_context}
        )
    trained = [part for part in model.parameters() if part.requires_grad]
    for part in trained:
        part.grad = torch.zeros_like(part)
    batch = whole_batch()
    tensors = [value for value in vars(batch).values() if isinstance(value, Tensor)]
    known = [*model.parameters(), *model.buffers(), *(part.grad for part in trained if part.grad is not None)]
    with Live([*known, *tensors, *batch.slots.values(), *batch.media.values()]) as live:
        losses = model(batch).losses
        held = live.now
        losses.sum().backward()
    return Rehearsal(held, live.peak, live.operations)


def whole_batch() -> Batch:
    size = (STEP.batch, STEP.tokens)
    labels = torch.full(size, IGNORE_INDEX)
    labels[:, -STEP.answer :] = 1
    mask = torch.ones(size, dtype=torch.long)
    mask[0, -1] = 0
    places = [(row, column) for row in range(STEP.batch) for column in range(SLOTS)]
    return Batch(
        torch.zeros(size, dtype=torch.long),
        mask,
        labels,
        torch.zeros(STEP.batch, 3, dtype=torch.long),
        torch.ones(STEP.batch, 3, dtype=torch.long),
        {"image": torch.tensor(places)},
        {"image": torch.zeros(STEP.batch, SLOTS, WIDTH)},
        [Sample("a", "captioning", "none", {}, "", References(("a",)))] * STEP.batch,
    )
