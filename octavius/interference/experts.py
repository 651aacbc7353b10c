"""Ablation of experts: answer losses without each expert and with it alone, and similarity of their updates."""

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from octavius.instruction.batch import Batch
from octavius.lora_moe.gates.base import Gate, GateInputs, GateOutput
from octavius.lora_moe.layer import LoRAMoELinear
from octavius.model import Octavius

Change = Callable[[Tensor], Tensor]
"""Maps gate weights (B, E) to other ones."""


def without(expert: int) -> Change:
    """Removes one expert and rescales the others to the same sum; uniform weights if no other was used.

    >>> without(0)(torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]))
    tensor([[0.0000, 0.5000, 0.5000],
            [0.0000, 0.5000, 0.5000]])
    """

    def change(weights: Tensor) -> Tensor:
        off = torch.arange(weights.shape[1], device=weights.device) == expert
        left = weights.masked_fill(off, 0.0)
        empty = left.sum(1, keepdim=True) == 0
        left = torch.where(empty & ~off, 1.0, left)
        return left / left.sum(1, keepdim=True) * weights.sum(1, keepdim=True)

    return change


def only(expert: int) -> Change:
    """Puts all weight on one expert."""

    def change(weights: Tensor) -> Tensor:
        index = torch.full((len(weights),), expert, device=weights.device)
        return F.one_hot(index, weights.shape[1]).to(weights)

    return change


class ChangedGate(Gate):
    """Wraps a gate and changes its weights before the layers use them."""

    def __init__(self, gate: Gate, change: Change) -> None:
        super().__init__(gate.size)
        self.gate, self.change, self.reads = gate, change, gate.reads

    def choices(self, asked: GateInputs) -> list[GateOutput]:
        """The decisions of the wrapped gate, with changed weights."""
        return [one._replace(weights=self.change(one.weights)) for one in self.gate.choices(asked)]


@torch.no_grad()
def losses_with(model: Octavius, batches: Sequence[Batch], change: Change | None = None) -> Tensor:
    """Mean loss per answer token of each sample, (N,), with the gate's weights or changed ones.

    Args:
        model: the model; to change weights it needs one gate for all layers.
        batches: batches with answers, padded on the right.
        change: change of the gate's weights; None keeps them.
    """
    was_training, gate = model.training, model.gate
    if change is not None:
        assert gate is not None
        model.gate = ChangedGate(gate, change)
    model.eval()
    found = []
    try:
        for batch in batches:
            out = model(batch)
            losses, rows = out.losses.cpu(), out.rows.cpu()
            count = torch.bincount(rows, minlength=len(batch)).clamp(min=1)
            found.append(torch.zeros(len(batch)).index_add(0, rows, losses) / count)
    finally:
        model.gate = gate
        model.train(was_training)
    return torch.cat(found)


@torch.no_grad()
def weights_of(model: Octavius, batches: Sequence[Batch]) -> Tensor:
    """Gate weights (N, E) of each sample, averaged if layers or tokens have their own."""
    was_training = model.training
    model.eval()
    found = []
    for batch in batches:
        gate = model(batch).gate
        assert gate is not None
        found.append(gate.float().cpu())
    model.train(was_training)
    return torch.cat(found)


@torch.no_grad()
def similarity(model: Octavius) -> pd.DataFrame:
    """Cosine similarity of the experts' updates B A in each adapted layer, with columns layer, expert, other, cosine.

    The updates (D_out, D) are not materialised: <B_i A_i, B_j A_j> is the sum over the elementwise product of
    B_i^T B_j and A_i A_j^T, both rank x rank.
    """
    rows = []
    for name, layer in model.decoder.lm.named_modules():
        if not isinstance(layer, LoRAMoELinear):
            continue
        ups = layer.lora_B.float().unflatten(1, (layer.experts, -1)).transpose(0, 1)
        downs = layer.lora_A.float()
        downs = (
            downs.expand(layer.experts, -1, -1) if layer.shared_a else downs.unflatten(0, (layer.experts, -1))
        )
        inner = torch.einsum("ior,jos,ird,jsd->ij", ups, ups, downs, downs).cpu()
        norms = inner.diagonal().clamp(min=0).sqrt()  # rounding may make a zero slightly negative
        for expert in range(layer.experts):
            for other in range(expert):
                scale = float(norms[expert] * norms[other])
                cosine = float(inner[expert, other]) / scale if scale > 0 else float("nan")
                rows.append({"layer": name, "expert": other, "other": expert, "cosine": cosine})
    return pd.DataFrame(rows, columns=["layer", "expert", "other", "cosine"])
