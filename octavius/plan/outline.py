"""Builds the model of a configuration on the meta device: shapes and types without weights."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, cast

import open_clip
import torch
from jsonargparse import Namespace
from torch import nn
from transformers import AutoModelForCausalLM

from octavius.configuration.instantiate import instantiate
from octavius.decoder.check import Capabilities
from octavius.decoder.decoder import Decoder
from octavius.decoder.reach import Layout
from octavius.decoder.vision_language import VisionLanguageDecoder
from octavius.encoders.base import Encoder
from octavius.encoders.open_clip_weights import check_weights
from octavius.lora_moe import LoRAMoEConfig
from octavius.lora_moe.freezing import freeze
from octavius.model import Octavius
from octavius.plan.architectures import architecture
from octavius.plan.vision import VisionOutline


@dataclass(frozen=True)
class Setup:
    """The settings of a configuration that a plan depends on.

    Attributes:
        decoder: settings of the decoder.
        encoders: modality to class path and settings.
        lora: settings of the experts; None if the whole decoder is trained.
        normalise_features: see `Octavius`.
        max_tokens: length limit of a prompt with its answer.
        checkpointing: whether the decoder uses activation checkpointing.
        precision: the trainer's precision, such as `bf16-mixed`.
        sharded: whether FSDP2 shards the decoder.
        batch_size: samples per micro-batch and process.
        accumulate: micro-batches per step.
        epochs: number of epochs; None if only steps are set.
        max_steps: maximum number of steps; -1 for no limit.
        samples_per_epoch: over all processes; None takes the size of the data.
        vision: whether the decoder is a vision-language model.
    """

    decoder: dict[str, Any]
    encoders: dict[str, Any]
    lora: dict[str, Any] | None
    normalise_features: bool
    max_tokens: int
    checkpointing: bool
    precision: str
    sharded: bool
    batch_size: int
    accumulate: int
    epochs: int | None
    max_steps: int
    samples_per_epoch: int | None
    vision: bool = False


def setup_of(config: Namespace) -> Setup:
    """Extracts the settings from a parsed configuration.

    Raises:
        ValueError: it does not train an OctaviusModule.
    """
    model, data, trainer = (_plain(config[key]) for key in ("model", "data", "trainer"))
    if not str(model["class_path"]).endswith("OctaviusModule"):
        raise ValueError(
            f"only instruction tuning (OctaviusModule) can be planned, found {model['class_path']}"
        )
    options, sources = model["init_args"], data["init_args"]
    strategy = trainer["strategy"]
    strategy = strategy["class_path"] if isinstance(strategy, Mapping) else str(strategy)
    return Setup(
        decoder=options["decoder"]["init_args"],
        encoders=options["encoders"],
        lora=options["lora"],
        normalise_features=options["normalise_features"],
        max_tokens=options["max_tokens"],
        checkpointing=options["activation_checkpointing"],
        precision=str(trainer["precision"] or "32-true"),
        sharded=strategy.lower().rpartition(".")[2].startswith("fsdp"),
        batch_size=sources["batch_size"],
        accumulate=trainer["accumulate_grad_batches"],
        epochs=trainer["max_epochs"],
        max_steps=trainer["max_steps"],
        samples_per_epoch=sources["samples_per_epoch"],
        vision=is_vision_language(options["decoder"]),
    )


def is_vision_language(decoder: Mapping[str, Any]) -> bool:
    """Whether the settings of a decoder are those of a vision-language model."""
    return str(decoder.get("class_path", "")).endswith(VisionLanguageDecoder.__name__)


class DecoderOutline(Decoder):
    """A decoder without weights or tokenizer."""

    def __init__(self, name: str, dtype: str, attention: str, layers: int | None) -> None:
        """Builds the layers on torch's current default device.

        Args:
            name: see `Decoder`.
            dtype: type of the weights.
            attention: see `Decoder`.
            layers: number of layers; None for all.
        """
        nn.Module.__init__(self)
        config = architecture(name)
        if layers is not None:
            config.num_hidden_layers = layers
            if getattr(config, "layer_types", None):
                config.layer_types = config.layer_types[:layers]
        options = {"dtype": getattr(torch, dtype), "attn_implementation": attention}
        self.name, self.compiled, self.capabilities = name, False, Capabilities()
        self.lm = AutoModelForCausalLM.from_config(config, **options)
        self.attention = self.lm.config._attn_implementation
        self.width = config.hidden_size

    def layouts(self, modules: Mapping[str, nn.Module]) -> dict[str, Layout]:
        """Every layer takes (B, T, D): without a tokenizer, or on the meta device, there is nothing to probe."""
        return dict.fromkeys(modules, "samples")


def depth(setup: Setup) -> int:
    """Number of layers of the decoder, in a vision-language model of its language part."""
    return int(architecture(setup.decoder["name"]).get_text_config().num_hidden_layers)


def outline(setup: Setup, layers: int | None = None) -> Octavius:
    """The model of a set-up on the meta device.

    Args:
        setup: the set-up.
        layers: number of decoder layers, which then all have the largest number of experts of any layer; None
            keeps the layers as configured.
    """
    config = setup.decoder
    encoders = {name: encoder_outline(parts) for name, parts in setup.encoders.items()}
    lora: LoRAMoEConfig | None = instantiate("lora", LoRAMoEConfig | None, setup.lora)
    if lora is not None and layers is not None and not isinstance(lora.experts, int):
        lora = replace(lora, experts=max(lora.experts))
    with torch.device("meta"):
        options = config["name"], config.get("dtype", "float32"), config.get("attention", "sdpa")
        decoder: Decoder = (
            VisionOutline(*options, config.get("train_connector", False), layers)
            if setup.vision
            else DecoderOutline(*options, layers)
        )
        model = Octavius(decoder, encoders, lora, setup.normalise_features)
    if lora is not None:
        freeze(model, lora)
    return model


def encoder_outline(config: dict[str, Any]) -> Encoder:
    """An encoder on the meta device; downloads no weights, but reads those of a local folder."""
    config = deepcopy(config)
    options = config.get("init_args", {})
    pretrained = options.pop("pretrained", None)
    if pretrained is not None and options.get("name") in open_clip.list_models():
        check_weights(options["name"], pretrained)
    with torch.device("meta") if pretrained is not None else nullcontext(), _quiet():
        encoder: Encoder = instantiate("encoder", Encoder, config)
    return encoder.to("meta")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences warnings about missing weights, which are intended."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _plain(value: Any) -> dict[str, Any]:
    """A part of a configuration as plain dicts."""
    return cast(dict[str, Any], value.as_dict() if isinstance(value, Namespace) else dict(value))
