"""Trained tensors are saved, frozen ones are recognised, and a damaged file is reported in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from octavius.checkpoint_format.weights import (
    check_fingerprint,
    fingerprint,
    keep_trainable,
    read_checkpoint,
    trainable_names,
)


def make(frozen: float = 1.0, wide: int = 3) -> nn.Sequential:
    """A frozen layer of one value, and one that learns."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, wide))
    model[0].requires_grad_(False)
    nn.init.constant_(model[0].weight, frozen)
    return model


def test_the_trained_part_is_kept() -> None:
    model = make()
    state = {**model.state_dict(), "elsewhere": torch.zeros(1)}
    kept = keep_trainable(model, state)
    assert set(kept) == trainable_names(model) == {"1.weight", "1.bias"}
    assert kept["1.weight"] is state["1.weight"]


def test_a_fingerprint_is_of_the_frozen_part() -> None:
    first = fingerprint(make())
    assert first == fingerprint(make())
    learnt = make()
    nn.init.zeros_(learnt[1].weight)
    assert fingerprint(learnt) == first
    assert fingerprint(make(frozen=1.5)) != first
    assert fingerprint(make().requires_grad_(False)) != first
    renamed = nn.Sequential()
    renamed.add_module("first", make()[0])
    assert fingerprint(renamed) != fingerprint(nn.Sequential(make()[0]))


@given(st.integers(1, 3000))
def test_a_fingerprint_looks_all_over_a_tensor(size: int) -> None:
    """Nearly any change of nearly all values is seen; here half of them, at either end."""
    model = nn.ParameterDict({"a": nn.Parameter(torch.ones(size), requires_grad=False)})
    before = fingerprint(model)
    spread = max(1, size // 200)  # a short run at either end, or all of a small tensor's second half
    for half in (slice(0, spread + 1), slice(size - 2 * spread, size), slice(size // 2, size)):
        changed = nn.ParameterDict({"a": nn.Parameter(torch.ones(size), requires_grad=False)})
        changed["a"].data[half] += 1
        assert fingerprint(changed) != before


def check(model: nn.Module, other: nn.Module, **changes: Any) -> None:
    checkpoint = {
        "state_dict": keep_trainable(other, other.state_dict()),
        "frozen_fingerprint": fingerprint(other),
        **changes,
    }
    check_fingerprint(model, checkpoint, fingerprint(model))


def test_a_checkpoint_of_the_same_model_passes() -> None:
    check(make(), make())


def test_checkpoints_of_other_models() -> None:
    with pytest.raises(
        ValueError, match=r"Other shapes: 1\.weight: \(5, 4\) in the file, \(3, 4\) here, 1\.bias"
    ):
        check(make(), make(wide=5))
    with pytest.raises(
        ValueError, match=r"the frozen weights differ: the checkpoint was tuned on .* load the same"
    ):
        check(make(), make(frozen=2.0))
    with pytest.raises(
        ValueError, match=r"Missing in the file: 0\.bias, 0\.weight\. Not in this model: none"
    ):
        check(make().requires_grad_(True), make())
    with pytest.raises(ValueError, match=r"Not in this model: 0\.bias, 0\.weight"):
        check(make(), make().requires_grad_(True))
    with pytest.raises(ValueError, match="tuned on None"):
        check(make(), make(), frozen_fingerprint=None)
    deep = nn.Sequential(*(nn.Linear(1, 1) for _ in range(4)))
    with pytest.raises(ValueError, match=r"Missing in the file: 0\.bias, 0\.weight, 1\.bias and 5 more"):
        check(deep, nn.Sequential())


def test_a_checkpoint_is_read(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.arange(3)}, "epoch": 1}, tmp_path / "a.ckpt")
    found = read_checkpoint(tmp_path / "a.ckpt")
    assert found["epoch"] == 1
    assert found["state_dict"]["a"].tolist() == [0, 1, 2]


def test_a_file_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"a": torch.randn(40, 40)}}, path)
    data = path.read_bytes()
    for size in {*range(0, len(data), len(data) // 25), 1, 3, len(data) - 1}:
        path.write_bytes(data[:size])
        with pytest.raises(
            ValueError, match=rf"a\.ckpt \({size:,} bytes\) cannot be read as a checkpoint: it is cut"
        ):
            read_checkpoint(path)


class Code:
    """Something that only a pickle with code can bring back."""


@pytest.mark.parametrize("content", [[1], {"epoch": 1}, torch.zeros(2)])
def test_a_file_without_weights(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(
        ValueError, match=r"a\.ckpt is not a checkpoint of Octavius: expected the key 'state_dict'"
    ):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_file_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": Code()}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_checkpoint(tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_text("no checkpoint at all\n")
    for path in (tmp_path / "b.ckpt", tmp_path / "missing.ckpt"):
        with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
            read_checkpoint(path)
    with pytest.raises(ValueError, match="is a folder, expected the file of a checkpoint"):
        read_checkpoint(tmp_path)
