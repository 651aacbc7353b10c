"""What an image of a sample costs in a model that sees images by its own vision tower: tokens, memory and FLOPs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel


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


def image_cost(lm: PreTrainedModel, tokens: int, tensors: Mapping[str, Tensor]) -> ImageCost:
    """The cost of an image by what the processor makes of it.

    Args:
        lm: the model, which may be without weights.
        tokens: number of tokens of the image.
        tensors: what the processor makes of the image; `pixel_values` are tiles (..., 3, H, W) or patches in rows.
    """
    tower: Any = lm.get_encoder(modality="image")
    vision: Any = lm.config.vision_config
    pixels = tensors["pixel_values"]
    side = vision.patch_size if isinstance(vision.patch_size, int) else vision.patch_size[0]
    patches = (
        len(pixels)
        if pixels.dim() == 2
        else pixels.shape[:-3].numel() * math.prod(pixels.shape[-2:]) // side**2
    )
    widths = 4 * vision.hidden_size + getattr(vision, "intermediate_size", 4 * vision.hidden_size)
    return ImageCost(
        tokens,
        float(sum(part.numel() * part.element_size() for part in tensors.values())),
        float(patches * widths * next(tower.parameters()).element_size()),
        2.0 * sum(part.numel() for part in tower.parameters()) * patches,
    )
