"""The baseline without routing: all experts with equal weights."""

import torch

from octavius.lora_moe.gates.base import Gate, GateInputs, GateOutput, GateSize, Reading


class UniformGate(Gate):
    """Gives every expert the weight 1 / E for every sample."""

    reads: tuple[Reading, ...] = ()

    def __init__(self, size: GateSize, /) -> None:
        super().__init__(size)  # no `per_layer`: all layers have the same weights anyway

    def choices(self, asked: GateInputs) -> list[GateOutput]:
        """Returns constant weights (B, E); only the batch size is read."""
        samples, device = len(asked.mask), asked.mask.device
        equal = [torch.full((samples, count), 1.0 / count, device=device) for count in self.counts]
        return [GateOutput(weights, weights) for weights in equal]

    def extra_repr(self) -> str:
        """Settings shown when the model is printed."""
        return f"experts={self.experts}"
