"""Former names of classes, of the option `miniature` and of data states still lead to what there is now."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from octavius.checkpoint_format.earlier import (
    MOVED,
    WRITERS,
    current_classes,
    current_states,
    option_hint,
    short,
)
from octavius.checkpoint_format.weights import read_checkpoint
from octavius.configuration.rules import resolve
from octavius.configuration.trust import is_listed


def find(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("path", [*MOVED.values(), *WRITERS, *WRITERS.values()])
def test_present_classes_exist_and_may_be_named_beside_a_checkpoint(path: str) -> None:
    assert isinstance(find(path), type)
    assert is_listed(path)


@pytest.mark.parametrize("old", WRITERS)
def test_what_writes_is_a_subclass_of_what_reads(old: str) -> None:
    assert issubclass(find(WRITERS[old]), find(old))


@pytest.mark.parametrize("old", MOVED)
def test_a_former_path_is_resolved_in_a_configuration_of_today(old: str) -> None:
    assert resolve(object, old) == MOVED[old]


def test_a_saved_mixture_names_what_writes_its_parts() -> None:
    part = {"root": "data", "train": [{"benchmark": "scanqa"}]}
    images, clouds = "datamodules.images.ImageInstructions", "datamodules.clouds.CloudInstructions"
    saved = {
        "class_path": "datamodules.mixed.MixedInstructions",
        "init_args": {
            "images": {"class_path": images, "init_args": {**part, "miniature": True}},
            "clouds": {"class_path": clouds, "init_args": {**part, "miniature": False}},
        },
    }
    found = current_classes(saved)["init_args"]
    assert found["images"] == {"class_path": "datamodules.miniature.data.MiniatureImages", "init_args": part}
    assert found["clouds"] == {"class_path": clouds, "init_args": part}
    assert current_classes(found) == found


def test_what_has_no_former_name_is_left_alone() -> None:
    section = {"a": [1, None, 2.5, True], "class_path": "my.Data", "init_args": {"miniature": True}}
    assert current_classes(section) == section


@pytest.mark.parametrize(("old", "new"), WRITERS.items())
def test_the_position_in_the_data_is_found_by_either_class(old: str, new: str, tmp_path: Path) -> None:
    for known, other in ((short(old), short(new)), (short(new), short(old))):
        checkpoint = {"state_dict": {}, known: {"epoch": 1, "batch": 2}}
        assert current_states(checkpoint)[other] == {"epoch": 1, "batch": 2}
        torch.save(checkpoint, tmp_path / "last.ckpt")
        assert read_checkpoint(tmp_path / "last.ckpt")[other] == {"epoch": 1, "batch": 2}


@pytest.mark.parametrize(
    ("owner", "option", "said"),
    [
        ("ImageInstructions", "miniature", "class_path: MiniatureImages writes the miniature"),
        ("SceneBoxes", "miniature", "class_path: MiniatureSceneBoxes writes"),
        ("", "--data.init_args.miniature=true", "MiniatureImages, MiniatureClouds, MiniatureObjects"),
        ("ImageInstructions", "miniatures", ""),
        ("", "--miniature.sizes", ""),
    ],
)
def test_the_former_option_names_the_class(owner: str, option: str, said: str) -> None:
    hint = option_hint(owner, option)
    assert said in hint
    assert bool(said) is bool(hint)


def test_a_renamed_option_is_read_from_checkpoints_and_named_in_errors() -> None:
    path = "datamodules.miniature.convention_data.Conventions"
    saved = {"class_path": path, "init_args": {"conventions": 2, "told": "own"}}
    assert current_classes(saved)["init_args"] == {"conventions": 2, "cue": "own"}
    assert option_hint("Conventions", "--data.init_args.told=own") == "; it is called cue now"
    assert option_hint("Decoder", "told") == ""
