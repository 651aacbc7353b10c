"""Sketches of the gradients of single samples with respect to the LoRA experts.

The gradient with respect to the matrix B of a layer is a sum over tokens of outer products: of the gradient at the
layer's output and of A x. Both factors are projected to `FACTOR` random dimensions before their product is taken, so
that no gradient of full size is built; inner products keep their expected values (Johnson and Lindenstrauss, 1984).
The input x is sketched beside it, as its mean over the tokens, weighted by the length of their gradients.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

from octavius.lora_moe.layer import LoRAMoELinear

FACTOR = 16
"""Dimensions F that each factor is projected to."""

SHARED = 1_000_000
"""Seed of the projection of inputs, larger than the index of any layer: q, k and v of a layer read the same input."""


@contextmanager
def sketching(model: nn.Module) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
    """A context in which a backward pass fills the sketches of the samples of a batch, by index of the layer.

    The backward pass need not reach any parameter: the gradient with respect to the input embeddings is enough.

    Args:
        model: a module with L LoRA-MoE layers, whose inputs have a row per sample (no packed rows).

    Yields:
        Index of a layer to the sketches of its updates, (B, F, F), and inputs, (B, F), in fp32.
    """
    parts: dict[int, tuple[Tensor, Tensor]] = {}
    layers = [layer for layer in model.modules() if isinstance(layer, LoRAMoELinear)]
    handles = [layer.register_forward_hook(_watch(parts, index)) for index, layer in enumerate(layers)]
    try:
        yield parts
    finally:
        for handle in handles:
            handle.remove()


def _watch(
    parts: dict[int, tuple[Tensor, Tensor]], index: int
) -> Callable[[LoRAMoELinear, tuple[Tensor, ...], Tensor], None]:
    """A forward hook that sketches the gradient of the layer's B when it arrives at the layer's output."""

    def watch(layer: LoRAMoELinear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # Without a graph it is the first pass of activation checkpointing, which is repeated with one. An output
        # layer that computes the wanted positions alone has no row per sample.
        if not output.requires_grad or output.dim() != 3:
            return
        # A is read here and not in the backward pass: FSDP gathers it for the forward pass alone.
        down, x = layer.lora_A.detach().float(), inputs[0].detach().float()
        low = x @ (down.T @ projection(index, len(down), down.device))
        seen = x @ projection(SHARED, x.shape[-1], x.device)

        def take(gradient: Tensor) -> None:
            gradient = gradient.float()
            high = gradient @ projection(-1 - index, layer.out_features, gradient.device)
            lengths = gradient.norm(dim=2, keepdim=True)
            mean = (seen * lengths).sum(1) / lengths.sum(1).clamp(min=1e-30)
            parts[index] = torch.einsum("bto,btr->bor", high, low), mean

        output.register_hook(take)

    return watch


@cache
def projection(seed: int, width: int, device: torch.device) -> Tensor:
    """A fixed random projection (width, FACTOR) that keeps squared lengths in expectation."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(width, FACTOR, generator=generator) / FACTOR**0.5).to(device)
