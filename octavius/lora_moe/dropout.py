"""Dropout masks of one byte per element, which are cheap to draw on a CPU and cheap to save for backward."""

import torch
from torch import Tensor


def kept_inputs(x: Tensor, p: float) -> tuple[Tensor, float]:
    """Draws a dropout mask for x and the factor 1 / (1 - p) that keeps the mean.

    On a CPU drawing one random number per element takes longer than an expert's products with x. There four elements
    share one draw of 64 bits, so p is rounded to a multiple of 2^-16.

    Args:
        x: tensor of any shape; only its shape and device are read.
        p: probability that an element is dropped, in 0..1 (1 excluded).

    Returns:
        A boolean mask of the shape of x, true where an element is kept; and the factor of kept elements.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - p), 1 / (1 - p)
    # Never all 2^16 values: the factor would be infinite.
    least = min(round(p * 2**16), 2**16 - 1)
    drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    quarters = drawn.view(torch.int16)[: x.numel()].view(x.shape)
    # int16 values are uniform from -2^15 on: `least` of the 2^16 possible ones are below this bound.
    return quarters >= least - 2**15, 1 / (1 - least / 2**16)
