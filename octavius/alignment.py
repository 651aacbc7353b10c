"""Pairs of a picture and its caption come in, a contrastively trained open_clip model goes out, and its probes."""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import lightning
import open_clip
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from octavius.presets import find_checkpoint
from octavius.probes import accuracy, box_share, fit_label, ridge

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
"""What a folder of a model holds; open_clip reads it as `local-dir:<folder>`."""

VALIDATION = ("fit", "", "/pairs", "/style", "retrieval")
"""What each validation loader is for: fitting the probes, scoring them (with a suffix to the name), retrieval."""


def contrastive_loss(first: Tensor, second: Tensor, scale: Tensor, same: Tensor | None = None) -> Tensor:
    """The symmetric contrastive loss of two views (B, D) of the same B things; row i belongs to row i.

    Args:
        first: features of one view, of any length.
        second: features of the other view.
        scale: factor of the cosines.
        same: (B, B) true where two things cannot be told apart, which are then not asked to differ.
    """
    logits = scale * functional.normalize(first, dim=-1) @ functional.normalize(second, dim=-1).T
    if same is not None:
        logits = logits.masked_fill(same & ~torch.eye(len(same), dtype=torch.bool, device=same.device), -math.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def encode_text(tower: nn.Module, ids: Tensor) -> Tensor:
    """What open_clip's text tower says of ids (B, T), without padding them to its full context.

    The tower's own `forward` adds a causal mask of fixed size, so it cannot take a shorter batch.
    """
    length = ids.shape[1]
    hidden = tower.token_embedding(ids) + tower.positional_embedding[:length]
    hidden = tower.ln_final(tower.transformer(hidden, attn_mask=tower.attn_mask[:length, :length]))
    ends = (ids == tower.eos_id).int().argmax(-1)
    return hidden[torch.arange(len(ids), device=ids.device), ends] @ tower.text_projection


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Disturbs pictures (B, 3, H, W) in 0..1: light, contrast, tint, fading, blur, and texture of random grain."""

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(len(images), *shape, generator=generator) * (high - low) + low

    mean = images.mean((1, 2, 3), keepdim=True)
    contrast, light, tint = draw(0.6, 1.2, 1, 1, 1), draw(-0.12, 0.12, 1, 1, 1), draw(-0.04, 0.04, 3, 1, 1)
    changed = (images - mean) * contrast + mean + light + tint
    blur = draw(0, 1) < 0.25
    changed[blur] = functional.avg_pool2d(changed[blur], 3, 1, 1, count_include_pad=False)
    side = images.shape[-1] // int(torch.randint(1, 6, (), generator=generator))
    grain = functional.interpolate(
        torch.randn(len(images), 1, side, side, generator=generator), images.shape[-2:], mode="bilinear"
    )
    changed = changed + grain * draw(0, 1, 1, 1, 1) ** 2 * 0.2
    kept = draw(0, 1, 1, 1, 1) < 0.25
    return torch.where(kept, images, changed.clamp(0, 1))


class AlignmentModule(lightning.LightningModule):
    """Contrastive training of an open_clip model, with dense terms that teach its patches what and where.

    Args:
        model: folder of the model, holding `open_clip_config.json` and, for validation, its weights; looked
            for here and then among the shipped checkpoints.
        save_to: folder that the trained model is written to at the end of fitting.
        save_every: steps after which the weights so far are written there as well; 0 for at the end only.
        lr: highest learning rate.
        warmup: share of the steps that warm up.
        decay: share of the steps, the last ones, over which the learning rate falls to zero.
        weight_decay: decay of matrices; vectors have none.
        contrastive: weight of the contrastive loss.
        dense: weight of naming the patches.
        box: weight of the patches' box code.
        background: weight of the background patches' names beside the foreground's.
    """

    def __init__(
        self,
        model: str = "miniature/clip",
        save_to: str = "runs/clip",
        save_every: int = 0,
        lr: float = 8e-4,
        warmup: float = 0.03,
        decay: float = 0.5,
        weight_decay: float = 0.02,
        contrastive: float = 0.5,
        dense: float = 1.0,
        box: float = 4.0,
        background: float = 0.5,
    ) -> None:
        super().__init__()
        self.folder, self.save_to, self.save_every = find_checkpoint(model), Path(save_to), save_every
        self.lr, self.warmup, self.decay, self.weight_decay = lr, warmup, decay, weight_decay
        self.share = {"contrastive": contrastive, "dense": dense, "box": box, "background": background}
        described = json.loads((self.folder / CONFIG).read_text())
        self.clip = open_clip.create_model(f"local-dir:{self.folder}", load_weights=False)
        self.preprocess = described["preprocess_cfg"]
        embed, width = described["model_cfg"]["embed_dim"], described["model_cfg"]["vision_cfg"]["width"]
        self.heads = nn.ModuleDict({part: nn.Linear(width, embed) for part in ("class", "colour", "hair", "smile")})
        self.box_head = nn.Linear(width, 32)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(self.preprocess[name]).view(3, 1, 1), persistent=False)
        self.noise = torch.Generator()
        self.seen: list[dict[str, list[Tensor]]] = []

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, E) and last-block patch tokens (B, N, D) of pictures (B, 3, H, W) in 0..1."""
        out = self.clip.visual.forward_intermediates((images - self.mean) / self.std, indices=1, output_fmt="NLC")
        return out["image_features"], out["image_intermediates"][-1]

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        """The weighted sum of the contrastive loss and the dense terms."""
        self.noise.manual_seed(self.global_step)
        images = augment(batch["image"].float() / 255, self.noise)
        features, patches = self.encode(images)
        ids = batch["text"]
        texts = encode_text(self.clip.text, ids)
        same = (ids[:, None] == ids[None]).all(-1)
        losses = {"contrastive": contrastive_loss(features.float(), texts.float(), self.clip.logit_scale.exp(), same)}
        tokens = functional.layer_norm(patches, patches.shape[-1:])
        losses |= self._dense_losses(tokens, batch)
        total = self.share["contrastive"] * losses["contrastive"] + self.share["box"] * losses["box"]
        total = total + self.share["dense"] * sum(losses[part] for part in self.heads)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        return total

    def _dense_losses(self, tokens: Tensor, batch: dict[str, Any]) -> dict[str, Tensor]:
        """How badly tokens (B, N, D) name their patch and place its box, one loss a question."""
        named, losses = list(self.heads), {}
        lists = [batch["label_texts"][part] for part in named]
        longest = max(ids.shape[1] for ids in lists)
        ids = torch.cat([functional.pad(ids, (0, longest - ids.shape[1])) for ids in lists])
        answers = functional.normalize(encode_text(self.clip.text, ids).float(), dim=-1)
        foreground = batch["foreground"]
        for part, texts in zip(named, answers.split([len(ids) for ids in lists]), strict=True):
            labels = batch["labels"][part]
            known = labels >= 0
            logits = self.heads[part](tokens[known]).float() @ texts.T
            weights = torch.where(foreground[known], 1.0, self.share["background"] * 0.25)
            each = functional.cross_entropy(logits, labels[known], reduction="none")
            losses[part] = (each * weights).sum() / weights.sum().clamp_min(1)
        read = self.box_head(tokens[foreground]).float()
        losses["box"] = functional.l1_loss(read, batch["box_code"][foreground])
        return losses

    def validation_step(self, batch: dict[str, Any], index: int, dataloader_idx: int = 0) -> None:
        """Keeps what the probes and the retrieval need of one batch."""
        features, patches = self.encode(batch["image"].float() / 255)
        kept = self.seen[dataloader_idx]
        if VALIDATION[dataloader_idx] == "retrieval":
            kept.setdefault("image", []).append(features.float())
            kept.setdefault("text", []).append(encode_text(self.clip.text, batch["text"]).float())
            return
        kept.setdefault("tokens", []).append(patches.float().flatten(0, 1))
        for name in ("boxes", "foreground"):
            kept.setdefault(name, []).append(batch[name].flatten(0, 1))
        for part, labels in batch["labels"].items():
            kept.setdefault(part, []).append(labels.flatten())

    def on_validation_epoch_start(self) -> None:
        """Forgets the last validation."""
        self.seen = [{} for _ in VALIDATION]

    def on_validation_epoch_end(self) -> None:
        """Fits the probes on the first loader, scores them on the others, and logs all figures."""
        sets = {
            kind: {name: torch.cat(rows).cpu() for name, rows in kept.items()}
            for kind, kept in zip(VALIDATION, self.seen, strict=True)
            if kept
        }
        figures = probe_scores(sets.pop("fit"), {kind: sets[kind] for kind in sets if kind != "retrieval"})
        if "retrieval" in sets:
            figures["val/retrieval"] = retrieval(sets["retrieval"]["image"], sets["retrieval"]["text"])
        self.log_dict(figures)
        self.seen = []

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; a short warm-up, a plateau, and a cosine to zero over the last `decay` of the steps."""
        matrices = [weight for weight in self.parameters() if weight.ndim > 1]
        vectors = [weight for weight in self.parameters() if weight.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.98), fused=True)
        total = self.trainer.estimated_stepping_batches

        def factor(step: int) -> float:
            left = (total - step) / max(self.decay * total, 1)
            return min(1.0, (step + 1) / max(self.warmup * total, 1), (1 - math.cos(math.pi * min(max(left, 0), 1))) / 2)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_before_optimizer_step(self, *_: Any) -> None:
        """Clips gradients here, since Lightning refuses to do it for a fused optimizer."""
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)

    def on_train_batch_end(self, *_: Any) -> None:
        """Writes the weights so far from time to time."""
        if self.save_every and self.global_step % self.save_every == 0:
            self.save()

    def on_fit_end(self) -> None:
        """Writes the trained model."""
        self.save()

    def save(self) -> None:
        """Writes configuration and weights (half precision), each file whole or not at all."""
        self.save_to.mkdir(parents=True, exist_ok=True)
        halves = {name: value.detach().half().contiguous() for name, value in self.clip.state_dict().items()}
        for name in (CONFIG, WEIGHTS):
            fresh = self.save_to / f".{name}.{os.getpid()}"
            if name == WEIGHTS:
                save_file(halves, fresh)
            else:
                shutil.copyfile(self.folder / CONFIG, fresh)
            os.replace(fresh, self.save_to / name)


def probe_scores(fit: dict[str, Tensor], held_out: dict[str, dict[str, Tensor]]) -> dict[str, float]:
    """Scores linear read-outs of patch tokens, fitted on one set, on others (by the suffix of their figures).

    A set holds one row a patch: `tokens` (M, D), `foreground` (M,), `boxes` (M, 4), and labels (M,), -100 where
    a question does not apply. Classes and colours are asked of foreground patches only.
    """
    figures = {}
    named = {"patch_class": "class", "patch_colour": "colour", "face_hair": "hair", "face_smile": "smile"}
    ours, own = fit["tokens"], fit["foreground"]
    for figure, part in named.items():
        labels = torch.where(own, fit[part], -100)
        read = fit_label(ours, labels, int(labels.max()) + 1)
        for suffix, patches in held_out.items():
            asked = torch.where(patches["foreground"] & (patches["hair"] < 0), patches[part], -100)
            if part in ("hair", "smile"):
                asked = torch.where(patches["foreground"], patches[part], -100)
            figures[f"val/{figure}{suffix}"] = accuracy(read, patches["tokens"], asked)
    read = ridge(ours[own], fit["boxes"][own])
    for suffix, patches in held_out.items():
        things = patches["foreground"] & (patches["hair"] < 0)
        figures[f"val/patch_box50{suffix}"] = box_share(read, patches["tokens"][things], patches["boxes"][things])
    read = ridge(ours, own[:, None])
    for suffix, patches in held_out.items():
        right = (read(patches["tokens"])[:, 0] > 0.5) == patches["foreground"]
        figures[f"val/foreground{suffix}"] = right.double().mean().item()
    return figures


def retrieval(images: Tensor, texts: Tensor) -> float:
    """Share of pictures (B, E) whose nearest caption (B, E) is their own."""
    nearest = (functional.normalize(images, dim=-1) @ functional.normalize(texts, dim=-1).T).argmax(-1)
    return (nearest == torch.arange(len(nearest))).double().mean().item()
