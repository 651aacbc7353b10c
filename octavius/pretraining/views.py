"""Contrastive training of a small CLIP on rendered views of single objects."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from octavius.limits import NON_NEGATIVE_NUMBER
from octavius.pretraining.base import ClipTraining
from octavius.pretraining.clip import contrastive_loss, encode_text
from octavius.pretraining.optimization import fast_attention
from octavius.pretraining.probes import retrieval

ANSWERS = {"class": 31, "colour": 11}
"""Questions of the two heads about an image, with the number of answers."""

VALIDATION = ("", "/scans", "/pairs", "/classes", "retrieval")
"""Purpose of each validation loader: classifying views (suffix of the logged names), and retrieval."""


class ViewAlignmentModule(ClipTraining):
    """Contrastive training of an open_clip model on views of single objects, with heads for class and colour.

    A batch is a dictionary as from `datamodules.miniature.pretraining.room_views.RoomViews`. The heads read the image
    feature and are discarded after training: they teach early what the captions teach slowly.

    Args:
        model: see `ClipTraining`, also for the following arguments up to `weight_decay`.
        save_to: folder of the trained model.
        save_every: steps between saves.
        lr: peak learning rate.
        warmup: fraction of the steps.
        decay: fraction of the steps.
        weight_decay: weight decay of matrices.
        heads: weight of each head's loss, relative to the contrastive loss.
    """

    def __init__(
        self,
        model: str = "miniature/clip_rooms",
        save_to: str = "runs/clip_rooms",
        save_every: int = 0,
        lr: float = 1e-3,
        warmup: float = 0.05,
        decay: float = 0.8,
        weight_decay: float = 0.05,
        heads: float = 0.5,
    ) -> None:
        super().__init__(
            model, save_to, save_every, lr, warmup, decay, weight_decay, "pretrain/clip_rooms.yaml"
        )
        NON_NEGATIVE_NUMBER.check(heads=heads)
        width = self.clip.text.text_projection.shape[1]
        self.heads = nn.ModuleDict({question: nn.Linear(width, size) for question, size in ANSWERS.items()})
        self.weight = heads
        self.seen: list[dict[str, list[Tensor]]] = []

    def encode(self, images: Tensor) -> Tensor:
        """Features (B, E) of images (B, 3, H, W), uint8."""
        return self.clip.visual((images.float() / 255 - self.mean) / self.std)

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        """The contrastive loss plus the weighted losses of the heads."""
        with fast_attention(self.device):
            features = self.encode(batch["image"]).float()
            texts = encode_text(self.clip.text, batch["text"]).float()
        scale = self.clip.logit_scale.exp().clamp(max=100)
        losses = {"contrastive": contrastive_loss(features, texts, scale, batch["same"])}
        for question, head in self.heads.items():
            logits = head(functional.normalize(features, dim=-1) * math.sqrt(features.shape[1]))
            # Answers in `spared` are not used as negatives.
            logits = logits.float().masked_fill(batch["spared"][question], -math.inf)
            known = batch["labels"][question] >= 0
            total = functional.cross_entropy(logits[known], batch["labels"][question][known], reduction="sum")
            losses[question] = total / known.sum().clamp_min(1)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        return losses["contrastive"] + self.weight * sum(losses[question] for question in self.heads)

    def validation_step(self, batch: dict[str, Any], _: int, dataloader_idx: int = 0) -> None:
        """Stores features for the retrieval, or whether the nearest class name of each image is right."""
        features = self.encode(batch["image"])
        if VALIDATION[dataloader_idx] == "retrieval":
            found = {"image": features, "text": encode_text(self.clip.text, batch["text"])}
        else:
            found = {}
            for question, prompts in batch["asked"].items():
                labels = batch["labels"][question]
                best = (functional.normalize(features, dim=-1) @ self.names(prompts).T).argmax(-1)
                found[question] = (best == labels)[labels >= 0]
        for name, rows in found.items():
            self.seen[dataloader_idx].setdefault(name, []).append(rows.cpu())

    def names(self, prompts: Tensor) -> Tensor:
        """A unit vector (C, E) for each of C names, from the ids (S, C, T) of S sentences about each."""
        sentences = torch.stack([encode_text(self.clip.text, ids) for ids in prompts])
        return functional.normalize(functional.normalize(sentences, dim=-1).mean(0), dim=-1)

    def on_validation_epoch_start(self) -> None:
        """Clears the results of the last validation."""
        self.seen = [{} for _ in VALIDATION]

    def on_validation_epoch_end(self) -> None:
        """Logs the accuracy of zero-shot classification, and that of retrieving each image's caption."""
        for kind, kept in zip(VALIDATION, self.seen, strict=True):
            rows = {name: torch.cat(batches) for name, batches in kept.items()}
            if kind == "retrieval":
                figures = {kind: retrieval(rows["image"], rows["text"])}
            else:
                figures = {f"{name}{kind}": right.float().mean().item() for name, right in rows.items()}
            self.log_dict({f"val/{name}": value for name, value in figures.items()})
        self.seen = []
