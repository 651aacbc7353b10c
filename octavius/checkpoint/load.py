"""Loads the model of a checkpoint or of an exported folder, for use without a trainer."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from yaml import YAMLError

from octavius.checkpoint.opened import OpenCheckpoint, open_checkpoint
from octavius.checkpoint.peft_format import read_adapter
from octavius.checkpoint.saved_configuration import current_section
from octavius.checkpoint_format.weights import load_exactly
from octavius.configuration.instantiate import instantiate
from octavius.configuration.text import check, read_text
from octavius.folders import check_folder
from octavius.lora_moe.merge import layers_of
from octavius.training import PROJECTORS, OctaviusModule

MANIFEST = "manifest.json"
"""Name of the file that describes an exported folder."""


def load(path: Path, trust: bool = False) -> OctaviusModule:
    """Builds the model of a checkpoint or an exported folder from its own configuration and loads its weights.

    Args:
        path: the file or the folder.
        trust: let the configuration name any class; otherwise only those of `octavius.configuration.trust`.

    Returns:
        The module in eval mode.

    Raises:
        ValueError: there is no configuration, the checkpoint is of another model, or the folder is not an
            export.
    """
    return load_export(path, trust) if path.is_dir() else load_checkpoint(open_checkpoint(path), trust)


def load_checkpoint(checkpoint: OpenCheckpoint, trust: bool = False) -> OctaviusModule:
    """Builds the model of a checkpoint from its configuration and loads its weights.

    Raises:
        ValueError: it has no configuration, or is of another model.
    """
    source = checkpoint.configuration.source
    module = build(checkpoint.model_section(), None if trust else source)
    checkpoint.load_into(module)
    return module.eval()


def build(model: Any, untrusted: str | None) -> OctaviusModule:
    """Instantiates the `model` section of a configuration.

    Args:
        model: the section.
        untrusted: name of the file that it is from, if only trusted classes are allowed; None allows all.
    """
    module: OctaviusModule = instantiate("model", OctaviusModule, model, untrusted)
    return module


def load_export(folder: Path, trust: bool = False) -> OctaviusModule:
    """Loads the model of a folder that `octavius export` wrote in the format hf or peft.

    Raises:
        ValueError: the folder is not an export, is incomplete, or belongs to another language model or
            encoder.
    """
    manifest = read_manifest(folder)
    check_folder(folder)
    model = current_section(manifest["model"])
    if manifest["format"] == "hf":
        try:
            model["init_args"]["decoder"]["init_args"]["name"] = str(folder)
        except (KeyError, TypeError):
            raise ValueError(f"{folder / MANIFEST} names no decoder; export again") from None
    elif manifest["format"] == "experts":
        raise ValueError(
            f"{folder} holds the experts one by one, between which nothing chooses; take the checkpoint, or an "
            "export of the format hf or peft"
        )
    elif manifest["format"] == "gguf":
        raise ValueError(
            f"{folder} holds files for llama-server: start it by the command in its README.md and ask through "
            "octavius serve --backend llama-server, or take the checkpoint, or an export of the format hf or peft"
        )
    module = build(model, None if trust else str(folder / MANIFEST))
    if module.frozen_fingerprint != manifest["frozen_fingerprint"]:
        raise ValueError(
            f"{folder} was exported from a model with the frozen weights {manifest['frozen_fingerprint']}, those "
            f"loaded here are {module.frozen_fingerprint}: {manifest['base']} or an encoder has other weights now"
        )
    if manifest["format"] == "peft":
        fill_adapter(module.model.decoder.lm, folder)
    fill_projectors(module.model.projectors, folder / PROJECTORS)
    return module.eval()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an exported folder.

    Raises:
        ValueError: it is missing or malformed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"{folder} is a folder without {MANIFEST}: expected a checkpoint of `octavius fit`, or a folder that "
            "`octavius export` wrote to its end"
        )
    try:
        text = read_text(path)
        check(text)  # refuses duplicate keys and deep nesting, which json.loads accepts
        manifest: dict[str, Any] = json.loads(text)
        if missing := {"format", "base", "model", "frozen_fingerprint"} - set(manifest):
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        if not isinstance(manifest["model"], dict):
            raise ValueError("its model is no mapping")
    except (ValueError, TypeError, YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}; export again") from None
    return manifest


def fill_adapter(lm: nn.Module, folder: Path) -> None:
    """Loads a PEFT adapter into layers with one expert; the adapter's scale is folded into B."""
    adapter, layers = read_adapter(folder), layers_of(lm)
    state: dict[str, Tensor] = {}
    for name, (down, up) in adapter.pairs.items():
        scale = layers[name].scale if name in layers else 1.0
        state |= {f"{name}.lora_A": down, f"{name}.lora_B": up * (adapter.scales[name] / scale)}
    load_exactly(lm, state, {f"{name}.{half}" for name in layers for half in ("lora_A", "lora_B")}, folder)


def fill_projectors(projectors: nn.Module, path: Path) -> None:
    """Loads all projectors from a file that holds exactly these."""
    if not path.is_file():
        raise ValueError(f"there is no {path}, which holds the projectors; export again")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as tensors: {' '.join(str(error).split())}") from None
    load_exactly(projectors, state, set(projectors.state_dict()), path)
