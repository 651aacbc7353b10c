"""Injection of LoRA-MoE layers into a language model, whose other parameters are frozen."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import nn

from octavius.lora_moe.backends import BackendName
from octavius.lora_moe.gates.base import LayerGate
from octavius.lora_moe.layer import LoRAMoELinear, Origin, check_backend, linear_widths
from octavius.lora_moe.routing import Routing

Layouts: TypeAlias = Callable[[Mapping[str, nn.Module]], Mapping[str, str]]
"""Maps layers by name to what each is called on (see `inject`)."""

LayerGates: TypeAlias = Callable[[int, int], LayerGate]
"""Builds the gate of one layer from its input width and its number of experts."""


def inject(
    model: nn.Module,
    targets: Sequence[str],
    experts: int | Sequence[int],
    rank: int,
    alpha: float,
    dropout: float,
    routing: Routing,
    *,
    layer_gate: LayerGates | None = None,
    shared_a: bool = False,
    scale: Origin = "peft",
    init: Origin = "peft",
    backend: BackendName = "auto",
    dtype: torch.dtype = torch.float32,
    layouts: Layouts | None = None,
) -> list[str]:
    """Replaces the linear layers that `targets` name by LoRA-MoE layers in place, and freezes everything else.

    If an error is raised, the model is left unchanged.

    Args:
        model: the language model.
        targets: module names, or their last parts: `q_proj`, or longer, `self_attn.q_proj`.
        experts: number E of experts. A sequence varies it by depth (see `per_layer`); the layers of each depth then
            read a part of the routing of their own.
        rank: rank R of one expert.
        alpha: numerator of the scale alpha / R.
        dropout: dropout probability on the experts' inputs.
        routing: holder of the gate weights, read by all layers.
        layer_gate: builds a gate inside each layer; None routes all layers by `routing`.
        shared_a: whether the experts of a layer share one A.
        scale: see `LoRAMoELinear`.
        init: see `LoRAMoELinear`.
        backend: see `LoRAMoELinear`.
        dtype: dtype of the experts' parameters.
        layouts: tells what each layer is called on: `samples` (B, T, D), `tokens` (B * T, D), `head` (positions that
            the output layer gathers), `none` (never called), or `other`. None assumes `samples` for all.

    Returns:
        Names of the replaced layers, in the order of the model.

    Raises:
        ValueError: a target matches no layer, or layers whose input rows cannot be assigned to samples, so that it
            is unknown which gate weights apply.
    """
    bases = _matches(model, targets)
    if layouts is not None:
        bases = _usable(bases, targets, layouts(bases), experts == 1, layer_gate is not None)
    counts: dict[str, int] = dict.fromkeys(bases, experts) if isinstance(experts, int) else {}
    depth_of: dict[str, int] = {}
    if not isinstance(experts, int):
        each = per_layer(experts, depths(model))
        depth_of = {name: _depth(model, name) for name in bases}
        counts = {name: each[depth] for name, depth in depth_of.items()}
    check_backend(backend, layer_gate is not None)
    settings = {"shared_a": shared_a, "scale": scale, "init": init, "backend": backend, "dtype": dtype}
    layers = {
        name: LoRAMoELinear(base, counts[name], rank, alpha, dropout, routing, **settings)  # type: ignore[arg-type]
        for name, base in bases.items()
    }
    if layer_gate is not None:
        for layer in layers.values():
            layer.gate = layer_gate(layer.in_features, layer.experts).to(layer.lora_A.device)
            layer.routing = routing.part()
    elif depth_of:
        parts = [routing.part() for _ in range(depths(model))]
        for name, layer in layers.items():
            layer.routing = parts[depth_of[name]]
    # Nothing raises from here on. Freeze before the swap, since the experts are to stay trainable.
    model.requires_grad_(False)
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    return list(layers)


def _usable(
    bases: Mapping[str, nn.Module],
    targets: Sequence[str],
    layouts: Mapping[str, str],
    single: bool,
    by_token: bool,
) -> dict[str, nn.Module]:
    """The layers that are called at all, checked to be called on rows that gate weights can be assigned to."""
    used = {name: base for name, base in bases.items() if layouts[name] != "none"}
    for target in targets:
        if not any(_means(target, name) for name in used):
            raise ValueError(
                f"the target {target!r} names only layers that no text runs through, such as "
                f"{next(name for name in bases if _means(target, name))!r}: they would never be trained; leave it out"
            )
    # A gate per token needs (B, T, D). Weights per sample also serve flattened tokens, in order of samples. A single
    # expert has the weight 1 anywhere.
    right = ("samples",) if by_token else ("samples", "tokens", "head")
    if wrong := [name for name in used if layouts[name] not in right and not single]:
        why = (
            "gathered positions of the output layer"
            if layouts[wrong[0]] == "head"
            else ("rows that are not whole samples (as in mixtures of experts)")
        )
        raise ValueError(
            f"the target {wrong[0]!r} is run on {why}, where a gate of {'tokens' if by_token else 'samples'} cannot "
            f"tell whose experts apply; leave it out of lora.targets, or take experts: 1 ({len(wrong)} such layers)"
        )
    return used


def depths(model: nn.Module) -> int:
    """Number of layers of a language model, taken as the length of its longest `nn.ModuleList`."""
    return len(_blocks(model)[1])


def longest_list(model: nn.Module) -> int:
    """Length of the longest `nn.ModuleList` of a model; 0 if it has none."""
    return max((len(part) for part in model.modules() if isinstance(part, nn.ModuleList)), default=0)


def per_layer(experts: Sequence[int], count: int) -> list[int]:
    """Expands numbers of experts to one per layer.

    With fewer numbers than layers, each holds for one of as many equal ranges of layers, first to last, as in
    MoLA-2468 (Gao et al., 2024).

    >>> per_layer([2, 4, 8], 6)
    [2, 2, 4, 4, 8, 8]

    Raises:
        ValueError: the number of layers is not a multiple of the length of the list.
    """
    if not experts or count % len(experts) != 0:
        raise ValueError(
            f"numbers of experts by depth are one for each of the {count} layers of the model, or one for each of "
            f"several ranges of equal length, found {len(experts)} numbers: {list(experts)}"
        )
    return [number for number in experts for _ in range(count // len(experts))]


def _blocks(model: nn.Module) -> tuple[str, list[nn.Module]]:
    """Name and modules of the longest `nn.ModuleList` of a model, which are its decoder layers."""
    lists = {name: list(found) for name, found in model.named_modules() if isinstance(found, nn.ModuleList)}
    if not lists:
        raise ValueError(
            f"{type(model).__name__} has no list of equal layers, so that nothing can differ by depth: give one "
            "number of experts, and one gate for all layers"
        )
    name = max(lists, key=lambda one: len(lists[one]))
    return name, lists[name]


def _depth(model: nn.Module, name: str) -> int:
    """Index of the decoder layer that a module lies in."""
    blocks = _blocks(model)[0]
    if not name.startswith(f"{blocks}."):
        raise ValueError(
            f"the target {name!r} lies at no depth of the model (in none of {blocks!r}): leave it out of the "
            "targets, or give one number of experts and one gate for all layers"
        )
    return int(name.removeprefix(f"{blocks}.").split(".")[0])


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters of all LoRA-MoE layers by full name, including the gates inside layers."""
    return {
        f"{name}.{part}" if name else part: parameter
        for name, layer in model.named_modules()
        if isinstance(layer, LoRAMoELinear)
        for part, parameter in layer.named_parameters()
        if not part.startswith("base.")
    }


def _matches(model: nn.Module, targets: Sequence[str]) -> dict[str, nn.Module]:
    """Linear modules that the targets match, by name; an error lists the names that there are."""
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
    """Whether a target is the name of a module or its last dotted parts: `proj` does not match `q_proj`."""
    return name == target or name.endswith(f".{target}")
