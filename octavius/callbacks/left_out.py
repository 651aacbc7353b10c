"""Tells which training samples could not be read, and how many draws that were."""

import sys
from typing import Any

import lightning as L
import torch

from octavius.instruction.batch import Batch

TOLD = 5
"""Samples that each process names in full; others are counted."""


class LeftOutSamples(L.Callback):
    """Counts the draws for which another sample stood in (`bad: skip`), and tells the first samples and the sum.

    Each process names the samples that it meets, as soon as it meets them; the sum over all of them is printed and
    logged as `train/left_out` at the end of each epoch that has any.
    """

    def __init__(self) -> None:
        """Has met none yet."""
        self._count = 0
        self._met: set[str] = set()

    def on_train_epoch_start(self, *_: Any) -> None:
        """Counts anew."""
        self._count = 0

    def on_train_batch_start(self, *hook: Any) -> None:
        """Counts and names what was left out of a batch."""
        batch = hook[2]
        for gone in batch.left_out if isinstance(batch, Batch) else ():
            if gone is None:
                continue
            self._count += 1
            if gone.reason not in self._met and len(self._met) < TOLD:
                self._met.add(gone.reason)
                more = "; others will only be counted" if len(self._met) == TOLD else ""
                print(f"left out, another stands in: {gone.reason}{more}", file=sys.stderr, flush=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Adds up over all processes, prints and logs."""
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
