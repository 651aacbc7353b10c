"""Exact merging of LoRA-MoE layers under fixed gate weights, into one plain LoRA or one linear layer each."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from octavius.lora_moe.layer import LoRAMoELinear

FixedGate: TypeAlias = Tensor | Mapping[str, Tensor]
"""Gate weights (E,) for all layers, or by layer name."""


def layers_of(model: nn.Module) -> dict[str, LoRAMoELinear]:
    """LoRA-MoE layers of a model by name, in the order of its modules.

    Raises:
        ValueError: the model has none.
    """
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoRAMoELinear)}
    if not found:
        raise ValueError(
            f"there is nothing to merge: {type(model).__name__} has no LoRA-MoE layers; inject experts, or take a "
            "checkpoint that was trained with them"
        )
    return found


def fold(model: nn.Module, gate: FixedGate) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Merges the experts of each layer into one LoRA of scale 1 under fixed gate weights.

    A is stacked, B is concatenated and takes gate weight and scale; experts of weight 0 are left out. The k
    others, of rank R, are exactly one LoRA of rank k * R, or of rank R where they share A.

    Args:
        model: a model with LoRA-MoE layers.
        gate: the gate weights.

    Yields:
        Name of a layer, A (k * R, D) and B (D_out, k * R), both in fp32.
    """
    for name, layer in layers_of(model).items():
        yield name, *folded(layer, _weights(gate, name, layer))


def merge(model: nn.Module, gate: FixedGate) -> dict[str, LoRAMoELinear]:
    """Replaces LoRA-MoE layers by linear layers with the weight W + alpha / R * sum over e of g_e B_e A_e.

    The sum is computed in fp32 and rounded once to the dtype of W. The replaced layers are returned unchanged, so
    that `unmerge` is exact; drop them to free their memory.

    Args:
        model: a model with LoRA-MoE layers, changed in place; left unchanged if an error is raised.
        gate: the gate weights.

    Returns:
        The replaced layers by name.

    Raises:
        ValueError: a base is quantised or of an unsupported class, the weights do not fit the experts, or a layer
            routes each token by a gate of its own.
    """
    layers = layers_of(model)
    for name, layer in layers.items():
        if layer.gate is not None:
            raise ValueError(
                f"{name} has a gate of its own, which weighs the experts for each token anew: there are no fixed "
                "weights to merge. Keep the layers, or give each expert an adapter of its own"
            )
        _check_base(name, layer.base)
        _weights(gate, name, layer)
    for name, layer in layers.items():
        down, up = folded(layer, _weights(gate, name, layer))
        put(model, name, _plain(layer.base, up @ down))
    return layers


def unmerge(model: nn.Module, layers: Mapping[str, LoRAMoELinear]) -> None:
    """Puts back the layers that `merge` returned, which restores the model bit for bit."""
    for name, layer in layers.items():
        put(model, name, layer.train(model.training))


@torch.no_grad()
def folded(layer: LoRAMoELinear, weights: Tensor) -> tuple[Tensor, Tensor]:
    """A (k * R, D) and B (D_out, k * R) of one layer in fp32, gate weights and scale in B; or a shared A (R, D)."""
    used = weights.nonzero().flatten()
    up = layer.lora_B.unflatten(1, (layer.experts, -1))[:, used].float()
    scaled = up * (weights[used] * layer.scale)[:, None]
    if layer.shared_a:
        return layer.lora_A.float(), scaled.sum(1)
    down = layer.lora_A.unflatten(0, (layer.experts, -1))[used].flatten(0, 1)
    return down.float(), scaled.flatten(1)


def _weights(gate: FixedGate, name: str, layer: LoRAMoELinear) -> Tensor:
    """Gate weights (E,) of one layer in fp32, on its device."""
    if isinstance(gate, Mapping) and name not in gate:
        raise ValueError(f"no gate weights are given for the layer {name}; give (experts,) for each layer")
    weights = gate[name] if isinstance(gate, Mapping) else gate
    if weights.dim() != 1:
        raise ValueError(
            f"only fixed gate weights can be merged, (experts,): found {tuple(weights.shape)}. Weights that differ "
            "between samples or tokens are no one weight matrix: merge for one question, and keep the layers where "
            "the gate looks at tokens"
        )
    if len(weights) != layer.experts:
        raise ValueError(f"{len(weights)} gate weights are given, but {name} has {layer.experts} experts")
    return weights.detach().to(layer.lora_A.device, torch.float32)


def _check_base(name: str, base: nn.Module) -> None:
    """Checks that the weight of a base is a floating-point matrix to which an update can be added."""
    if not is_plain(base):
        raise ValueError(
            f"the experts cannot be merged into {name}, a {type(base).__name__}: expected an nn.Linear with weights "
            "in floating point. A quantised base would have to be rounded again; load it in bfloat16, or export a "
            "PEFT adapter, which leaves it alone"
        )


def is_plain(base: nn.Module) -> bool:
    """Whether the weight of a linear layer is a floating-point matrix to which an update can be added."""
    weight = getattr(base, "weight", None)
    # Exact types: subclasses, such as quantised layers, may store or apply their weight otherwise.
    return type(base) in (nn.Linear, Conv1D) and type(weight) is nn.Parameter and weight.is_floating_point()


@torch.no_grad()
def _plain(base: nn.Module, delta: Tensor) -> nn.Module:
    """Builds a layer of the class of the base with the update (D_out, D) added to its weight."""
    old, bias = base.weight, base.bias
    assert isinstance(old, Tensor)
    assert bias is None or isinstance(bias, Tensor)
    if isinstance(base, Conv1D):
        new: nn.Module = Conv1D(base.nf, base.nx)
        delta = delta.T  # Conv1D stores its weight as (D, D_out)
    else:
        rows, columns = old.shape
        # On the meta device, since its weights are replaced right away.
        new = nn.Linear(columns, rows, bias=bias is not None, device="meta")
    new.weight = nn.Parameter((old.float() + delta.to(old.device)).to(old.dtype), requires_grad=False)
    if bias is not None:
        new.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return new.train(base.training)


def put(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Sets a module by its full name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
