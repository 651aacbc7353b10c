"""Alignment of a point encoder with a frozen CLIP, as in ULIP."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from octavius.encoders.point_bert import PointBERT, load_point_bert, save_point_bert, unit_sphere
from octavius.limits import (
    FRACTION,
    NON_NEGATIVE_INT,
    NON_NEGATIVE_NUMBER,
    POSITIVE_NUMBER,
    PROBABILITY_BELOW_1,
    Range,
)
from octavius.pretraining.contrastive import Alike, MemoryBank, alike, memory_loss, symmetric_loss
from octavius.pretraining.frozen_clip import FrozenCLIP
from octavius.pretraining.optimization import decay_groups, fast_attention
from octavius.pretraining.point_augmentation import augment
from octavius.pretraining.zero_shot import (
    Figures,
    check_templates,
    class_vectors,
    figures_of,
    ranks_of,
    table,
)

TEMPLATES = ("a {}", "a photo of a {}.", "a point cloud model of a {}.")
"""Prompt templates for zero-shot classification; the vectors of a class are averaged."""

FIRST_SCALE, LARGEST_SCALE = math.log(1 / 0.07), 4.6052
"""Logarithm of the logit scale at the start, and its upper bound (a scale of 100), as in CLIP."""

CLIP = "clip."
"""Prefix of the frozen part's parameters."""


