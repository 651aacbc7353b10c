"""No routing: all experts with the same weight."""

import torch

from octavius.lora_moe.gates.base import Asked, Choice, Gate, Reading


class UniformGate(Gate):
    """No routing: every expert has the weight 1 / E for every sample."""

    reads: tuple[Reading, ...] = ()

    def choices(self, asked: Asked) -> list[Choice]:
        """Reads nothing but how many samples there are."""
        samples, device = len(asked.mask), asked.mask.device
        equal = [torch.full((samples, count), 1.0 / count, device=device) for count in self.counts]
        return [Choice(weights, weights) for weights in equal]

    def extra_repr(self) -> str:
        """The settings, for printing the model."""
        return f"experts={self.experts}"
