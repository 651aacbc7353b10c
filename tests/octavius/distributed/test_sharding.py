"""A model sharded over a mesh of one process has the same losses, training and answers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from octavius.decoder.loading import layers
from octavius.distributed.sharding import shard
from octavius.instruction.batch import Batch
from octavius.training import OctaviusModule
from tests.octavius.tiny_runs import Pieces, make, whole, write_decoder


@pytest.fixture(scope="module")
def mesh() -> Iterator[DeviceMesh]:
    """This process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("decoder"), tied=True)


@pytest.fixture
def plain(decoder: Path) -> OctaviusModule:
    return make(decoder)


@pytest.fixture
def sharded(decoder: Path, mesh: DeviceMesh) -> OctaviusModule:
    module = make(decoder)
    shard(module.model, module.model.decoder.lm, module.model.encoders, mesh)
    return module


@pytest.fixture
def question(plain: OctaviusModule) -> Batch:
    """Left-padded prompts, of pictures and of text."""
    batches: list[Batch] = list(Pieces(processor=plain.processor).val_dataloader())
    return next(batch for batch in batches if len({sample.task for sample in batch.samples}) == 2)


@pytest.fixture
def lesson(plain: OctaviusModule) -> Batch:
    """Prompts with answers, of pictures and of text."""
    loader = Pieces(processor=plain.processor, batch_size=4).train_dataloader()
    batch: Batch = next(iter(loader))
    assert 0 < len(batch.media["image"]) < 4
    return batch


def test_all_but_the_encoders_is_sharded(plain: OctaviusModule, mesh: DeviceMesh) -> None:
    plain.model.encoders["image"] = nn.Linear(3, 3).requires_grad_(False)
    shard(plain.model, plain.model.decoder.lm, plain.model.encoders, mesh)
    kinds = {name: isinstance(tensor, DTensor) for name, tensor in plain.named_parameters()}
    assert {name for name, is_sharded in kinds.items() if not is_sharded} == {
        "model.encoders.image.weight",
        "model.encoders.image.bias",
    }
    units = [name for name, module in plain.model.named_modules() if isinstance(module, FSDPModule)]
    assert units == ["", "decoder.lm.model.layers.0", "decoder.lm.model.layers.1"]


def test_it_loses_and_learns_as_before(plain: OctaviusModule, sharded: OctaviusModule, lesson: Batch) -> None:
    found, expected = sharded.model(lesson), plain.model(lesson)
    torch.testing.assert_close(found.losses, expected.losses)
    found.losses.sum().backward()
    expected.losses.sum().backward()
    here = {name: tensor for name, tensor in sharded.named_parameters() if tensor.requires_grad}
    there = {name: tensor for name, tensor in plain.named_parameters() if tensor.requires_grad}
    assert here.keys() == there.keys()
    for name, tensor in there.items():
        assert float(whole(tensor.grad).abs().max()) > 0, name
        torch.testing.assert_close(whole(here[name].grad), whole(tensor.grad), msg=name)


def test_it_answers_as_before_and_can_be_trained_then(
    plain: OctaviusModule, sharded: OctaviusModule, question: Batch, lesson: Batch
) -> None:
    plain.train(False)
    sharded.train(False)
    with torch.inference_mode():
        texts, gate = plain.answer(question, 12)
        found, weights = sharded.answer(question, 12)
    assert found == texts
    assert any(texts)
    assert gate is not None
    assert weights is not None
    torch.testing.assert_close(weights, gate)
    sharded.model(lesson).losses.sum().backward()


def test_its_state_dict_is_whole_after_answering(sharded: OctaviusModule, question: Batch) -> None:
    before = {name: whole(tensor).clone() for name, tensor in sharded.state_dict().items()}
    sharded.answer(question, 2)
    after = {name: whole(tensor) for name, tensor in sharded.state_dict().items()}
    assert all(isinstance(tensor, DTensor) for tensor in sharded.state_dict().values())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_layers_are_the_longest_list(plain: OctaviusModule) -> None:
    lm = plain.model.decoder.lm
    assert layers(lm) == [lm.get_submodule("model.layers.0"), lm.get_submodule("model.layers.1")]
    with pytest.raises(ValueError, match="Linear has no list of equal layers: use the strategy ddp"):
        layers(nn.Linear(2, 2))
