"""What a routing that is fixed for a whole answer lets the layers prepare once, for the steps of generation.

Such a step multiplies little, so that the number of kernel launches and the overhead of Python count. Layers that
read the same tensor (q, k and v) are computed together, by one product with their frozen weights and their A side by
side; their B are added by one product each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from octavius.lora_moe.layer import LoRAMoELinear
from octavius.lora_moe.low_rank import computing_type
from octavius.lora_moe.merge import folded, is_plain

MERGED_AFTER = 16
"""Steps after which experts are merged, estimated from the operations that merging takes, not measured."""

NARROW = 8
"""Frozen weights are copied if the layer's A and B have at least one element for this many of theirs.

In wider layers the experts take little of the time of a step, and the copies would take much memory.
"""


@contextmanager
def fixed_routing(model: nn.Module) -> Iterator[None]:
    """Context manager around generation, in which steps of one token per row are faster under the current routing.

    Experts that no row uses are left out. If all rows have the same weights, the experts of narrow layers in float32
    are merged after some steps, into copies: neither parameters nor modules are changed. Everything else is computed
    as without the context: passes over several tokens, with other weights or with gradients, and layers with a gate
    of their own. Parameters must not change inside.

    Args:
        model: a model whose gate weights are set, with or without LoRA-MoE layers.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, LoRAMoELinear) and _fits(layer)]
    groups: list[_Group] = []
    for layer in layers:
        layer.forward = _Steps(layer, groups)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # uncovers the method of the class


def _fits(layer: LoRAMoELinear) -> bool:
    """Whether one routing holds for all steps of a layer, so that something can be prepared."""
    if layer.gate is not None or not layer.routing.is_set:
        return False
    weights = layer.routing.weights
    return (
        weights.dim() == 2
        and weights.shape[1] == layer.experts
        and not (layer.dropout.training and layer.dropout.p > 0)
        and _at_hand(layer, layer.lora_A)
        # Of a shared A each row needs a B of its own.
        and (not layer.shared_a or _alike(weights))
    )


def _at_hand(module: nn.Module, parameter: object) -> bool:
    """Whether a parameter is there outside a pass (not sharded or offloaded), and nothing observes the module."""
    hooked = "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
    return not hooked and type(parameter) is nn.Parameter and not parameter.is_meta


def _alike(weights: Tensor) -> bool:
    """Whether all rows have the same weights."""
    return len(weights) == 1 or bool((weights == weights[0]).all())


class _Steps:
    """Stands in for the forward method of a layer while its routing is fixed."""

    def __init__(self, layer: LoRAMoELinear, groups: "list[_Group]") -> None:
        self.layer, self.otherwise, self.groups = layer, layer.forward, groups
        self.routing, self.weights = layer.routing, layer.routing.weights
        self.group: _Group | None = None
        self.index = 0

    def __call__(self, x: Tensor) -> Tensor:
        """See `LoRAMoELinear.forward`."""
        group = self.group
        if group is not None and (found := group.taken(self.index, x)) is not None:
            return found
        if (
            x.dim() != 3
            or x.shape[1] != 1
            or not self.layer.enabled
            or self.routing.weights is not self.weights
            or torch.is_grad_enabled()
            or torch.compiler.is_compiling()
        ):
            return self.otherwise(x)
        if group is None:
            self._join(x)
            return self.otherwise(x)
        group.compute(x)
        return cast(Tensor, group.taken(self.index, x))

    def _join(self, x: Tensor) -> None:
        """In the first step, joins the layers that were just called on the same tensor."""
        if not self.groups or self.groups[-1].x is not x or self.groups[-1].steps:
            self.groups.append(_Group(x))
        self.group = self.groups[-1]
        self.index = len(self.group.layers)
        self.group.layers.append(self.layer)


