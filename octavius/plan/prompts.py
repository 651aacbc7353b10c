"""Builds the processor of a configuration without its model: tokenizer, template and slots, but no weights."""

from collections.abc import Callable
from typing import Literal

import lightning as L
from jsonargparse import Namespace

from octavius.configuration.instantiate import instantiate
from octavius.decoder.loading import locate
from octavius.decoder.vision_loading import load_processor
from octavius.decoder.vision_processor import VisionProcessor
from octavius.encoders.base import Encoder, tags_of
from octavius.encoders.image_cache import CachedImageLoader
from octavius.encoders.rois.roi_cache import CachedRoiLoader
from octavius.instruction.batch import Processor
from octavius.instruction.chat import chat_template
from octavius.instruction.prompt import Template
from octavius.instruction.tokenizer import load_tokenizer
from octavius.plan.outline import encoder_outline, is_vision_language
from octavius.published.prompts import prompt_builder


def check_configuration(
    config: Namespace, check: Callable[[L.LightningDataModule, Processor | None], None]
) -> None:
    """Passes data module and processor of a parsed configuration to a function that checks its samples."""
    data = instantiate("data", L.LightningDataModule, config["data"].as_dict())
    processor = None
    if str(config["model"]["class_path"]).endswith("OctaviusModule"):
        try:
            processor = processor_outline(config["model"])
        except (ValueError, OSError, ImportError) as error:
            print(f"the lengths of prompts are not checked, as the model's parts are not here: {error}")
    check(data, processor)


def processor_outline(model: Namespace) -> Processor:
    """The processor that the model of a parsed configuration would have.

    Loaders of precomputed features are left out, since these may not exist yet.

    Args:
        model: the `model` section of a configuration of an `OctaviusModule`.

    Raises:
        ValueError: its tokenizer or the shape of an encoder is not available here.
    """
    options = model["init_args"].as_dict()
    if is_vision_language(options["decoder"]):
        name = options["decoder"]["init_args"]["name"]
        return VisionProcessor(*load_processor(locate(name), name), options["max_tokens"])
    try:
        tokenizer = load_tokenizer(locate(options["decoder"]["init_args"]["name"]))
    except Exception as error:  # transformers raises almost anything on bad names and files
        raise ValueError(f"the tokenizer cannot be loaded: {error}") from None
    encoders: dict[str, Encoder] = {name: encoder_outline(one) for name, one in options["encoders"].items()}
    template = instantiate("template", Template | Literal["chat"] | None, options["template"])
    generation_template = instantiate("template", Template | None, options["test_template"])
    prompts = prompt_builder(
        tokenizer,
        {name: encoder.num_tokens for name, encoder in encoders.items()},
        chat_template(tokenizer) if template == "chat" else template,
        options["max_tokens"],
        generation_template,
        tags_of(encoders),
    )
    loaders = {name: encoder.loader() for name, encoder in encoders.items()}
    return Processor(
        prompts,
        {
            name: one
            for name, one in loaders.items()
            if not isinstance(one, CachedImageLoader | CachedRoiLoader)
        },
    )
