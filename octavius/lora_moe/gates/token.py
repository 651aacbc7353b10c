"""The token-based gate of the paper: each layer routes each token."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavius.lora_moe.gates.base import GateOutput, GateSize, LayerGate, TopKRouter


class TokenGate(LayerGate):
    """The token-based gate of the paper's equation (1), one inside each LoRA-MoE layer, on the input of that layer.

    Each token is scaled to an RMS of 1 and mapped to logits by a linear layer without bias, in fp32. Tokens are
    routed independently, so padding, beam search and a KV cache do not change the routing.

    Args:
        size: sizes of the layer that the gate is for.
        top_k: number of experts that a token uses, 1..E; None uses all.
        universal: whether the last expert is always on, with the weight that the others leave to 1 (MoCLE).
        temperature: divisor of the logits.
        jitter: in training the input is multiplied by uniform noise in 1 - jitter..1 + jitter.
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
        self.router = TopKRouter(top_k, universal, temperature, jitter)
        self.top_k = top_k
        self.weight = nn.Parameter(torch.empty(self.router.routed(*self.counts), self.width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights such that logits start with a standard deviation of 1."""
        nn.init.normal_(self.weight, std=self.width**-0.5)

    def choose(self, x: Tensor) -> GateOutput:
        """Routes each token of inputs (B, T, D) or (B, D), in fp32: weights (B, T, E) or (B, E)."""
        # Autocast would compute the logits in half precision in spite of `.float()`.
        with torch.autocast(x.device.type, enabled=False):
            inputs = x.float()
            # The RMS is divided out of the logits, not of x, which is equal since the layer is linear: autograd then
            # saves no normalised copy of x.
            scale = inputs.square().mean(dim=-1, keepdim=True).add(torch.finfo(torch.float32).eps).rsqrt()
            noisy = self.router.noisy(inputs) if self.training else inputs
            return self.router.choose(F.linear(noisy, self.weight.float()) * scale)

    def extra_repr(self) -> str:
        """Settings shown when the model is printed."""
        return f"width={self.width}, experts={self.experts}, {self.router}"
