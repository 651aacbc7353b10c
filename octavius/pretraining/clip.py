"""Contrastive training of a small CLIP on the miniature's images, with dense losses on its patch tokens."""

import math
from typing import Any

import torch
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional

from octavius.limits import NON_NEGATIVE_NUMBER
from octavius.pretraining.base import ClipTraining
from octavius.pretraining.optimization import fast_attention
from octavius.pretraining.probes import probe_scores, retrieval

ANSWERS = {"class": 12, "colour": 8, "hair": 4, "smile": 2}
"""Questions of the dense losses about a patch, with the number of answers."""

BOX_CODE = 32
"""Length of the encoding of a patch's box."""

VALIDATION = ("fit", "", "/pairs", "/style", "retrieval")
"""Purpose of each validation loader: fitting probes, scoring them (suffix of the logged names), retrieval."""


def contrastive_loss(first: Tensor, second: Tensor, scale: Tensor, same: Tensor | None = None) -> Tensor:
    """Symmetric contrastive loss (InfoNCE) between two views (B, D); row i of both belongs together.

    Args:
        first: (B, D) features of one view, of any norm.
        second: (B, D) features of the other view.
        scale: factor of the cosines (inverse temperature).
        same: (B, B) bool, true for pairs that cannot be told apart; they are not used as negatives.
    """
    logits = scale * functional.normalize(first, dim=-1) @ functional.normalize(second, dim=-1).T
    if same is not None:
        others = ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        logits = logits.masked_fill(same & others, -math.inf)
    targets = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


