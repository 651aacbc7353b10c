"""The token-based gate of the paper: each layer chooses experts for each token."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavius.lora_moe.gates.base import Choice, Cut, GateSize, LayerGate


class TokenGate(LayerGate):
    """The token-based gate of the paper's equation (1), one in each LoRA-MoE layer, on that layer's own input.

    Each token's input is brought to a root mean square of 1 and gets its logits by a linear map without bias, in
    fp32. A token is routed by itself alone, so that padding, beams and a cache change nothing.

    Args:
        size: the layer that it is for.
        top_k: how many experts a token uses, 1..E.
        universal: whether the last expert is always on (see `Cut`).
        temperature: the logits are divided by it.
        jitter: while training, the input is multiplied by uniform noise in 1 - jitter..1 + jitter.
    """

    def __init__(
        self,
        size: GateSize,
        /,
        *,
        top_k: int | None = 2,
        universal: bool = False,
        temperature: float = 1.0,
        jitter: float = 0.0,
    ) -> None:
        super().__init__(size)
        self.cut = Cut(top_k, universal, temperature, jitter)
        self.top_k = top_k
        self.weight = nn.Parameter(torch.empty(self.cut.routed(*self.counts), self.width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws small weights: logits start with a standard deviation of 1."""
        nn.init.normal_(self.weight, std=self.width**-0.5)

    def choose(self, x: Tensor) -> Choice:
        """The choice for each token of inputs (B, T, D) or (B, D), in fp32: (B, T, E) or (B, E)."""
        with torch.autocast(x.device.type, enabled=False):
            inputs = x.float()
            # The scale of a token leaves the product, so that no second copy of x is kept for backward.
            scale = inputs.square().mean(dim=-1, keepdim=True).add(torch.finfo(torch.float32).eps).rsqrt()
            noisy = self.cut.noisy(inputs) if self.training else inputs
            return self.cut.choose(F.linear(noisy, self.weight.float()) * scale)

    def extra_repr(self) -> str:
        """The settings, for printing the model."""
        return f"width={self.width}, experts={self.experts}, {self.cut}"
