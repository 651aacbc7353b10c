"""Vision-language models in a plan: their shapes without weights, and what an image takes."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, Qwen2VLImageProcessor

from octavius.decoder.check import Capabilities
from octavius.decoder.image_cost import ImageCost, image_cost
from octavius.decoder.loading import locate
from octavius.decoder.passes import Around, Positions
from octavius.decoder.reach import Layout
from octavius.decoder.vision_language import UNLIMITED, VisionLanguageDecoder
from octavius.decoder.vision_loading import load_processor
from octavius.decoder.vision_processor import VisionPromptBuilder
from octavius.plan.architectures import IMAGE_PROCESSORS, architecture


class VisionOutline(VisionLanguageDecoder):
    """A vision-language model without weights or processor, whose language part is run on embeddings."""

    def __init__(
        self, name: str, dtype: str, attention: str, train_connector: bool, layers: int | None
    ) -> None:
        """Builds the layers on torch's current default device.

        Args:
            name: see `VisionLanguageDecoder`.
            dtype: type of the weights.
            attention: see `VisionLanguageDecoder`.
            train_connector: see `VisionLanguageDecoder`.
            layers: number of layers of the language part; None for all.
        """
        nn.Module.__init__(self)
        config = architecture(name)
        text = config.get_text_config()
        if layers is not None:
            text.num_hidden_layers = layers
            if getattr(text, "layer_types", None):
                text.layer_types = text.layer_types[:layers]
        options = {"dtype": getattr(torch, dtype), "attn_implementation": attention}
        self.name, self.compiled, self.train_connector = name, False, train_connector
        self.capabilities = Capabilities()
        self.lm = AutoModelForImageTextToText.from_config(config, **options)
        self.attention = self.lm.config._attn_implementation
        self.width = text.hidden_size
        self.unfreeze()

    def image_cost(self, size: tuple[int, int]) -> ImageCost:
        """What an image of a width and height in pixels takes.

        Raises:
            ValueError: the processor's files are not available.
        """
        location = locate(self.name)
        if isinstance(location, str) and self.name in IMAGE_PROCESSORS:
            settings = IMAGE_PROCESSORS[self.name]
            images = [Image.new("RGB", size)]
            tensors: Any = Qwen2VLImageProcessor(**settings)(images=images, return_tensors="pt")
            tokens = len(tensors["pixel_values"]) // settings["merge_size"] ** 2
            return image_cost(self.lm, tokens, tensors)
        backend, image_id = load_processor(location, self.name)
        self.prompts = VisionPromptBuilder(backend, image_id, UNLIMITED)
        return super().image_cost(size)

    def layouts(self, modules: Mapping[str, nn.Module]) -> dict[str, Layout]:
        """Every layer takes (B, T, D), as in `octavius.plan.outline.DecoderOutline`."""
        return dict.fromkeys(modules, "samples")

    def logits(
        self,
        embeddings: Any,
        attention_mask: Tensor,
        wanted: Positions,
        segment_ids: Tensor | None = None,  # noqa: ARG002
        around: Around = nullcontext,
    ) -> Tensor:
        """Vocabulary logits of the language part on embeddings (B, T, D)."""
        options = {"attention_mask": attention_mask, "use_cache": False}
        hidden = self.tuned(inputs_embeds=embeddings, **options).last_hidden_state
        with around():
            logits: Tensor = self.lm.get_output_embeddings()(hidden[wanted][None])[0]
        return logits
