"""Frozen CLIP vision tower: patch tokens of the last block, from open_clip models."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from octavius.encoders.base import Encoder, silent
from octavius.encoders.feature_cache import FeatureCache, hash_of, key_of
from octavius.encoders.image_cache import CachedImageLoader, fill
from octavius.encoders.open_clip_weights import check_weights
from octavius.folders import check_folder
from octavius.instruction.media_loader import MediaLoader
from octavius.instruction.sample import Media
from octavius.media.images import ImageLoader
from octavius.media.pictures import VERSION as PICTURES
from octavius.presets import find_checkpoint
from octavius.suggestions import nearest

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
"""Files in the folder of a local model, named as by open_clip."""

VERSION = 2
"""Incremented when the same weights yield other tokens; part of the cache key."""


class ImageEncoder(Encoder):
    """A frozen CLIP vision tower whose output is patch tokens: no class token, no final norm.

    Images must be resized to `image_size` and normalized with `mean` and `std`; `loader` does this in the
    data workers.

    Args:
        name: an open_clip model name such as `ViT-L-14`, or a folder with `open_clip_config.json` and
            `open_clip_model.safetensors`: a path, or a name among the shipped checkpoints (`miniature/clip`).
        pretrained: for a model name, the tag of its weights (such as `openai`) or a file of weights; null is
            random. A folder has its own weights. Weights that were trained with another activation than the
            model's are refused (OpenAI's need a name that ends in `-quickgelu`).
        cache: folder in which each image's tokens are stored: they are computed once before the first batch,
            and then read instead of the image (N x D x 4 bytes, 1 MiB with ViT-L/14). They are computed anew
            if the weights or the file's content change. Null encodes images whenever they are used.

    Attributes:
        width: width D of a token.
        num_tokens: number N of tokens per image.
        image_size: side of an image in pixels.
        mean: mean of each colour channel.
        std: standard deviation of each colour channel.
    """

    def __init__(self, name: str, pretrained: str | None = None, cache: str | None = None) -> None:
        super().__init__()
        tower = open_model(name, pretrained).visual
        if not isinstance(tower, VisionTransformer):
            raise ValueError(
                f"the image encoder needs patch tokens of a vision transformer, and '{name}' has a "
                f"{type(tower).__name__}; choose a ViT model, such as ViT-L-14"
            )
        height, width = tower.image_size
        if height != width:
            raise ValueError(f"the image encoder needs square images; '{name}' takes {height} x {width}")
        self.tower = tower
        self.image_size: int = height
        self.width = tower.positional_embedding.shape[1]
        self.num_tokens = tower.grid_size[0] * tower.grid_size[1]
        self.mean, self.std = _three(tower.image_mean), _three(tower.image_std)
        self.tower.prune_intermediate_layers(1, prune_norm=True)
        _tokens_first(self.tower)
        self.requires_grad_(False)
        self.eval()
        self.cache: FeatureCache | None = None
        # A model on the meta device, built to estimate memory, has no weights to hash.
        if cache is not None and not tower.positional_embedding.is_meta:
            facts = {
                "version": VERSION,
                "weights": hash_of(tower),
                "size": height,
                "mean": self.mean,
                "std": self.std,
                "pictures": PICTURES,
            }
            self.cache = FeatureCache(Path(cache).expanduser(), key_of(facts), _annotated_size)

    def loader(self) -> MediaLoader:
        """Loads an image for this tower, or its cached tokens."""
        if self.cache is not None:
            return CachedImageLoader(self.cache, (self.num_tokens, self.width))
        return self._pixels()

    def _pixels(self) -> ImageLoader:
        return ImageLoader(self.image_size, self.mean, self.std)

    def prepare(self, media: Iterable[Media], device: torch.device | str) -> None:
        """Computes the tokens of all images that are not cached; does nothing without a cache.

        Raises:
            UnreadableMediaError: images cannot be read; raised after all others are done.
        """
        if self.cache is None:
            return
        self.to(device)
        with torch.inference_mode():
            shape = self.num_tokens, self.width
            fill(self.cache, media, self._pixels(), lambda pixels: self(pixels.to(device)), shape, silent())

    def dummy_input(self) -> Tensor:
        """A black image (1, 3, H, W)."""
        return torch.zeros(1, 3, self.image_size, self.image_size)

    def train(self, mode: bool = True) -> "ImageEncoder":  # noqa: ARG002 - the signature of nn.Module
        """Stays in evaluation mode: the tower is frozen, including its dropout."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Patch tokens (B, N, D) in row-major order, from images (B, 3, H, W); cached tokens pass through."""
        side = self.image_size
        if self.cache is not None and images.shape[1:] == (self.num_tokens, self.width):
            return images
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise ValueError(
                f"expected images of shape (B, 3, {side}, {side}), got {tuple(images.shape)}; "
                f"resize them to the encoder's image_size"
            )
        found = self.tower.forward_intermediates(
            images, indices=1, normalize_intermediates=False, intermediates_only=True, output_fmt="NLC"
        )
        return found["image_intermediates"][-1]


