"""Frozen CLIP towers: unit vectors of sentences and images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from octavius.encoders.image import open_model
from octavius.presets import find_checkpoint

TOKENIZER = "tokenizer.json"
"""A folder's own tokenizer; without it, open_clip's default is used."""

SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
"""Default special tokens for a tokenizer that does not define them; each is used only if in its vocabulary."""

BATCH_SIZE = 256
"""Sentences or images per forward pass."""

Tokenize = Callable[[list[str]], Tensor]


class FrozenCLIP(nn.Module):
    """Both towers of an open_clip model, frozen.

    Args:
        name: an open_clip model name such as `ViT-L-14`, or a folder, optionally with its own `tokenizer.json`:
            a path, or a name among the shipped checkpoints such as `miniature/clip_rooms`.
        pretrained: for a model name, the tag of its weights or a file of weights.

    Attributes:
        width: width E of the space that images and sentences share.
    """

    def __init__(self, name: str, pretrained: str | None = None) -> None:
        super().__init__()
        self.clip: Any = open_model(name, pretrained)  # `Any`: the classes of the towers vary
        self.requires_grad_(False)
        self.eval()
        self._tokenize = _tokenizer(name, self.clip)
        self.width = self.texts(["a"]).shape[1]

    def train(self, mode: bool = True) -> "FrozenCLIP":  # noqa: ARG002 - the signature of nn.Module
        """Stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def texts(self, sentences: Sequence[str]) -> Tensor:
        """Unit vectors (T, E) of sentences."""
        device = next(self.clip.parameters()).device
        ids = self._tokenize(list(sentences))
        with torch.autocast(device.type, enabled=False):
            found = [self.clip.encode_text(part.to(device)).float() for part in ids.split(BATCH_SIZE)]
        return functional.normalize(torch.cat(found), dim=-1)

    @torch.no_grad()
    def images(self, images: Tensor) -> Tensor:
        """Unit vectors (B, E) of images (B, H, W, 3), uint8.

        Images of another size are resized to the tower's without cropping, so that the aspect ratio changes
        unless it is the same.
        """
        tower = self.clip.visual
        device = next(self.clip.parameters()).device
        size = tower.image_size if isinstance(tower.image_size, tuple) else (tower.image_size,) * 2
        mean, std = (
            torch.tensor(values, device=device).view(3, 1, 1)
            for values in (tower.image_mean, tower.image_std)
        )
        found = []
        for part in images.split(BATCH_SIZE):
            pixels = part.to(device).permute(0, 3, 1, 2).float() / 255
            if pixels.shape[-2:] != torch.Size(size):
                pixels = functional.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)
            with torch.autocast(device.type, enabled=False):
                found.append(self.clip.encode_image((pixels - mean) / std).float())
        return functional.normalize(torch.cat(found), dim=-1)


def _tokenizer(name: str, clip: Any) -> Tokenize:
    """The function from sentences to ids (T, context length) for a model."""
    if name in open_clip.list_models():
        return open_clip.get_tokenizer(name)
    folder = find_checkpoint(name)
    if (folder / TOKENIZER).is_file():
        return _own_tokenizer(folder, int(clip.context_length))
    return open_clip.get_tokenizer(f"local-dir:{folder}")


def _own_tokenizer(folder: Path, length: int) -> Tokenize:
    """The tokenizer of a folder: start token, sentence, end token, padded on the right."""
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # whatever json, tokenizers or transformers raise on a damaged file
        raise ValueError(
            f"could not read the tokenizer in {folder}: {type(error).__name__}: {error}"
        ) from None
    tokenizer.add_special_tokens(
        {
            kind: mark
            for kind, mark in SPECIAL_TOKENS.items()
            if getattr(tokenizer, kind) is None and mark in tokenizer.get_vocab()
        }
    )
    unknown = [kind for kind in SPECIAL_TOKENS if getattr(tokenizer, kind) is None]
    if unknown:
        raise ValueError(
            f"the tokenizer in {folder} has no {' and no '.join(unknown)}; define them in tokenizer_config.json"
        )

    def tokenize(sentences: list[str]) -> Tensor:
        rows = tokenizer(sentences, add_special_tokens=False, truncation=True, max_length=length - 2)[
            "input_ids"
        ]
        ids = torch.full((len(rows), length), tokenizer.pad_token_id)
        for index, row in enumerate(rows):
            ids[index, : len(row) + 2] = torch.tensor([tokenizer.bos_token_id, *row, tokenizer.eos_token_id])
        return ids

    return tokenize
