"""LoRA-MoE layers and fixed gate weights come in; one plain LoRA, or a plain linear layer, goes out for each."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from octavius.lora_moe.layer import LoRAMoELinear

FixedGate: TypeAlias = Tensor | Mapping[str, Tensor]
"""Weights (E,) that hold for every layer, or such weights by layer name."""


def layers_of(model: nn.Module) -> dict[str, LoRAMoELinear]:
    """The LoRA-MoE layers of a model by name, in its order.

    Raises:
        ValueError: it has none.
    """
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoRAMoELinear)}
    if not found:
        raise ValueError(
            f"there is nothing to merge: {type(model).__name__} has no LoRA-MoE layers; inject experts, or take a "
            "checkpoint that was trained with them"
        )
    return found


def fold(model: nn.Module, gate: FixedGate) -> Iterator[tuple[str, Tensor, Tensor]]:
    """What the experts of each layer are together under a fixed gate: one LoRA of scale 1.

    The experts lie one below the other in A and one beside the other in B, which takes gate weight and scale;
    those of weight 0 are left out. So k experts of rank R are one LoRA of rank k * R, exactly; of rank R where they
    share A.

    Args:
        model: with LoRA-MoE layers.
        gate: the weights.

    Yields:
        Name of a layer, A (k * R, D) and B (D_out, k * R), both in fp32.
    """
    for name, layer in layers_of(model).items():
        yield name, *_folded(layer, _weights(gate, name, layer))


def merge(model: nn.Module, gate: FixedGate) -> dict[str, LoRAMoELinear]:
    """Puts plain linear layers in the place of LoRA-MoE layers: W + alpha / R * sum over e of g_e B_e A_e.

    The sum is made in fp32 and rounded once to the type of W. Nothing is written into the layers that are taken
    out, so that `unmerge` is exact; who does not keep them frees their memory.

    Args:
        model: with LoRA-MoE layers; changed in place. One that an error is raised for stays as it was.
        gate: the weights.

    Returns:
        The layers that were taken out, by name.

    Raises:
        ValueError: a base is quantised or of a kind unknown here, the weights do not fit the experts, or a layer
            chooses for each token anew.
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
        down, up = _folded(layer, _weights(gate, name, layer))
        put(model, name, _plain(layer.base, up @ down))
    return layers


def unmerge(model: nn.Module, layers: Mapping[str, LoRAMoELinear]) -> None:
    """Puts the layers back that `merge` took out: the model is what it was, to the last bit."""
    for name, layer in layers.items():
        put(model, name, layer.train(model.training))


@torch.no_grad()
def _folded(layer: LoRAMoELinear, weights: Tensor) -> tuple[Tensor, Tensor]:
    """A (k * R, D) and B (D_out, k * R) of one layer in fp32, gate and scale in B; a shared A stays one."""
    used = weights.nonzero().flatten()
    up = layer.lora_B.unflatten(1, (layer.experts, -1))[:, used].float()
    scaled = up * (weights[used] * layer.scale)[:, None]
    if layer.shared_a:
        return layer.lora_A.float(), scaled.sum(1)
    down = layer.lora_A.unflatten(0, (layer.experts, -1))[used].flatten(0, 1)
    return down.float(), scaled.flatten(1)


def _weights(gate: FixedGate, name: str, layer: LoRAMoELinear) -> Tensor:
    """The weights (E,) of one layer in fp32, where it lies."""
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
    """Refuses to add to a weight that is no matrix of floating-point numbers."""
    weight = getattr(base, "weight", None)
    plain = type(base) in (nn.Linear, Conv1D) and type(weight) is nn.Parameter
    if not plain or not weight.is_floating_point():  # type: ignore[union-attr]
        raise ValueError(
            f"the experts cannot be merged into {name}, a {type(base).__name__}: expected an nn.Linear with weights "
            "in floating point. A quantised base would have to be rounded again; load it in bfloat16, or export a "
            "PEFT adapter, which leaves it alone"
        )


@torch.no_grad()
def _plain(base: nn.Module, delta: Tensor) -> nn.Module:
    """A new layer of the base's kind with the change (D_out, D) added."""
    old, bias = base.weight, base.bias
    assert isinstance(old, Tensor)
    assert bias is None or isinstance(bias, Tensor)
    if isinstance(base, Conv1D):
        new: nn.Module = Conv1D(base.nf, base.nx)
        delta = delta.T
    else:
        rows, columns = old.shape
        new = nn.Linear(columns, rows, bias=bias is not None, device="meta")
    new.weight = nn.Parameter((old.float() + delta.to(old.device)).to(old.dtype), requires_grad=False)
    if bias is not None:
        new.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return new.train(base.training)


def put(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Sets a module by its full name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
