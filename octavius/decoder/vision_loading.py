"""Loads vision-language models and their processors, and finds their parts."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from octavius.decoder.vision_processor import TYPES, encoded
from octavius.folders import check_folder

CONNECTORS = ("multi_modal_projector", "connector", "merger", "deepstack_merger_list")
"""Names of the modules between vision tower and language model; they may lie inside the tower."""


def load_processor(location: str | Path, name: str) -> tuple[Any, int]:
    """Loads a model's configuration and its processor.

    Args:
        location: the hub id or folder.
        name: how the user names it, for messages.

    Returns:
        The processor, and the id of image tokens.

    Raises:
        ValueError: there is no such model, it takes no images, or it has no processor for them.
    """
    try:
        config = AutoConfig.from_pretrained(str(location))
    except Exception as error:  # transformers raises almost anything on bad names and files
        raise ValueError(
            f"no vision-language model could be loaded from {name!r}: expected a hub id (with a network or a filled "
            f"cache), or a folder with config.json, weights and processor. The loader said: {error}"
        ) from None
    if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise ValueError(
            f"{name!r} is of the type {config.model_type!r}, which is no vision-language model of transformers: for "
            "a language model take class_path: Decoder, with an encoder for images"
        )
    image_id = getattr(config, "image_token_id", None)
    if image_id is None:
        raise ValueError(
            f"{name!r}, of the type {config.model_type!r}, has no image_token_id: its images do not stand in the "
            "prompt as tokens, which is not supported"
        )
    try:
        backend = AutoProcessor.from_pretrained(str(location))
    except Exception as error:
        raise ValueError(f"the processor of {name!r} could not be loaded: {error}") from None
    if not isinstance(backend, ProcessorMixin) or getattr(backend, "image_processor", None) is None:
        raise ValueError(
            f"{name!r} has no processor for images: expected processor_config.json or preprocessor_config.json "
            f"beside its weights, found only what makes a {type(backend).__name__}; copy the processor's files too"
        )
    return backend, int(image_id)


def load_model(location: str | Path, name: str, options: dict[str, Any]) -> PreTrainedModel:
    """Loads the weights of a vision-language model.

    Raises:
        ValueError: they cannot be read, or tensors are missing.
    """
    try:
        if Path(location).is_dir():
            check_folder(Path(location))
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            str(location), output_loading_info=True, **options
        )
    except Exception as error:
        raise ValueError(
            f"no vision-language model could be loaded from {name!r}. The loader said: {error}"
        ) from None
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"the weights of {name!r} do not match its configuration: {len(missing)} tensors are missing, the first "
            f"is {missing[0]}"
        )
    return cast(PreTrainedModel, model)


def language_of(lm: PreTrainedModel) -> nn.Module:
    """The language part of a vision-language model, without its output layer.

    Raises:
        ValueError: it is not a module of its own.
    """
    found = lm.get_decoder()
    towers = [part for name, part in lm.named_modules() if name.rpartition(".")[2] in CONNECTORS]
    if found is lm or any(part is tower for part in found.modules() for tower in towers):
        raise ValueError(
            f"{type(lm).__name__} has no language part apart from its vision tower, so that experts cannot be kept "
            "out of the tower"
        )
    return found


def beside_language(location: str | Path) -> list[str]:
    """The names of the outermost modules beside the language part, the output layer among them.

    Args:
        location: the hub id or folder, of which only the configuration is read.

    Raises:
        ValueError: the language part is not a module of its own.
    """
    with torch.device("meta"):
        lm = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(str(location)))
    language = language_of(lm)
    around = {
        name: part
        for name, part in lm.named_modules()
        if part is not language and any(one is language for one in part.modules())
    }
    inner = {
        f"{name}.{child}".lstrip("."): module
        for name, part in around.items()
        for child, module in part.named_children()
    }
    return [name for name, module in inner.items() if module is not language and name not in around]


def connector_of(lm: PreTrainedModel) -> list[nn.Module]:
    """The modules between vision tower and language model.

    Raises:
        ValueError: none has a known name.
    """
    found = [part for name, part in lm.named_modules() if name.rpartition(".")[2] in CONNECTORS]
    if not found:
        raise ValueError(
            f"no connector was found in {type(lm).__name__}: none of its modules is called {', '.join(CONNECTORS)}; "
            "leave train_connector at false"
        )
    return found


def type_names(backend: Any) -> tuple[str, ...]:
    """The names under which the model takes the type of each token, by what its processor returns for a text."""
    out = encoded(backend, ["What is this?"], None)
    return tuple(name for name in TYPES if name in out)
