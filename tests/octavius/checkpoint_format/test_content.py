"""Contents of a checkpoint are checked for their types before anything is restored."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavius.checkpoint.saving import CheckpointFiles
from octavius.checkpoint_format.content import FORMAT, FORMAT_KEY, differs
from octavius.checkpoint_format.weights import read_checkpoint

NAN = float("nan")


def content() -> dict[str, Any]:
    state = {place: {"step": torch.tensor(2.0), "exp_avg": torch.ones(3)} for place in (0, 1)}
    return {
        "state_dict": {"a": torch.ones(3), "b": torch.arange(3)},
        "epoch": 1,
        "global_step": 2,
        "pytorch-lightning_version": "2.6.6",
        "optimizer_states": [{"state": state, "param_groups": [{"params": [0, 1], "lr": 0.1}]}],
        "lr_schedulers": [{"last_epoch": 2, "_last_lr": [0.1]}],
        "callbacks": {"Cost": {"seconds": 1.5}, "Checkpoint": {"kth_value": torch.tensor(float("inf"))}},
        "loops": {"fit_loop": {}},
        "seed": None,
        "frozen_fingerprint": "0123",
    }


def first(optimizer: dict[str, Any]) -> dict[str, Any]:
    return optimizer["state"][0]


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "weights of no names": (
        lambda c: c.update(state_dict=[1]),
        "state_dict: expected tensors by their names, found list",
    ),
    "weights none": (lambda c: c.update(state_dict=None), "state_dict: expected tensors"),
    "weights by numbers": (lambda c: c["state_dict"].update({5: torch.ones(1)}), "expected a tensor at 5"),
    "a list for a tensor": (
        lambda c: c["state_dict"].update(a=[1.0]),
        "expected a tensor at 'a', found list",
    ),
    "a sparse tensor": (
        lambda c: c["state_dict"].update(a=torch.eye(3).to_sparse()),
        "a is not a plain tensor",
    ),
    "NaN": (
        lambda c: c["state_dict"].update(a=torch.tensor([1, NAN])),
        "a holds numbers that are not finite",
    ),
    "infinity": (
        lambda c: c["state_dict"].update(a=torch.tensor([float("inf")])),
        "a holds numbers that are not",
    ),
    "an epoch in words": (
        lambda c: c.update(epoch="one"),
        "epoch: expected a whole number of at least 0, found 'one'",
    ),
    "an epoch below zero": (lambda c: c.update(epoch=-1), "epoch: expected a whole number"),
    "an epoch of truth": (lambda c: c.update(epoch=True), "epoch: expected a whole number"),
    "half a step": (lambda c: c.update(global_step=1.5), "global_step: expected a whole number"),
    "a step as a tensor": (lambda c: c.update(global_step=torch.tensor(2)), "global_step: expected a whole"),
    "a list for a version": (
        lambda c: c.update({"pytorch-lightning_version": [2]}),
        "expected a version, found",
    ),
    "no version": (
        lambda c: c.update({"pytorch-lightning_version": "new"}),
        "expected a version, found 'new'",
    ),
    "optimizers by name": (
        lambda c: c.update(optimizer_states={"a": 1}),
        "optimizer_states: expected a list",
    ),
    "an empty optimizer": (
        lambda c: c.update(optimizer_states=[{}]),
        "expected param_groups with their params",
    ),
    "an optimizer without states": (
        lambda c: c["optimizer_states"][0].pop("state"),
        "expected a state for each",
    ),
    "a state of nothing": (
        lambda c: c["optimizer_states"][0]["state"].update({7: {}}),
        "parameter 7, which is in no",
    ),
    "a NaN average": (
        lambda c: first(c["optimizer_states"][0]).update(exp_avg=torch.tensor(NAN)),
        "not finite",
    ),
    "schedules by name": (lambda c: c.update(lr_schedulers={}), "lr_schedulers: expected a list of states"),
    "no schedule": (lambda c: c.update(lr_schedulers=[None]), "lr_schedulers: expected a list of states"),
    "a NaN rate": (
        lambda c: c["lr_schedulers"][0].update(_last_lr=[NAN]),
        "lr_schedulers.0._last_lr.0 is not a number",
    ),
    "callbacks in a list": (lambda c: c.update(callbacks=[]), "callbacks: expected states by their names"),
    "a callback's number": (lambda c: c.update(callbacks={"Cost": 5}), "callbacks: expected states by"),
    "loops none": (lambda c: c.update(loops=None), "loops: expected states by their names"),
    "loops in a list": (lambda c: c.update(loops={"fit_loop": []}), "loops: expected states by their names"),
    "a list of seeds": (lambda c: c.update(seed=[1]), "seed: expected a whole number"),
    "a fingerprint of bytes": (
        lambda c: c.update(frozen_fingerprint=b"01"),
        "frozen_fingerprint: expected a text",
    ),
    "a configuration of keys": (lambda c: c.update(configuration={}), "configuration: expected a text"),
    "a later format": (
        lambda c: c.update({FORMAT_KEY: FORMAT + 1}),
        "written by a later version of Octavius",
    ),
    "a format in words": (
        lambda c: c.update({FORMAT_KEY: "2"}),
        "checkpoint_format: expected a whole number",
    ),
    "numbers as keys": (lambda c: c.update({5: 1}), "expected names as its keys, found 5"),
    "saved again": (lambda c: c.update({FORMAT_KEY: FORMAT}), "its checksum is gone"),
}


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    CheckpointFiles("lr: 1\n").save_checkpoint(content(), path := tmp_path / "a.ckpt")
    torch.save(content(), earlier := tmp_path / "b.ckpt")
    assert read_checkpoint(path)["state_dict"]["a"].tolist() == [1, 1, 1]
    assert read_checkpoint(path).keys() - read_checkpoint(earlier).keys() == {"configuration", FORMAT_KEY}


@pytest.mark.parametrize("name", CHANGES)
def test_other_kinds_are_told(tmp_path: Path, name: str) -> None:
    change, said = CHANGES[name]
    changed = content()
    change(changed)
    torch.save(changed, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt: ") as error:
        read_checkpoint(tmp_path / "a.ckpt")
    assert said in str(error.value)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(torch.ones(2)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(key=st.sampled_from([*content(), FORMAT_KEY, "configuration", "more"]), value=ANYTHING)
def test_anything_in_any_place_is_read_or_told(tmp_path: Path, key: str, value: Any) -> None:
    try:
        torch.save({**content(), key: value}, tmp_path / "a.ckpt")
    except (OverflowError, struct.error):  # whole numbers that torch itself does not save
        return
    said = ""
    try:
        read_checkpoint(tmp_path / "a.ckpt")
    except ValueError as error:
        said = str(error)
    assert not said or said.startswith(str(tmp_path / "a.ckpt"))
    assert len(said) < 600


def test_values_that_hold_themselves_or_are_nested_deep_are_told(tmp_path: Path) -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(400):  # torch's writer goes no deeper
        deep = [deep]
    deeper = tmp_path / "deeper.ckpt"
    torch.save({**content(), "callbacks": {"Cost": {"seconds": circle}}}, tmp_path / "circle.ckpt")
    torch.save({**content(), "more": deep}, deeper)
    with pytest.raises(ValueError, match="nested too deep"):
        read_checkpoint(tmp_path / "circle.ckpt")
    assert "more" in read_checkpoint(deeper)


def test_values_are_compared_with_a_template() -> None:
    template = {"total": {"ready": 0}, "last": False, "rates": [0.5, 0.5], "path": "", "best": None}
    right = {"total": {"ready": 7, "more": "x"}, "last": True, "rates": (0.25, 1), "path": "a", "best": 3}
    assert differs(right, template, "loops") is None
    for key, value, said in (
        ("total", {"ready": -1}, "loops.total.ready: expected a whole number of at least 0, found -1"),
        ("total", {}, "loops.total: 'ready' is missing"),
        ("total", 5, "loops.total: expected keys and values, found 5"),
        ("last", 1, "loops.last: expected true or false, found 1"),
        ("rates", [0.5], "loops.rates: expected 2 values, found [0.5]"),
        ("rates", [0.5, NAN], "loops.rates.1: expected a number, found nan"),
        ("path", 5, "loops.path: expected a text, found 5"),
    ):
        assert differs({**right, key: value}, template, "loops") == said
