"""Adds experts to a checkpoint, or takes its weights as the start of another training."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from octavius.checkpoint.opened import OpenCheckpoint, open_checkpoint
from octavius.gate_fitting import pooling, question_of, spaced
from octavius.lora_moe.gates.added import SEEN, AddedGate
from octavius.lora_moe.inject import adapter_parameters
from octavius.lora_moe.layer import LoRAMoELinear
from octavius.presets import find_checkpoint
from octavius.training import OctaviusModule

GATE = "model.gate."


def open_one(files: Sequence[Path], count: int, options: Sequence[str]) -> OpenCheckpoint | None:
    """Opens the file to import if it is a checkpoint of Octavius, by its ending `.ckpt`.

    Args:
        files: the files to import.
        count: number of experts to add.
        options: further options of the command.

    Returns:
        None for files of other programs.

    Raises:
        ValueError: it cannot be read, or experts cannot be added to these files.
    """
    if count < 0:
        raise ValueError(f"--add-experts {count}: expected 0, or the number of experts to add")
    if [file.suffix for file in files] != [".ckpt"]:
        if count:
            raise ValueError(
                "--add-experts adds to one checkpoint of `octavius fit`, such as last.ckpt, found "
                f"{', '.join(map(str, files))}"
            )
        return None
    if count and any(word.partition("=")[0] in ("--config", "-c") for word in options):
        raise ValueError(
            "--add-experts reads the questions that keep their routing from the data of the checkpoint's own "
            "configuration: leave out --config, and give the new data to `octavius fit --ckpt start.ckpt "
            "--config ...`"
        )
    return open_checkpoint(find_checkpoint(str(files[0])))


def options_with(opened: OpenCheckpoint, count: int) -> list[str]:
    """Options of `octavius fit` by which the model of a checkpoint has `count` experts more, which alone are trained.

    Raises:
        ValueError: the checkpoint has no experts.
    """
    if not count:
        return []
    lora = opened.model_section()["init_args"].get("lora")
    if lora is None:
        raise ValueError(
            f"{opened.path} has no experts, so that none can be added: its language model was trained whole"
        )
    before = lora["experts"]
    experts = before + count if isinstance(before, int) else [one + count for one in before]
    changed = {
        "experts": json.dumps(experts),
        "added": json.dumps([*lora.get("added", []), count]),
        "train": "added",
        "losses": "{}",
    }
    return [word for key, text in changed.items() for word in (f"--model.init_args.lora.{key}", text)]


def fill_from(module: OctaviusModule, opened: OpenCheckpoint, count: int, data: Any) -> str:
    """Loads the weights of a checkpoint into a model with `count` experts more.

    Args:
        module: the model.
        opened: the checkpoint.
        count: number of added experts, which add nothing at first.
        data: the data module of the checkpoint's training, whose questions are to keep their routing.

    Returns:
        One line that says what was loaded.

    Raises:
        ValueError: the checkpoint is of another model, or its training questions cannot be read.
    """
    state = (
        with_experts(module, opened.content["state_dict"], count) if count else opened.content["state_dict"]
    )
    OpenCheckpoint(opened.path, {**opened.content, "state_dict": state}, opened.saved).load_into(module)
    steps = opened.content.get("global_step")
    if not count:
        return f"the weights of {opened.path.name} after {steps} steps"
    if not hasattr(data, "train_sets"):
        raise ValueError(f"{type(data).__name__} has no training questions, which are to keep their routing")
    data.prepare_data()
    samples = spaced([item.samples for item in data.train_sets()], 20 * SEEN)
    questions = [question_of(sample) for _, sample in samples]
    gate = module.model.gate
    assert isinstance(gate, AddedGate)
    gate.remember(questions, pooling(module.model.decoder))
    return (
        f"the weights of {opened.path.name} after {steps} steps and {count} more "
        f"expert{'s' * (count > 1)}; {len({*questions})} training questions keep their routing"
    )


@torch.no_grad()
def with_experts(module: OctaviusModule, state: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """The trained tensors of a checkpoint in the shapes of a model with `count` experts more.

    Args:
        module: the larger model, whose initial values the new experts and the new gate keep.
        state: the tensors; those of the gate become the gate that experts are added to.
        count: number of added experts.
    """
    own, found = module.state_dict(), {}
    kept = {f"model.decoder.lm.{name}" for name in adapter_parameters(module.model.decoder.lm)}
    for name, tensor in state.items():
        if name not in kept:
            found[f"{GATE}before.{name.removeprefix(GATE)}" if name.startswith(GATE) else name] = tensor
            continue
        layer = module.get_submodule(name.rpartition(".")[0])
        assert isinstance(layer, LoRAMoELinear)
        if tensor.shape == own[name].shape:  # a shared A
            found[name] = tensor
        else:
            axis = 1 if name.endswith("lora_B") else 0
            rest = own[name].narrow(axis, tensor.shape[axis], count * layer.rank)
            found[name] = torch.cat([tensor, rest.to(tensor.dtype)], axis)
    new = {
        name for name in module.saved_names if name.startswith(GATE) and not name.startswith(f"{GATE}before.")
    }
    return {**found, **{name: own[name] for name in new}}
