"""Checkpoint contents: trainable tensors are saved, frozen ones only fingerprinted; and strict loading of both."""

import hashlib
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from octavius.checkpoint_format.bounds import check_torch_file, too_large
from octavius.checkpoint_format.content import wrong_format, wrong_kind
from octavius.checkpoint_format.earlier import current_states
from octavius.checkpoint_format.seal import check_seal
from octavius.folders import check_listed


def trainable(module: nn.Module) -> dict[str, Tensor]:
    """All tensors that training changes: trainable parameters, and fitted buffers (such as centroids of a gate).

    Parameters that only this run keeps frozen (`lora.train`) count too, which a module lists as `saved_names`.
    """
    kept = getattr(module, "saved_names", ())
    tuned = {name: part for name, part in module.named_parameters() if part.requires_grad or name in kept}
    fitted = {
        f"{name}.{buffer}".lstrip("."): part.get_buffer(buffer)
        for name, part in module.named_modules()
        for buffer in getattr(part, "fitted_buffers", ())
    }
    return {**tuned, **fitted}


def trainable_names(module: nn.Module) -> set[str]:
    """Names of all tensors that training changes."""
    return {*trainable(module)}


def keep_trainable(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a state dict that training changes."""
    wanted = trainable_names(module)
    return {name: tensor for name, tensor in state.items() if name in wanted}


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries of a state dict whose names start with a prefix, without that prefix."""
    return {name.removeprefix(prefix): part for name, part in state.items() if name.startswith(prefix)}


def load_fitting(module: nn.Module, path: Path) -> set[str]:
    """Loads the tensors of a safetensors file whose names and shapes match the module.

    Returns:
        Names of the loaded tensors; the others are left unchanged.

    Raises:
        ValueError: no tensor matches, or the file cannot be read.
    """
    check_listed(path)
    found = read_tensors(path)
    expected = module.state_dict()
    taken = {
        name: tensor
        for name, tensor in found.items()
        if name in expected and expected[name].shape == tensor.shape
    }
    if not taken:
        raise ValueError(
            f"nothing of {path} fits: it holds {_first(sorted(found))}, expected {_first(sorted(expected))} in the "
            "shapes of this model; leave the file out, or take the encoders that it was trained with"
        )
    module.load_state_dict(taken, strict=False)
    return {*taken}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        ValueError: it is missing, truncated, or of another format.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as tensors: {' '.join(str(error).split())}") from None


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], wanted: Collection[str], path: Path) -> None:
    """Loads a state dict that must hold exactly the wanted tensors.

    Args:
        module: module to load into; its other tensors are left unchanged.
        state: the tensors.
        wanted: names of the tensors to load.
        path: where they are from, for messages.

    Raises:
        ValueError: names or shapes differ; the message lists the first of each.
    """
    expected = module.state_dict()
    check_names(
        state,
        {name: part.shape for name, part in expected.items() if name in wanted},
        str(path),
        "Take the files as they were written together",
    )
    module.load_state_dict(state, strict=False)


def fingerprint(module: nn.Module, samples: int = 256) -> str:
    """Hashes names, shapes and evenly spaced values of the parameters that are not `trainable`.

    Args:
        module: the model.
        samples: upper bound on the values per tensor; reading all of a large model would take too long.
    """
    digest, changed = hashlib.sha256(), trainable_names(module)
    for name, parameter in sorted(module.named_parameters()):
        if name in changed:
            continue
        if not parameter.is_floating_point():  # quantised: layout and rounding depend on the device
            digest.update(name.encode())
            continue
        flat = parameter.detach().reshape(-1)
        if flat.is_meta:  # without values; names and shapes still count
            values = b""
        else:
            step = -(-flat.numel() // samples) or 1
            # NumPy has no bfloat16. Besides, a model widened to fp32 keeps its fingerprint this way.
            values = flat[::step].to("cpu", torch.float32).numpy().tobytes()
        digest.update(f"{name}{tuple(parameter.shape)}".encode() + values)
    return digest.hexdigest()[:16]


def check_fingerprint(module: nn.Module, checkpoint: Mapping[str, Any], expected: str) -> None:
    """Checks that a checkpoint fits a model.

    Args:
        module: the model.
        checkpoint: content of the checkpoint.
        expected: fingerprint of the frozen weights of the model.

    Raises:
        ValueError: names, shapes or dtypes of trainable tensors differ, or the frozen weights do.
    """
    saved: Mapping[str, Tensor] = checkpoint["state_dict"]
    wanted = {name: part.shape for name, part in trainable(module).items()}
    check_names(
        saved, wanted, "this checkpoint", "Use the configuration that was saved beside the checkpoint"
    )
    for name, part in trainable(module).items():
        found = saved[name].dtype
        # Wider floats are accepted: where bfloat16 is slow, the decoder is trained and saved in float32.
        if found.is_floating_point != part.is_floating_point() or found.itemsize < part.dtype.itemsize:
            raise ValueError(
                f"{name} holds {found}, expected {part.dtype}: it was converted since it was saved"
            )
    frozen = checkpoint.get("frozen_fingerprint")
    if frozen != expected:
        raise ValueError(
            f"the frozen weights differ: the checkpoint was tuned on {frozen}, the decoder and encoders "
            f"loaded here are {expected}; load the same decoder and encoders that it was tuned on"
        )


def check_names(
    saved: Mapping[str, Tensor], wanted: Mapping[str, torch.Size], whose: str, advice: str
) -> None:
    """Checks that tensors have exactly the wanted names and shapes.

    Raises:
        ValueError: they differ; the message lists the first missing, unknown and reshaped ones.
    """
    missing, extra = sorted(set(wanted) - set(saved)), sorted(set(saved) - set(wanted))
    reshaped = [
        f"{name}: {tuple(saved[name].shape)} in the file, {tuple(shape)} here"
        for name, shape in wanted.items()
        if name in saved and saved[name].shape != shape
    ]
    if missing or extra or reshaped:
        raise ValueError(
            f"{whose} is of another model. Missing in the file: {_first(missing)}. "
            f"Not in this model: {_first(extra)}. Other shapes: {_first(reshaped)}. {advice}"
        )


def _first(names: list[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return (", ".join(names[:count]) + more) or "none"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of `octavius fit`; only tensors and plain Python values are unpickled.

    Raises:
        ValueError: it is truncated or changed, not a checkpoint, or holds objects of other types.
    """
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder, expected the file of a checkpoint; from a folder of `octavius export` only "
            "`octavius predict` answers"
        )
    try:
        sealed = check_seal(path)
        check_torch_file(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged pickle raises nearly any exception
        size = path.stat().st_size if path.is_file() else 0
        objects = isinstance(error, pickle.UnpicklingError)  # its message recommends loading it unsafely
        said = "it holds more than tensors and plain values" if objects else str(error)
        reason = (said or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"{path} ({size:,} bytes) cannot be read as a checkpoint: it is cut short, damaged or of another kind "
            f"({reason}). Copy it again, or train anew with `octavius fit`"
        ) from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} is not a checkpoint of Octavius: expected the key 'state_dict', found none")
    try:
        wrong = too_large(checkpoint) or wrong_kind(checkpoint) or wrong_format(checkpoint, sealed)
    except RecursionError:
        wrong = "its values are nested too deep"
    if wrong:
        raise ValueError(f"{path}: {wrong}")
    return current_states(checkpoint)