def encode_text(tower: TextTransformer, ids: Tensor) -> Tensor:
    """Features (B, E) of open_clip's text tower for ids (B, T), without padding to its full context length.

    The tower's own `forward` adds a causal mask of fixed size, so it cannot take a shorter batch.
    """
    length = ids.shape[1]
    hidden = tower.token_embedding(ids) + tower.positional_embedding[:length]
    hidden = tower.ln_final(tower.transformer(hidden, attn_mask=tower.attn_mask[:length, :length]))
    # argmax finds the first of equal values, hence the first end token.
    ends = (ids == tower.eos_id).int().argmax(-1)
    return hidden[torch.arange(len(ids), device=ids.device), ends] @ tower.text_projection


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Disturbs 60 % of the images (B, 3, H, W) in 0..1: saturation, contrast, brightness, tint, blur, noise."""

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return (torch.rand(len(images), *shape, generator=generator) * (high - low) + low).to(images.device)

    gray, mean = images.mean(1, keepdim=True), images.mean((1, 2, 3), keepdim=True)
    changed = gray + (images - gray) * draw(0.6, 1.2, 1, 1, 1)
    contrast, light, tint = draw(0.6, 1.2, 1, 1, 1), draw(-0.12, 0.12, 1, 1, 1), draw(-0.04, 0.04, 3, 1, 1)
    changed = (changed - mean) * contrast + mean + light + tint
    blur = draw(0, 1) < 0.25
    changed[blur] = functional.avg_pool2d(changed[blur], 3, 1, 1, count_include_pad=False)
    side = images.shape[-1] // int(torch.randint(1, 6, (), generator=generator))
    grain = torch.randn(len(images), 1, side, side, generator=generator).to(images.device)
    grain = functional.interpolate(grain, images.shape[-2:], mode="bilinear")
    changed = changed + grain * draw(0, 1, 1, 1, 1) ** 2 * 0.2
    return torch.where(draw(0, 1, 1, 1, 1) < 0.4, images, changed.clamp(0, 1))


class AlignmentModule(ClipTraining):
    """Contrastive training of an open_clip model, with dense losses that teach its patches what is where.

    A batch is a dictionary as from `datamodules.miniature.pretraining.alignment.MiniaturePairs`.

    Args:
        model: see `ClipTraining`, also for the following arguments up to `weight_decay`.
        save_to: folder of the trained model.
        save_every: steps between saves.
        lr: peak learning rate.
        warmup: fraction of the steps.
        decay: fraction of the steps.
        weight_decay: weight decay of matrices.
        contrastive: weight of the contrastive loss.
        classes: weight of classifying the patches; the largest, because shapes are learned slowest.
        attributes: weight of each of colour, hair and smile.
        box: weight of the encoded box.
        edges: weight of the four box edges, as fractions of the image.
        background: weight of a background patch in the classification, relative to a foreground patch.
    """

    def __init__(
        self,
        model: str = "miniature/clip",
        save_to: str = "runs/clip",
        save_every: int = 0,
        lr: float = 5e-4,
        warmup: float = 0.03,
        decay: float = 0.8,
        weight_decay: float = 0.02,
        contrastive: float = 0.5,
        classes: float = 4.0,
        attributes: float = 2.0,
        box: float = 2.0,
        edges: float = 10.0,
        background: float = 0.125,
    ) -> None:
        super().__init__(model, save_to, save_every, lr, warmup, decay, weight_decay, "pretrain/clip.yaml")
        NON_NEGATIVE_NUMBER.check(contrastive=contrastive, classes=classes, attributes=attributes, box=box)
        NON_NEGATIVE_NUMBER.check(edges=edges, background=background)
        self.weights = {"contrastive": contrastive, "box": box, "edges": edges}
        self.weights |= dict.fromkeys(ANSWERS, attributes) | {"class": classes}
        self.background = background
        width = self.clip.visual.proj.shape[0]
        self.heads = nn.ModuleDict({question: nn.Linear(width, size) for question, size in ANSWERS.items()})
        self.box_head, self.edge_head = nn.Linear(width, BOX_CODE), nn.Linear(width, 4)
        self.noise = torch.Generator()
        self.seen: list[dict[str, list[Tensor]]] = []

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, E) and last-block patch tokens (B, N, D) of images (B, 3, H, W) in 0..1."""
        images = (images - self.mean) / self.std
        out = self.clip.visual.forward_intermediates(images, indices=1, output_fmt="NLC")
        return out["image_features"], out["image_intermediates"][-1]

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        """The weighted sum of the contrastive loss and the dense losses."""
        self.noise.manual_seed(self.global_step)  # the same again in a resumed run
        images, ids = augment(batch["image"].float() / 255, self.noise), batch["text"]
        with fast_attention(images.device):
            features, patches = self.encode(images)
            texts = encode_text(self.clip.text, ids)
        same = (ids[:, None] == ids[None]).all(-1)
        scale = self.clip.logit_scale.exp()
        losses = {"contrastive": contrastive_loss(features.float(), texts.float(), scale, same)}
        losses |= self._dense_losses(functional.layer_norm(patches, patches.shape[-1:]), batch)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        total: Tensor = sum(self.weights[name] * value for name, value in losses.items())  # type: ignore[assignment]
        return total

    def _dense_losses(self, tokens: Tensor, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses of predicting class, attributes and box of each patch from tokens (B, N, D), by name."""
        foreground, losses = batch["foreground"], {}
        for question, head in self.heads.items():
            labels = batch["labels"][question]
            known = labels >= 0
            logits = head(tokens[known]).float()
            if question in batch["spared"]:  # answers that are not used as negatives
                spared = batch["spared"][question][known]
                spared = spared[:, None] == torch.arange(logits.shape[1], device=spared.device)
                logits = logits.masked_fill(spared, -math.inf)
            weights = torch.where(foreground[known], 1.0, self.background)
            each = functional.cross_entropy(logits, labels[known], reduction="none")
            losses[question] = (each * weights).sum() / weights.sum().clamp_min(1)
        shown = tokens[foreground]
        losses["box"] = functional.l1_loss(self.box_head(shown).float(), batch["box_code"][foreground])
        losses["edges"] = functional.l1_loss(self.edge_head(shown).float(), batch["boxes"][foreground])
        return losses

    def validation_step(self, batch: dict[str, Any], _: int, dataloader_idx: int = 0) -> None:
        """Stores what the probes and the retrieval need."""
        features, patches = self.encode(batch["image"].float() / 255)
        if VALIDATION[dataloader_idx] == "retrieval":
            found = {"image": features, "text": encode_text(self.clip.text, batch["text"])}
        else:
            found = {"tokens": patches.flatten(0, 1)}
            found |= {name: batch[name].flatten(0, 1) for name in ("boxes", "foreground")}
            found |= {question: labels.flatten() for question, labels in batch["labels"].items()}
        for name, rows in found.items():
            self.seen[dataloader_idx].setdefault(name, []).append(rows.cpu())

    def on_validation_epoch_start(self) -> None:
        """Clears the results of the last validation."""
        self.seen = [{} for _ in VALIDATION]

    def on_validation_epoch_end(self) -> None:
        """Fits the probes on the first loader, scores them on the others, and logs all results."""
        sets = {
            kind: {name: torch.cat(rows) for name, rows in kept.items()}
            for kind, kept in zip(VALIDATION, self.seen, strict=True)
        }
        fit, pairs = sets.pop("fit"), sets.pop("retrieval")
        figures = probe_scores(fit, sets) | {"retrieval": retrieval(pairs["image"], pairs["text"])}
        self.log_dict({f"val/{name}": value for name, value in figures.items()})
        self.seen = []
