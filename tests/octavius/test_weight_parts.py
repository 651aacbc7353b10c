"""A part of a state dict comes in; the tests see that it goes back into a module, whole or not at all."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from octavius.weights import load_part, part_of


def test_a_part_goes_back_as_it_was(tmp_path: Path) -> None:
    model = nn.ModuleDict({"image": nn.Linear(3, 2), "other": nn.Linear(2, 2)})
    save_file(part_of(model.state_dict(), "image."), tmp_path / "part.safetensors")
    fresh = nn.Linear(3, 2)
    load_part(fresh, tmp_path / "part.safetensors")
    torch.testing.assert_close(fresh.weight, model["image"].weight)
    torch.testing.assert_close(fresh.bias, model["image"].bias)


def test_a_part_of_another_module_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "part.safetensors"
    save_file(nn.Linear(3, 2).state_dict(), file)
    with pytest.raises(
        ValueError, match=r"part.safetensors does not hold the tensors of this Linear.*weight"
    ):
        load_part(nn.Linear(4, 2), file)
    file.write_bytes(b"cut")
    with pytest.raises(ValueError, match="does not hold the tensors"):
        load_part(nn.Linear(3, 2), file)
