"""Vision-language models in a plan: their shapes without weights, and what an image takes."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from octavius.decoder.check import Capabilities
from octavius.decoder.loading import locate
from octavius.decoder.passes import Around, Positions
from octavius.decoder.reach import Layout
from octavius.decoder.vision_language import UNLIMITED, VisionLanguageDecoder
from octavius.decoder.vision_loading import load_processor
from octavius.decoder.vision_processor import VisionPromptBuilder
from octavius.plan.architectures import architecture

SIZE = (640, 480)
"""Width and height in pixels of the image that is planned for, a usual one of COCO."""


@dataclass(frozen=True)
class ImageCost:
    """What an image of a sample takes.

    Attributes:
        tokens: its tokens in the prompt.
        pixels: bytes of what the processor makes of it.
        temporaries: bytes of the largest tensors of one layer of the frozen vision tower, estimated.
        operations: FLOPs of the vision tower, estimated from its parameters.
    """

    tokens: int = 0
    pixels: float = 0.0
    temporaries: float = 0.0
    operations: float = 0.0


NO_IMAGE = ImageCost()


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


def image_cost(name: str, decoder: VisionLanguageDecoder) -> ImageCost:
    """What an image of `SIZE` takes, by the model's own processor.

    Raises:
        ValueError: the processor's files are not available.
    """
    backend, image_id = load_processor(locate(name), name)
    prompts = VisionPromptBuilder(backend, image_id, UNLIMITED)
    ids, tensors = prompts.encode(prompts.chat.question([("", "What is this?")]), [Image.new("RGB", SIZE)])
    tower = decoder.lm.get_encoder(modality="image")
    parameters = sum(part.numel() for part in tower.parameters())
    vision: Any = decoder.lm.config.vision_config
    pixels = tensors["pixel_values"]
    side = vision.patch_size if isinstance(vision.patch_size, int) else vision.patch_size[0]
    # Tiles (..., 3, H, W) in patches, or patches already in rows.
    patches = (
        len(pixels)
        if pixels.dim() == 2
        else pixels.shape[:-3].numel() * math.prod(pixels.shape[-2:]) // side**2
    )
    widths = 4 * vision.hidden_size + getattr(vision, "intermediate_size", 4 * vision.hidden_size)
    bytes_each = next(tower.parameters()).element_size()
    return ImageCost(
        ids.count(image_id),
        float(sum(part.numel() * part.element_size() for part in tensors.values())),
        float(patches * widths * bytes_each),
        2.0 * parameters * patches,
    )
