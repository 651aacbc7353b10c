"""Loading parts of a state dict: matching tensors are loaded, others are reported."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from octavius.checkpoint_format.weights import load_fitting, part_of
from octavius.encoders.projector import LinearProjector
from octavius.encoders.rois.object_as_scene import ObjectAsScene
from octavius.training import begin_with, own_part

SIZES = {"width": 16, "queries": 2, "heads": 2, "hidden": 8}


def projectors(cloud: int = 12, image: int = 6) -> nn.ModuleDict:
    """Those of two modalities, of features so wide."""
    return nn.ModuleDict({"image": LinearProjector(image, 4), "cloud": ObjectAsScene(cloud, 4, **SIZES)})


def written(module: nn.Module, folder: Path) -> Path:
    save_file(dict(module.state_dict()), folder / "projectors.safetensors")
    return folder / "projectors.safetensors"


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def told(caplog: pytest.LogCaptureFixture, module: nn.Module, path: Path) -> str:
    """The one line that is said when projectors begin with a file."""
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        begin_with(module, path)
    (record,) = caplog.records
    return record.getMessage()


def test_a_part_of_a_state_keeps_the_rest_of_its_names() -> None:
    state = {"image.weight": torch.zeros(1), "imagery.weight": torch.ones(1)}
    assert part_of(state, "image.") == {"weight": state["image.weight"]}


def test_a_file_of_the_same_parts_goes_back_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, fresh = projectors(), projectors()
    path = written(model, tmp_path)
    assert load_fitting(fresh, path) == {*model.state_dict()}
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert told(caplog, fresh, path) == f"projectors: {len(model.state_dict())} tensors from {path}"


def test_what_fits_is_taken_and_the_rest_begins_at_random(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Features of another width: all of the reader but its input layer begins as it was trained."""
    model, fresh = projectors(), projectors(cloud=20, image=7)
    before, path = copied(fresh), written(model, tmp_path)
    taken = load_fitting(fresh, path)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name] if name in taken else before[name])
    assert {*before} - taken == {"image.linear.weight", "cloud.enter.weight"}
    said = told(caplog, fresh, path)
    assert said.endswith("; at random begin image.linear.weight, cloud.enter.weight")
    assert said.startswith(f"projectors: {len(taken)} tensors from ")


def test_a_part_without_any_tensor_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(nn.ModuleDict({"image": LinearProjector(6, 4)}), tmp_path)
    assert told(caplog, projectors(), path).endswith("2 tensors from " + f"{path}; at random begin cloud")
    more = nn.ModuleDict({**projectors(), "other": LinearProjector(1, 1)})
    path = written(more, tmp_path)
    assert "at random" not in told(caplog, projectors(), path)  # what a file holds beyond is of no matter


@pytest.mark.parametrize(
    ("name", "others", "part"),
    [
        ("cloud.enter.weight", {"image.weight"}, "cloud"),
        ("cloud.enter.weight", {"cloud.leave.weight", "cloudy.enter.bias"}, "cloud.enter"),
        ("cloud.enter.weight", {"cloud.enter.bias"}, "cloud.enter.weight"),
        ("weight", set(), "weight"),
    ],
)
def test_the_largest_part_that_holds_none_of_the_others(name: str, others: set[str], part: str) -> None:
    assert own_part(name, others) == part


def test_a_file_of_which_nothing_fits_is_refused(tmp_path: Path) -> None:
    path = written(nn.ModuleDict({"image": LinearProjector(9, 5)}), tmp_path)
    expected = (
        r"nothing of .*projectors.safetensors fits: it holds image.linear.bias, image.linear.weight, expected"
    )
    with pytest.raises(ValueError, match=expected):
        load_fitting(projectors(), path)
    path.write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"projectors.safetensors cannot be read as tensors"):
        load_fitting(projectors(), path)
    with pytest.raises(ValueError, match="cannot be read as tensors"):
        load_fitting(projectors(), tmp_path / "none.safetensors")
