"""Contrastive losses between objects and their targets, within a batch or against a memory bank."""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

Alike: TypeAlias = Literal["instance", "caption", "class"]
"""Which targets of a batch are not negatives of an object.

`instance`: targets of the same object; `caption`: of the same class without a conflicting colour; `class`: of the
same class.
"""


def symmetric_loss(
    objects: Tensor,
    targets: Tensor,
    all_objects: Tensor,
    all_targets: Tensor,
    scale: Tensor,
    same: Tensor,
    first: int = 0,
) -> Tensor:
    """Mean of the contrastive losses in both directions: object to target, and target to object.

    With several processes, each process passes its local rows and the gathered rows of all. If B is the same
    in each, the mean over processes of this loss, and of its gradient if gathering is differentiable, equals
    that of one process with the whole batch.

    Args:
        objects: (B, D) L2-normalised features of this process's objects.
        targets: (B, D) L2-normalised features of their targets; row i belongs to row i.
        all_objects: (A, D) features of all processes, concatenated.
        all_targets: (A, D).
        scale: factor of the cosines (inverse temperature).
        same: (A, A) bool, true if target j also fits object i; such pairs are not used as negatives.
        first: index in `all_objects` of the first row of `objects`.
    """
    own = torch.arange(first, first + len(objects), device=objects.device)
    total = objects.new_zeros(())
    for rows, others, fits in ((objects, all_targets, same), (targets, all_objects, same.T)):
        masked = fits[own].clone()
        masked[torch.arange(len(own), device=own.device), own] = False
        logits = (scale * rows @ others.T).masked_fill(masked, -math.inf)
        total = total + functional.cross_entropy(logits, own) / 2
    return total


def alike(
    kind: Alike, objects: Tensor, labels: Tensor, colours: Tensor, mentioned: Tensor | None = None
) -> Tensor:
    """Mask of the pairs in which target j fits object i.

    Args:
        kind: `instance` for an object's own targets, as published; `class` for those of its class; `caption`
            for those of its class that do not mention another colour.
        objects: (A,) index of each row's object; may repeat.
        labels: (A,) its class.
        colours: (A,) its colour, -1 if unknown.
        mentioned: (A,) colour that its target mentions, -1 for none; `colours` by default.

    Returns:
        (A, A) bool.
    """
    if kind == "instance":
        return objects[:, None] == objects[None]
    fits = labels[:, None] == labels[None]
    if kind == "class":
        return fits
    if kind != "caption":
        raise ValueError(f"objects are alike by instance, caption or class, not by {kind!r}")
    said = colours if mentioned is None else mentioned
    return fits & ((colours[:, None] == said[None]) | (colours[:, None] < 0) | (said[None] < 0))


def memory_loss(
    objects: Tensor, targets: Tensor, negatives: Tensor, has_negatives: Tensor, scale: Tensor
) -> Tensor:
    """Contrastive loss against stored targets of other classes; in one direction only, as published.

    Args:
        objects: (B, D) L2-normalised features of the objects.
        targets: (B, D) L2-normalised features of their targets; row i belongs to row i.
        negatives: (B, K, D) from `MemoryBank.draw`.
        has_negatives: (B,) false for rows without negatives, which are left out of the mean.
        scale: factor of the cosines (inverse temperature).
    """
    right = (objects * targets).sum(-1, keepdim=True)
    wrong = torch.einsum("bd,bkd->bk", objects, negatives)
    logits = scale * torch.cat([right, wrong], dim=1)
    each = functional.cross_entropy(
        logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device), reduction="none"
    )
    return (each * has_negatives).sum() / has_negatives.sum().clamp(min=1)


class MemoryBank(nn.Module):
    """Stores the latest targets of every class, and samples those of other classes (Octavius' published ULIP).

    It is not saved in checkpoints: a resumed training refills it.

    Args:
        classes: number C of classes.
        size: targets stored per class, a ring buffer; 10,000 in the published code.
        width: length D of a target.
    """

    vectors: Tensor
    counts: Tensor
    write_positions: Tensor

    def __init__(self, classes: int, size: int, width: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"a memory bank needs at least 2 classes, found {classes}; name more classes")
        if size < 1:
            raise ValueError(f"a memory bank keeps at least 1 target of each class, found {size}")
        self.size = size
        self.register_buffer("vectors", torch.zeros(classes, size, width), persistent=False)
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.long), persistent=False)
        self.register_buffer("write_positions", torch.zeros(classes, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def add(self, labels: Tensor, targets: Tensor) -> None:
        """Stores targets (B, D) of classes (B,); in a full class they replace the oldest."""
        for label in labels.unique().tolist():
            rows = targets[labels == label][-self.size :].to(self.vectors)
            start = int(self.write_positions[label])
            where = (start + torch.arange(len(rows), device=rows.device)) % self.size
            self.vectors[label, where] = rows
            self.write_positions[label] = (start + len(rows)) % self.size
            self.counts[label] = min(int(self.counts[label]) + len(rows), self.size)

    @torch.no_grad()
    def draw(self, labels: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples stored targets of other classes, uniformly with replacement.

        Args:
            labels: (B,) classes whose own targets are excluded.
            count: number K of samples per row.
            generator: random generator on the CPU.

        Returns:
            Targets (B, K, D), and (B,) false where no other class has a target.
        """
        # Stored targets are numbered class after class; class c has the numbers starts[c] to ends[c].
        ends = self.counts.cumsum(0)
        starts, own = ends - self.counts, self.counts[labels]
        others = ends[-1] - own
        shares = torch.rand(len(labels), count, generator=generator, dtype=torch.float64).to(own.device)
        numbers = (shares * others[:, None]).long()
        numbers = numbers + own[:, None] * (numbers >= starts[labels][:, None])  # skips the row's own class
        owners = torch.searchsorted(ends, numbers, right=True).clamp(max=len(ends) - 1)
        return self.vectors[owners, (numbers - starts[owners]).clamp(max=self.size - 1)], others > 0
