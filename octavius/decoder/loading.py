"""Loads causal language models of Hugging Face from the hub, a folder, or a GGUF file."""

import os
import sys
from pathlib import Path
from shutil import which
from typing import Any, cast

from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from octavius.folders import check_folder
from octavius.presets import find_checkpoint


def layers(lm: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a Hugging Face causal LM: its longest ModuleList.

    Raises:
        ValueError: it has none, so there is nothing to shard or to compile.
    """
    lists: list[list[nn.Module]] = [list(found) for found in lm.modules() if isinstance(found, nn.ModuleList)]
    if not lists:
        raise ValueError(
            f"{type(lm).__name__} has no list of equal layers: use the strategy ddp instead of sharding it, and "
            "leave `compile` off"
        )
    return max(lists, key=len)


def locate(name: str) -> str | Path:
    """The path of a folder or GGUF file, here or under `checkpoints/`; any other name is taken as a hub id.

    Raises:
        ValueError: the name ends in `.gguf`, and there is no such file.
    """
    if Path(name).exists():
        return Path(name)
    try:
        return find_checkpoint(name)
    except ValueError:
        if name.endswith(".gguf"):
            raise
        return name


def load_model(location: str | Path, from_scratch: bool, options: dict[str, Any]) -> PreTrainedModel:
    """Loads a model from a hub id, folder or GGUF file, or builds it randomly initialised.

    Args:
        location: the hub id or path.
        from_scratch: initialise the weights at random.
        options: passed to transformers.

    Raises:
        ValueError: tensors of the architecture are missing in the weights, or it is a vision-language model.
    """
    path = Path(location)
    files = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    source = str(path.parent if files else location)
    if from_scratch:
        config = AutoConfig.from_pretrained(source, **files)
        return cast(PreTrainedModel, AutoModelForCausalLM.from_config(config, **options))
    if not files:
        if path.is_dir():
            check_folder(path)
        kind = AutoConfig.from_pretrained(source).model_type
        if (
            kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
            and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        ):
            raise ValueError(
                f"it is a vision-language model, of the type {kind!r}: take class_path: VisionLanguageDecoder and "
                "encoders: {}"
            )
    loaded: Any = AutoModelForCausalLM.from_pretrained(source, output_loading_info=True, **files, **options)
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"weights do not match the configuration: {len(missing)} tensors of the configuration "
            f"are not among the weights, the first is {missing[0]}"
        )
    return cast(PreTrainedModel, model)


def to_float32(lm: PreTrainedModel) -> None:
    """Converts the weights to float32, which keeps their values; quantised integer weights are unchanged.

    The weights of a GGUF file are floating point once loaded, but transformers still counts the model as
    quantised and refuses `lm.float()`.
    """
    nn.Module.float(lm)


def has_compiler() -> bool:
    """Whether the C++ compiler that `torch.compile` needs is installed; warns if not."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    found = which(name) is not None
    if not found:
        rank_zero_warn(
            f"the decoder's setting `compile: true` needs a C++ compiler, and there is no {name!r} here: training "
            "goes on without torch.compile, at about half the speed on a CPU. Install one (Debian: apt install g++), "
            "name yours in the environment variable CXX, or set compile to false"
        )
    return found
