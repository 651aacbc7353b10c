"""Features of things and of their targets come in, contrastive losses go out: of a batch, or against a memory."""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

Alike: TypeAlias = Literal["instance", "caption", "class"]
"""Which things of a batch are not held against each other: the same one, those that a caption fits, a class."""


def symmetric_loss(
    things: Tensor,
    targets: Tensor,
    all_things: Tensor,
    all_targets: Tensor,
    scale: Tensor,
    same: Tensor,
    first: int = 0,
) -> Tensor:
    """The mean loss of finding each thing's target among all, and each target's thing.

    On several processes each has its own rows and everybody's; the mean over processes of this loss is that of
    one process with the whole batch, and of its gradient likewise, where the gathering passes gradients on.

    Args:
        things: features (B, D) of unit length, of this process.
        targets: features (B, D) of unit length; row i belongs to row i.
        all_things: (A, D), those of all processes, one after the other.
        all_targets: (A, D).
        scale: factor of the cosines.
        same: (A, A) true where target j fits thing i too, so that it is not asked to differ.
        first: row of `all_things` with which `things` begins.
    """
    own = torch.arange(first, first + len(things), device=things.device)
    total = things.new_zeros(())
    for rows, others, fits in ((things, all_targets, same), (targets, all_things, same.T)):
        spared = fits[own].clone()
        spared[torch.arange(len(own), device=own.device), own] = False
        logits = (scale * rows @ others.T).masked_fill(spared, -math.inf)
        total = total + functional.cross_entropy(logits, own) / 2
    return total


def alike(
    kind: Alike, objects: Tensor, labels: Tensor, colours: Tensor, told: Tensor | None = None
) -> Tensor:
    """Where target j fits thing i.

    Args:
        kind: `instance` for a thing's own targets alone, as published; `class` for those of its class;
            `caption` for those of its class that do not tell another colour.
        objects: which thing each row is (A,); one may occur twice.
        labels: its class (A,).
        colours: its colour (A,), -1 for none that is known.
        told: the colour that its target tells (A,), -1 for none; its own when not given.

    Returns:
        (A, A) bools.
    """
    if kind == "instance":
        return objects[:, None] == objects[None]
    fits = labels[:, None] == labels[None]
    if kind == "class":
        return fits
    if kind != "caption":
        raise ValueError(f"things are alike by instance, caption or class, not by {kind!r}")
    said = colours if told is None else told
    return fits & ((colours[:, None] == said[None]) | (colours[:, None] < 0) | (said[None] < 0))


def memory_loss(things: Tensor, targets: Tensor, negatives: Tensor, known: Tensor, scale: Tensor) -> Tensor:
    """The mean loss of finding each thing's target among targets of other classes; one way only, as published.

    Args:
        things: features (B, D) of unit length.
        targets: features (B, D) of unit length; row i belongs to row i.
        negatives: (B, K, D), from `MemoryBank.draw`.
        known: (B,) false where there were none; such rows count nothing.
        scale: factor of the cosines.
    """
    right = (things * targets).sum(-1, keepdim=True)
    wrong = torch.einsum("bd,bkd->bk", things, negatives)
    logits = scale * torch.cat([right, wrong], dim=1)
    each = functional.cross_entropy(
        logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device), reduction="none"
    )
    return (each * known).sum() / known.sum().clamp(min=1)


class MemoryBank(nn.Module):
    """Keeps the latest targets of every class, and offers those of other classes (Octavius' published ULIP).

    It is not part of checkpoints: a resumed training fills it anew.

    Args:
        classes: C, how many classes there are.
        size: S, targets kept of each; the published code keeps 10,000.
        width: D.
    """

    vectors: Tensor
    counts: Tensor
    places: Tensor

    def __init__(self, classes: int, size: int, width: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"a memory bank offers other classes, and there is {classes}; name more classes")
        if size < 1:
            raise ValueError(f"a memory bank keeps at least 1 target of each class, found {size}")
        self.size = size
        self.register_buffer("vectors", torch.zeros(classes, size, width), persistent=False)
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.long), persistent=False)
        self.register_buffer("places", torch.zeros(classes, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def add(self, labels: Tensor, targets: Tensor) -> None:
        """Keeps targets (B, D) of classes (B,); of a full class the oldest go."""
        for label in labels.unique().tolist():
            rows = targets[labels == label][-self.size :].to(self.vectors)
            start = int(self.places[label])
            where = (start + torch.arange(len(rows), device=rows.device)) % self.size
            self.vectors[label, where] = rows
            self.places[label] = (start + len(rows)) % self.size
            self.counts[label] = min(int(self.counts[label]) + len(rows), self.size)

    @torch.no_grad()
    def draw(self, labels: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Targets of other classes than those asked for, any of the kept ones as likely as any other.

        Args:
            labels: (B,) the classes whose own targets are not offered.
            count: K, how many for each; some may come twice.
            generator: on the CPU.

        Returns:
            The targets (B, K, D), and (B,) false where nothing is kept of any other class.
        """
        ends = self.counts.cumsum(0)
        starts, own = ends - self.counts, self.counts[labels]
        others = ends[-1] - own
        shares = torch.rand(len(labels), count, generator=generator, dtype=torch.float64).to(own.device)
        numbers = (shares * others[:, None]).long()
        numbers = numbers + own[:, None] * (numbers >= starts[labels][:, None])  # steps over the own class
        owners = torch.searchsorted(ends, numbers, right=True).clamp(max=len(ends) - 1)
        return self.vectors[owners, (numbers - starts[owners]).clamp(max=self.size - 1)], others > 0