def _annotated_size(media: Media) -> list[Any] | None:
    """What else the tokens depend on: with `Media.stored`, the annotated size decides on EXIF orientation."""
    return ["stored", media.size] if media.stored else None


def open_model(name: str, pretrained: str | None = None) -> nn.Module:
    """An open_clip model with both towers, by name or from a folder; see `ImageEncoder`."""
    make = _from_name if name in open_clip.list_models() else _from_folder
    return make(name, pretrained)


def _tokens_first(tower: VisionTransformer) -> None:
    """Lets the blocks compute on (N, B, D), which is faster under autocast and gives the same values.

    `nn.MultiheadAttention` always computes in this layout. Given (B, N, D) it multiplies a transposed view,
    for which `F.linear` copies the weight once per position.
    """
    layers = [block.attn for block in tower.transformer.resblocks]
    if all(isinstance(layer, nn.MultiheadAttention) for layer in layers):
        tower.transformer.batch_first = False
        for layer in layers:
            layer.batch_first = False


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _from_name(name: str, pretrained: str | None) -> nn.Module:
    """A model by open_clip's name, with the weights of a tag or a file, or random ones."""
    options = {} if pretrained is None else check_weights(name, pretrained)
    try:
        return open_clip.create_model(
            name,
            pretrained=pretrained,
            require_pretrained=pretrained is not None,
            device=torch.get_default_device(),  # the meta device, if only shapes are needed
            **options,
        )
    except Exception as error:  # whatever open_clip, the hub, torch or safetensors raise
        if pretrained is None:
            raise
        raise ValueError(
            f"the weights {pretrained!r} of '{name}' could not be loaded: {type(error).__name__}: {error}. A tag "
            "needs a network or a filled cache, a file has to be of this very model"
        ) from error


def _from_folder(name: str, pretrained: str | None) -> nn.Module:
    """A model from a folder; a name that is no folder is treated as a misspelt model name."""
    try:
        folder = find_checkpoint(name)
    except ValueError as error:
        hint = nearest(name, open_clip.list_models(), cutoff=0.4)
        raise ValueError(f"'{name}' is neither an open_clip model nor a folder{hint} ({error})") from error
    missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
    if missing:
        raise ValueError(
            f"expected {CONFIG} and {WEIGHTS} in {folder}, found no {' and no '.join(missing)}; "
            f"the miniature's are written by `octavius fit --config pretrain/clip.yaml`"
        )
    if pretrained is not None:
        raise ValueError(f"{folder} holds its own weights; leave out pretrained='{pretrained}'")
    check_folder(folder)
    try:
        return open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
    except Exception as error:  # whatever open_clip, json or safetensors raise on a damaged file
        raise ValueError(
            f"could not read the model in {folder}: {type(error).__name__}: {error}; "
            f"check that {CONFIG} and {WEIGHTS} are whole and belong together"
        ) from error
