"""A language model comes in, the same model with LoRA-MoE layers and all else frozen goes out."""

from collections.abc import Sequence

import torch
from torch import nn

from octavius.lora_moe.layer import LoRAMoELinear, linear_widths
from octavius.lora_moe.routing import Routing


def inject(
    model: nn.Module,
    targets: Sequence[str],
    experts: int,
    rank: int,
    alpha: float,
    dropout: float,
    routing: Routing,
    *,
    dtype: torch.dtype = torch.float32,
) -> list[str]:
    """Swaps the linear layers that `targets` name for LoRA-MoE layers, and freezes everything else in place.

    A model that an error is raised for stays as it was.

    Args:
        model: the model to change.
        targets: last parts of module names: `q_proj`, or longer, `self_attn.q_proj`.
        experts: number E of experts.
        rank: rank R of one expert.
        alpha: numerator of the scale alpha / R.
        dropout: dropout on the experts' inputs.
        routing: the holder that all layers read.
        dtype: type in which the experts are kept.

    Returns:
        The names of the swapped layers, in the model's order.
    """
    bases = _matches(model, targets)
    layers = {
        name: LoRAMoELinear(base, experts, rank, alpha, dropout, routing, dtype=dtype)
        for name, base in bases.items()
    }
    model.requires_grad_(False)
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    return list(layers)


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The experts' parameters of a model by their full names: what LoRA-MoE trains and saves."""
    return {
        f"{name}.{part}" if name else part: parameter
        for name, layer in model.named_modules()
        if isinstance(layer, LoRAMoELinear)
        for part, parameter in layer.named_parameters(recurse=False)
    }


def _matches(model: nn.Module, targets: Sequence[str]) -> dict[str, nn.Module]:
    """The linear modules by name that the targets mean, or an error that says what there is."""
    if isinstance(targets, str) or not targets:
        raise ValueError(f"targets must be a list of layer names, like ['q_proj'], found {targets!r}")
    for name, module in model.named_modules():
        if isinstance(module, LoRAMoELinear):
            raise ValueError(f"the model already has LoRA-MoE layers (the first is {name!r}); inject once")
    linears = {
        name: module for name, module in model.named_modules() if name and linear_widths(module) is not None
    }
    unknown = [target for target in targets if not any(_means(target, name) for name in linears)]
    if unknown:
        last_parts = sorted({name.rpartition(".")[2] for name in linears})
        raise ValueError(
            f"targets that match no linear layer of {type(model).__name__}: {unknown}; "
            f"its linear layers are called {last_parts}; name some of these"
        )
    return {name: base for name, base in linears.items() if any(_means(target, name) for target in targets)}


def _means(target: str, name: str) -> bool:
    """Whether a target names this module: its whole name, or whole last parts of it."""
    return name == target or name.endswith(f".{target}")
