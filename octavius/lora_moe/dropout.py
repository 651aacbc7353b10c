"""Inputs and a probability come in, which of their numbers stay goes out, in one byte a number."""

import torch
from torch import Tensor


def kept_inputs(x: Tensor, p: float) -> tuple[Tensor, float]:
    """True where a number of x stays, and the factor of those that do: together they keep the mean.

    On a CPU torch draws a random number for each of x, which takes longer than the products of an expert with x. Here
    four of them share the 64 bits of one, so that p is rounded to a multiple of 2^-16 there.

    Args:
        x: any shape; only that and the device count.
        p: probability of being dropped, in 0..1 (1 excluded).
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - p), 1 / (1 - p)
    least = min(round(p * 2**16), 2**16 - 1)
    drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    quarters = drawn.view(torch.int16)[: x.numel()].view(x.shape)
    return quarters >= least - 2**15, 1 / (1 - least / 2**16)