class PointAlignmentModule(L.LightningModule):
    """Aligns a point encoder with the space of a frozen CLIP, as in ULIP (Octavius, section 3.2.2).

    Batches are dictionaries. For training: `points` (B, N, 3 or 6); `label` (B,) with `classes`, the names of
    all labels; `text`, B captions; `colour` and `mentioned` (B,), the object's colour and that of its caption, -1
    for none; `object` (B,), indices of the objects. For validation: `points`, `label`, `classes`, `index`
    (B,) within its set, `set`, its name, and `size_baseline`, the accuracy from box sizes alone, or None. The
    data module's `view_dataloader()` yields `object` (B,) and `images` (B, V, H, W, 3), uint8, views of every
    object of the training set, sharded over processes.

    Args:
        encoder: the point encoder; its `projection_width` must be the width of CLIP's space.
        clip: an open_clip model name, or a folder such as `miniature/clip_rooms`.
        pretrained: for a model name, the tag of CLIP's weights or a file of weights.
        start: folder of a saved point encoder of the same sizes to start from; null starts at random.
            `validate` needs it, or a checkpoint.
        save_to: folder to which the encoder is written after every epoch.
        negatives: `batch` contrasts with the captions and views of the batch, in both directions (ULIP);
            `bank` with stored ones of other classes, in one direction (the published code of Octavius).
        alike: with `batch`, which targets are not negatives of an object: `instance`, only its own, as
            published, so that two chairs are pushed apart; `caption`, those that its caption would fit as
            well; `class`, all of its class.
        bank_size: with `bank`, targets stored per class; published are 10,000.
        bank_draws: with `bank`, negatives per object.
        text_weight: weight of the captions' loss; 0 disables it.
        image_weight: weight of the views' loss; 0 disables it.
        up_axis: vertical axis about which clouds are rotated, 2 in our frame.
        dropout: largest fraction of a cloud's points that is dropped.
        colourless: fraction of training clouds that become grey.
        templates: prompts for zero-shot classification, with `{}` for the class name.
        lr: peak learning rate of AdamW; published is 3e-3 for 512 objects per step.
        last_lr: learning rate at the end of the cosine.
        warmup: fraction of the steps for the linear warm-up.
        weight_decay: weight decay of AdamW; vectors have none.

    Attributes:
        figures: results of the last validation, by set.
    """

    def __init__(
        self,
        encoder: PointBERT,
        clip: str,
        pretrained: str | None = None,
        start: str | None = None,
        save_to: str = "runs/points",
        negatives: Literal["batch", "bank"] = "batch",
        alike: Alike = "caption",
        bank_size: int = 1000,
        bank_draws: int = 999,
        text_weight: float = 1.0,
        image_weight: float = 1.0,
        up_axis: int = 2,
        dropout: float = 0.875,
        colourless: float = 0.0,
        templates: Sequence[str] = TEMPLATES,
        lr: float = 3e-3,
        last_lr: float = 1e-5,
        warmup: float = 0.02,
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__()
        NON_NEGATIVE_INT.check(bank_size=bank_size, bank_draws=bank_draws)
        NON_NEGATIVE_NUMBER.check(
            text_weight=text_weight, image_weight=image_weight, weight_decay=weight_decay
        )
        Range(0, 2, integer=True).check(up_axis=up_axis)
        PROBABILITY_BELOW_1.check(dropout=dropout)
        FRACTION.check(colourless=colourless, warmup=warmup)
        POSITIVE_NUMBER.check(lr=lr)
        NON_NEGATIVE_NUMBER.check(last_lr=last_lr)
        self.encoder, self.clip = encoder, FrozenCLIP(clip, pretrained)
        if encoder.projection_width != self.clip.width:
            raise ValueError(
                f"the space of {clip} has {self.clip.width} numbers, but the encoder's projection leads to "
                f"{encoder.projection_width}; set the encoder's projection_width to {self.clip.width}"
            )
        if not text_weight > 0 and not image_weight > 0:
            raise ValueError("there is nothing to align to: text_weight or image_weight should be above 0")
        self.start, self.save_to = start, Path(save_to)
        self.weights = {"text": text_weight, "image": image_weight}
        self.negatives, self.alike = negatives, alike
        self.bank_size, self.bank_draws = bank_size, bank_draws
        self.up_axis, self.dropout, self.colourless = up_axis, dropout, colourless
        self.templates = check_templates(templates)
        self.lr, self.last_lr, self.warmup, self.weight_decay = lr, last_lr, warmup, weight_decay
        self.logit_scale = nn.Parameter(torch.tensor(FIRST_SCALE))
        self.figures: dict[str, Figures] = {}
        self.noise = torch.Generator()
        self._sentences: dict[str, Tensor] = {}
        self._views: Tensor | None = None
        self._banks: dict[str, MemoryBank] = {}
        self._ranks: dict[str, list[Tensor]] = {}
        self._sets: dict[str, tuple[int, float | None]] = {}

    def setup(self, stage: str) -> None:  # noqa: ARG002 - the signature of Lightning
        """Loads the initial weights; those of a checkpoint are loaded later and replace them.

        Raises:
            ValueError: they belong to an encoder of other sizes.
        """
        if self.start is not None:
            try:
                self.encoder.load_state_dict(load_point_bert(self.start).state_dict())
            except RuntimeError as error:
                raise ValueError(
                    f"the point encoder in {self.start} has other sizes than the configured one: "
                    f"{' '.join(str(error).split())[:400]}"
                ) from None

    def on_fit_start(self) -> None:
        """Encodes the views of all training objects once; their vectors are kept in memory."""
        if self.weights["image"] > 0:
            self._views = self._encoded_views()

    def forward(self, points: Tensor) -> Tensor:
        """Unit vectors (B, E) in CLIP's space, of clouds (B, N, 3 or 6) on the unit sphere."""
        return functional.normalize(self.encoder.project(self.encoder(points)).float(), dim=-1)

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        """The weighted sum of the losses against captions and against views."""
        # Another augmentation on each rank and step, and the same again in a resumed run.
        self.noise.manual_seed(self.global_step * self.trainer.world_size + self.global_rank)
        points = unit_sphere(batch["points"])
        points = augment(points, self.noise, self.up_axis, self.dropout, self.colourless)
        with fast_attention(points.device):
            things = self(points)
        loss = self._in_batch if self.negatives == "batch" else self._against_bank
        # cosines times a logit scale of up to 100 need full precision
        with torch.autocast(points.device.type, enabled=False):
            losses = {
                kind: loss(kind, things, targets, batch) for kind, targets in self._targets(batch).items()
            }
        self.log_dict({f"train/{kind}": value.detach() for kind, value in losses.items()})
        self.log("train/scale", self.logit_scale.detach().exp())
        return torch.stack([self.weights[kind] * value for kind, value in losses.items()]).sum()

    def on_train_batch_end(self, *_: Any) -> None:
        """Clamps the logit scale."""
        with torch.no_grad():
            self.logit_scale.clamp_(0, LARGEST_SCALE)

    def on_validation_epoch_start(self) -> None:
        """Clears the results of the last validation."""
        self._ranks, self._sets = {}, {}

    def validation_step(self, batch: dict[str, Any], _: int, dataloader_idx: int = 0) -> None:  # noqa: ARG002
        """Stores the rank of each cloud's own class name."""
        things = self(unit_sphere(batch["points"]))
        with torch.autocast(things.device.type, enabled=False):
            classes = class_vectors(self.sentences, batch["classes"], self.templates)
            ranks = ranks_of(things, classes, batch["label"])
        self._ranks.setdefault(batch["set"], []).append(torch.stack([batch["index"], ranks], dim=1))
        self._sets[batch["set"]] = len(batch["classes"]), batch["size_baseline"]

    def on_validation_epoch_end(self) -> None:
        """Logs and prints top-1 and top-5 accuracy."""
        self.figures = {}
        for name, parts in self._ranks.items():
            # drops samples that were repeated to shard evenly
            rows = self._gathered(torch.cat(parts)).unique(dim=0)
            self.figures[name] = figures_of(rows[:, 1], *self._sets[name])
            self.log(f"val/top1/{name}", self.figures[name].top1)
            self.log(f"val/top5/{name}", self.figures[name].top5)
        if self.trainer.is_global_zero:
            print(f"\n{table(self.figures)}")

    def on_train_epoch_end(self) -> None:
        """Writes the encoder."""
        self.save()

    def on_fit_end(self) -> None:
        """Writes the trained encoder."""
        self.save()

    def save(self) -> None:
        """Writes the encoder in half precision, on rank 0."""
        if self.trainer.is_global_zero:
            save_point_bert(self.encoder, self.save_to)

    def sentences(self, texts: Sequence[str]) -> Tensor:
        """CLIP's vectors (T, E) of sentences; cached."""
        new = [text for text in dict.fromkeys(texts) if text not in self._sentences]
        if new:
            self._sentences |= dict(zip(new, self.clip.texts(new), strict=True))
        return torch.stack([self._sentences[text] for text in texts]).to(self.device)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; linear warm-up, then cosine decay to `last_lr`."""
        groups = decay_groups(self.parameters())
        optimizer = torch.optim.AdamW(groups, self.lr, (0.9, 0.98), weight_decay=self.weight_decay)
        total = self.trainer.estimated_stepping_batches
        if total == float("inf"):
            raise ValueError(
                "the cosine decay needs the number of steps; set trainer.max_epochs or max_steps"
            )
        rise, least = max(1, round(self.warmup * total)), self.last_lr / self.lr

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            done = min((step - rise) / max(1, total - rise), 1.0)
            return least + (1 - least) * (1 + math.cos(math.pi * done)) / 2

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves out CLIP, which is frozen and has its own files."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: part for name, part in state.items() if not name.startswith(CLIP)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the CLIP loaded here, so that the state dict can be loaded strictly."""
        own = {name: part for name, part in self.state_dict().items() if name.startswith(CLIP)}
        checkpoint["state_dict"] = checkpoint["state_dict"] | own

    def _targets(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Vectors (B, E) that the clouds are aligned with: of their captions, and of a random view of each."""
        targets = {}
        if self.weights["text"] > 0:
            targets["text"] = self.sentences(batch["text"])
        if self._views is not None:
            objects = batch["object"]
            drawn = torch.randint(self._views.shape[1], (len(objects),), generator=self.noise)
            targets["image"] = self._views[objects, drawn.to(objects.device)]
        return targets

    def _in_batch(self, kind: str, things: Tensor, targets: Tensor, batch: dict[str, Any]) -> Tensor:
        """The loss against all targets of all processes' batches."""
        objects, labels, colours, mentioned = (
            self._gathered(batch[name]) for name in ("object", "label", "colour", "mentioned")
        )
        same = alike(self.alike, objects, labels, colours, mentioned if kind == "text" else None)
        gathered = self._gathered(things, sync_grads=True), self._gathered(targets)
        first = self.global_rank * len(things)
        return symmetric_loss(things, targets, *gathered, self.logit_scale.exp(), same, first)

    def _against_bank(self, kind: str, things: Tensor, targets: Tensor, batch: dict[str, Any]) -> Tensor:
        """The loss against stored targets of other classes."""
        if kind not in self._banks:
            bank = MemoryBank(len(batch["classes"]), self.bank_size, targets.shape[1])
            self._banks[kind] = bank.to(self.device)
        bank = self._banks[kind]
        bank.add(self._gathered(batch["label"]), self._gathered(targets))
        drawn = bank.draw(batch["label"], self.bank_draws, self.noise)
        return memory_loss(things, targets, *drawn, self.logit_scale.exp())

    def _gathered(self, rows: Tensor, sync_grads: bool = False) -> Tensor:
        """The rows of all processes, concatenated."""
        if self.trainer.world_size == 1:
            return rows
        found = self.all_gather(rows, sync_grads=sync_grads)
        assert isinstance(found, Tensor)
        return found.flatten(0, 1)

    def _encoded_views(self) -> Tensor:
        """CLIP's vectors (O, V, E) of the views of all training objects; every process encodes its share."""
        views = getattr(self.trainer.datamodule, "view_dataloader", None)  # type: ignore[attr-defined]
        if views is None:
            raise ValueError(
                "the data module has no views of its objects (view_dataloader); set image_weight to 0 "
                "to align with captions alone"
            )
        loader = views()
        if self.trainer.is_global_zero:
            print(f"encoding the views of {len(loader.dataset)} objects")
        table = None
        for batch in loader:
            found = self.clip.images(batch["images"].flatten(0, 1))
            found = found.view(*batch["images"].shape[:2], -1)
            if table is None:
                table = found.new_zeros(len(loader.dataset), *found.shape[1:])
            table[batch["object"]] = found
        if table is None:
            raise ValueError("the data module has no object to align; check its training sources")
        # Each row is non-zero on one process only, so the sum gathers them.
        return self.trainer.strategy.reduce(table, reduce_op="sum") if self.trainer.world_size > 1 else table
