"""Callback that reports unreadable training samples."""

import sys
from typing import Any

import lightning as L
import torch

from octavius.instruction.batch import Batch

TOLD = 5
"""Number of samples that each rank names; further ones are only counted."""


class LeftOutSamples(L.Callback):
    """Counts the draws in which an unreadable sample was replaced by another (`bad: skip`).

    Each rank prints the first such samples as it meets them. The total over all ranks is printed and logged
    as `train/left_out` at the end of each epoch that has any.
    """

    def __init__(self) -> None:
        """Starts with a count of zero."""
        self._count = 0
        self._met: set[str] = set()

    def on_train_epoch_start(self, *_: Any) -> None:
        """Resets the count."""
        self._count = 0

    def on_train_batch_start(self, *hook: Any) -> None:
        """Counts and names the samples that were replaced in a batch."""
        batch = hook[2]
        for gone in batch.replaces if isinstance(batch, Batch) else ():
            if gone is None:
                continue
            self._count += 1
            if gone.reason not in self._met and len(self._met) < TOLD:
                self._met.add(gone.reason)
                more = "; others will only be counted" if len(self._met) == TOLD else ""
                print(f"left out, another stands in: {gone.reason}{more}", file=sys.stderr, flush=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Sums over all ranks, prints and logs."""
        count = torch.tensor(self._count, device=pl_module.device)
        total = int(trainer.strategy.reduce(count, reduce_op="sum"))
        if not total:
            return
        pl_module.log("train/left_out", float(total), rank_zero_only=True)
        if trainer.is_global_zero:
            print(
                f"\nepoch {trainer.current_epoch + 1}: {total} draws of samples that cannot be read; others stood in "
                "for them (octavius check-data --config lists them)",
                flush=True,
            )
