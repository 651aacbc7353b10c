"""The input of a LoRA-MoE layer comes in, one weight for each expert and token of it goes out."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavius.lora_moe.gates.base import Choice, Cut


class TokenGate(nn.Module):
    """The token-based gate of the paper's equation (1), one in each LoRA-MoE layer, on that layer's own input.

    Each token's input is brought to a root mean square of 1 and gets its logits by a linear map without bias, in
    fp32. A token is routed by itself alone, so that padding, beams and a cache change nothing.

    Args:
        width: size D of the layer's input.
        experts: number E of experts.
        top_k: how many experts a token uses, 1..E.
        universal: whether the last expert is always on (see `Cut`).
        temperature: logits are divided by it.
        jitter: noise on the gate's input while training.
    """

    def __init__(
        self,
        width: int,
        experts: int,
        top_k: int,
        *,
        universal: bool = False,
        temperature: float = 1.0,
        jitter: float = 0.0,
    ) -> None:
        super().__init__()
        self.cut = Cut(top_k, universal, temperature, jitter)
        self.width, self.experts, self.top_k = width, experts, top_k
        self.weight = nn.Parameter(torch.empty(self.cut.routed(experts), width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws small weights: logits start with a standard deviation of 1."""
        nn.init.normal_(self.weight, std=self.width**-0.5)

    def forward(self, x: Tensor) -> Choice:
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
