"""The holder through which the LoRA-MoE layers of a model get the gate weights of the current pass.

The language model has no argument for gate weights, so they cannot be handed down to its linear layers as inputs.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from octavius.lora_moe.gates.base import GateOutput

Weights: TypeAlias = Tensor | Sequence[Tensor]
"""Gate weights of a pass: (B, E), or (B, T, E) where each token has its own; or one such tensor per part."""


class _Table(NamedTuple):
    """Gate weights of a pass, and an upper bound on the non-zero ones per row."""

    weights: Tensor
    max_active: int


class Routing:
    """Gate weights of the current pass, (B, E) or (B, T, E), shared by all LoRA-MoE layers of a model.

    If layers take different weights, the routing has parts: each is a `Routing` that some layers read (those of one
    depth, or a single one), and is set and restored together with the whole. A layer with a gate of its own
    needs no weights to be set; it records the decision of its gate in its part.
    """

    def __init__(self) -> None:
        """Starts without weights and without parts."""
        # A plain attribute, not a thread-local one: on a GPU, backward, and with it the recomputation of checkpointed
        # layers, runs in a thread of autograd.
        self._table: _Table | None = None
        self._parts: list[Routing] = []
        self._noted: GateOutput | None = None
        self._keeps = False

    def __repr__(self) -> str:
        """`Routing(unset)`, or the shapes of the weights."""
        held = [tuple(table.weights.shape) for table in self._state() if table is not None]
        return f"Routing({', '.join(map(str, held)) or 'unset'})"

    def __getstate__(self) -> dict[str, object]:
        """Drops the weights from copies and pickles: they belong to one pass, and their graph cannot be copied."""
        return {"_table": None, "_parts": self._parts, "_noted": None, "_keeps": False}

    def part(self) -> "Routing":
        """Adds and returns a part, for layers with weights of their own."""
        self._parts.append(Routing())
        return self._parts[-1]

    @property
    def parts(self) -> "list[Routing]":
        """The parts, in the order in which they were added."""
        return list(self._parts)

    @property
    def weights(self) -> Tensor:
        """The gate weights of the current pass, (B, E) or (B, T, E).

        Raises:
            RuntimeError: no weights are set.
        """
        return self._now().weights

    @property
    def is_set(self) -> bool:
        """Whether weights are set, here or in a part."""
        return any(table is not None for table in self._state())

    @property
    def max_active(self) -> int:
        """Upper bound on the experts that have to be computed for a row: backends may skip the others.

        Skipped experts have weights of exactly zero, and these weights need no gradient.

        Raises:
            RuntimeError: no weights are set.
        """
        return self._now().max_active

    def _now(self) -> _Table:
        """The current weights and bound, or an error that says how to set them."""
        if self._table is None:
            raise RuntimeError(
                "a LoRA-MoE layer was called while no gate weights are set: expected weights of shape "
                "(samples, experts); call the model inside `with routing.use(weights):`, or after "
                "`routing.set(weights)`, and with activation checkpointing also pass "
                "`context_fn=routing.checkpoint_context`"
            )
        return self._table

    def set(self, weights: Weights, max_active: int | None = None) -> None:
        """Sets the weights until they are replaced or cleared.

        Args:
            weights: one tensor for all parts, or one per part.
            max_active: upper bound on the non-zero weights of a row, such as `Gate.max_active`, if the zeros need no
                gradient: layers may then skip those experts. Without it, weights that require no gradient are
                counted (set them again after changing them in place); of weights that require one, no expert is
                skipped.

        Raises:
            ValueError: the weights have a wrong shape or dtype, or more than `max_active` of a row are non-zero
                (checked on the CPU alone, since reading values from a GPU would synchronise).
        """
        self._restore(self._checked(weights, max_active))

    def use(self, weights: Weights, max_active: int | None = None) -> AbstractContextManager[None]:
        """Context manager that sets weights, as `set` does, and restores the previous ones on exit."""
        return _Held(self, self._checked(weights, max_active))

    def for_rows(self, rows: int, tokens: int | None = None) -> Tensor:
        """The weights for an input of a layer, (rows, E) or (rows, tokens, E).

        If the input has a multiple of the samples' rows, each sample's weights are repeated consecutively, the order
        in which beam search expands a batch. Weights (B, E) fit any number of tokens, as in generation with a KV
        cache; weights per token fit only the tokens that they were set for.

        Args:
            rows: size of the first dimension of the input.
            tokens: size of its second dimension; None if it has only one beside the features.

        Raises:
            RuntimeError: no weights are set.
            ValueError: they are set for another number of rows or tokens.
        """
        weights = self.weights
        if weights.dim() == 3 and tokens is None and rows == weights.shape[0] * weights.shape[1]:
            return weights.flatten(0, 1)  # the layer is called on flattened tokens (B * T, D)
        samples = weights.shape[0]
        if weights.shape[-1] == 1 and (rows, tokens) != weights.shape[:-1] and rows % samples != 0:
            return weights.flatten(0, -2)[:1]  # one expert has the same weight everywhere, so any row serves
        if weights.dim() == 3 and weights.shape[1] != tokens:
            raise ValueError(
                f"gate weights are set for {weights.shape[1]} tokens of each row, but a LoRA-MoE layer got "
                f"{tokens or 'no'} tokens: weights of each token are of one very pass; in generation set one row "
                "of weights for each sample"
            )
        if rows == samples:
            return weights
        if rows % samples != 0:
            raise ValueError(
                f"gate weights are set for {samples} samples, but a LoRA-MoE layer got {rows} rows: expected "
                f"{samples}, or a multiple of it (beam search); set the weights of this very batch"
            )
        return weights.repeat_interleave(rows // samples, dim=0)

    def note(self, choice: GateOutput) -> None:
        """Records the decision of a gate inside a layer, for reports and auxiliary losses."""
        if self._noted is None or not self._keeps:
            self._noted = choice

    def noted(self) -> list[GateOutput]:
        """Decisions of the gates inside layers in the last pass, in the order of the layers."""
        return [part._noted for part in self._parts if part._noted is not None]

    @contextmanager
    def first_pass(self) -> Iterator[None]:
        """Context manager in which only the first pass is recorded: in generation, the one over the prompt."""
        for part in self._parts:
            part._noted, part._keeps = None, True
        try:
            yield
        finally:
            for part in self._parts:
                part._keeps = False

    def checkpoint_context(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """A `context_fn` for `torch.utils.checkpoint(..., use_reentrant=False)`.

        Backward runs a checkpointed layer again, possibly after passes with other weights. The second context
        restores the weights of its forward pass for that. Leave it out under `torch.compile`, which refuses it and
        keeps the weights in its graph by itself.

        Returns:
            The contexts of the forward pass and of the recomputation.
        """
        # torch calls this when the layer runs forward, so `_state` is that of its pass.
        return nullcontext(), _Held(self, self._state())

    def _state(self) -> list[_Table | None]:
        """Weights of the whole and of each part."""
        return [self._table, *(part._table for part in self._parts)]

    def _restore(self, state: Sequence[_Table | None]) -> None:
        """Sets the whole and the parts to a `_state`."""
        self._table = state[0]
        for part, table in zip(self._parts, state[1:], strict=True):
            part._table = table

    def _checked(self, weights: Weights, max_active: int | None) -> list[_Table | None]:
        """Checks weights and turns them into a state: one tensor goes to all parts, a sequence to one each."""
        if isinstance(weights, Tensor):
            return [_table(weights, max_active)] * (1 + len(self._parts))
        if not self._parts or len(weights) != len(self._parts):
            raise ValueError(
                f"gate weights are given for {len(weights)} parts of a model that has {len(self._parts)}: expected "
                "one tensor, or one for each part that the layers were injected with"
            )
        return [None, *(_table(table, max_active) for table in weights)]


class _Held:
    """Context manager that sets a state in a routing; it can be entered again.

    A second backward over the same graph recomputes a checkpointed layer again in the same context object.
    """

    def __init__(self, routing: Routing, state: Sequence[_Table | None]) -> None:
        self._routing = routing
        self._state = state
        # A stack, for nested entries.
        self._previous: list[Sequence[_Table | None]] = []

    def __enter__(self) -> None:
        self._previous.append(self._routing._state())
        self._routing._restore(self._state)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._routing._restore(self._previous.pop())


def _table(weights: Tensor, max_active: int | None) -> _Table:
    """Checks that weights are floating point of shape (B, E) or (B, T, E), and bounds the non-zero ones."""
    if weights.dim() not in (2, 3) or 0 in weights.shape or not weights.is_floating_point():
        raise ValueError(
            f"gate weights must be floating point of shape (samples, experts), found {weights.dtype} "
            f"of shape {tuple(weights.shape)}; take them from an InstanceGate"
        )
    return _Table(weights, _max_active(weights, max_active))


def _max_active(weights: Tensor, given: int | None) -> int:
    """Upper bound on the experts to compute per row: the given one, else the count of non-zero weights.

    Without a given bound all experts count if the weights require a gradient, since zeros may need theirs.
    """
    experts = weights.shape[-1]
    if given is not None and given < 1:
        raise ValueError(f"at least 1 expert is active for each sample, found max_active = {given}")
    most = experts if given is None else min(given, experts)
    # Values can be read from plain tensors only: not from tensor subclasses (such as those of tracing), not on the
    # meta device, and under torch.compile the read would break the graph.
    real = (
        type(weights) in (Tensor, nn.Parameter) and not weights.is_meta and not torch.compiler.is_compiling()
    )
    # A given bound is only checked, which is not worth synchronising with a GPU.
    unread = weights.requires_grad if given is None else weights.device.type != "cpu"
    if experts == 1 or not real or unread:
        return most
    counted = max(1, int((weights != 0).sum(-1).max()))
    if given is not None and counted > given:
        raise ValueError(
            f"max_active is {given}, but {counted} experts of a sample have a weight that is not zero; give the "
            "`max_active` of the gate that made the weights, or none"
        )
    return counted if given is None else most