class _Group:
    """Layers that read the same tensor."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.layers = x, list[LoRAMoELinear]()
        self.outputs = list[Tensor | None]()
        self.steps, self.prepared_for = 0, (0, x.dtype)

    def taken(self, index: int, x: Tensor) -> Tensor | None:
        """Hands out the output of a layer for an input that was computed, once, or None.

        Only once, so that nothing old is taken for current if a caller writes a new input into the same tensor.
        """
        if self.x is not x or not self.outputs:
            return None
        found, self.outputs[index] = self.outputs[index], None
        return found

    def compute(self, x: Tensor) -> None:
        """Computes the outputs (B, 1, D_out) of all layers for an input (B, 1, D)."""
        now, self.steps = (len(x), computing_type(x)), self.steps + 1
        if now != self.prepared_for:
            self._prepare(*now)
            self.prepared_for = now
        if self.steps > MERGED_AFTER and self.mergeable:
            self._merge()
        rows = x[:, 0].to(now[1])
        both = rows @ self.matrix if self.bias is None else torch.addmm(self.bias, rows, self.matrix)
        parts = both.split(self.widths, 1)
        self.x = x
        if not self.ups:  # merged
            self.outputs = [part.unsqueeze(1) for part in parts]
            return
        hidden = parts[-1] if self.factors is None else parts[-1].mul_(self.factors)
        outs = parts if self.copied else [layer.base(x)[:, 0] for layer in self.layers]
        # Not strict: the last of the parts is the hidden values.
        each = zip(outs, hidden.split(self.ranks, 1), self.ups, strict=False)
        self.outputs = [_added(*one).unsqueeze(1) for one in each]

    def _prepare(self, rows: int, dtype: torch.dtype) -> None:
        """Lays out the matrices for a number of rows and a dtype."""
        downs, ups, factors, alike = [], [], [], True
        for layer in self.layers:
            weights = layer.routing.for_rows(rows, 1)
            if _alike(weights):
                down, up = folded(layer, weights[0])
                factors.append(weights.new_ones(rows, len(down)))
            else:  # the weights of rows are factors of A x
                used, alike = (weights != 0).any(0), False
                down, up = folded(layer, used.to(weights.dtype))
                factors.append(weights[:, used].repeat_interleave(layer.rank, 1))
            downs.append(down.T)
            ups.append(up.T.contiguous())
        self.factors = None if alike else torch.cat(factors, 1)
        bases = [layer.base for layer in self.layers]
        frozen = list[Tensor]()
        if all(is_plain(base) and _at_hand(base, base.weight) for base in bases):
            # Conv1D stores its weight as (D, D_out).
            weights_of = [(base, cast(Tensor, base.weight)) for base in bases]
            frozen = [weight if isinstance(base, Conv1D) else weight.T for base, weight in weights_of]
            if NARROW * sum(one.numel() for one in downs + ups) < sum(one.numel() for one in frozen):
                frozen = []
        self.copied = bool(frozen)
        # In half precision the sum would be rounded to fewer digits than its terms have.
        exact = all(one.dtype is dtype is torch.float32 for one in frozen)
        self.mergeable = alike and self.copied and exact
        self.ranks = [len(up) for up in ups]
        self.widths = [*(matrix.shape[1] for matrix in frozen), sum(self.ranks)]
        self.matrix = torch.cat([matrix.to(dtype) for matrix in [*frozen, *downs]], 1)
        self.bias = None
        if self.copied and any(base.bias is not None for base in bases):
            zeros = [self.matrix.new_zeros(width) for width in self.widths]
            given = [cast(Tensor | None, base.bias) for base in bases]
            parts = [zero if one is None else one.to(dtype) for zero, one in zip(zeros, given, strict=False)]
            self.bias = torch.cat([*parts, zeros[-1]])
        self.ups = [up.to(dtype) for up in ups]

    def _merge(self) -> None:
        """Adds the experts to the copies of the frozen weights."""
        *frozen, downs = self.matrix.split(self.widths, 1)
        each = zip(frozen, downs.split(self.ranks, 1), self.ups, strict=True)
        self.matrix = torch.cat([torch.addmm(weight, down, up) for weight, down, up in each], 1)
        self.widths = self.widths[:-1]
        if self.bias is not None:
            self.bias = self.bias[: self.matrix.shape[1]]
        self.ups, self.mergeable = [], False


def _added(out: Tensor, hidden: Tensor, up: Tensor) -> Tensor:
    """Adds the product of hidden values (B, R) and B (R, D_out) to an output (B, D_out)."""
    if out.dtype is not up.dtype:  # addmm wants one dtype
        return out + (hidden @ up).to(out.dtype)
    return torch.addmm(out, hidden, up)
