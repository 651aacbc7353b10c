"""The gate weights of one pass come in once, every LoRA-MoE layer of the model reads them out."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from octavius.lora_moe.gates.base import Choice

Weights: TypeAlias = Tensor | Sequence[Tensor]
"""Gate weights of a pass: (B, E), or (B, T, E) when each token has its own; or such a tensor for each part."""


class _Table(NamedTuple):
    """Weights of a pass, and how many of a row are not zero at most."""

    weights: Tensor
    kept: int


class Routing:
    """The holder of this pass's gate weights, (B, E) or (B, T, E), that all layers share.

    A model whose layers do not all take the same weights has parts: each is a `Routing` that some of its layers
    read (those of one depth, or a single one), and that is set, restored and cleared together with the whole. A
    layer with a gate of its own needs nothing to be set; it notes in its part what that gate chose.

    A plain attribute, not a thread-local one: on a GPU the backward pass, and with it the recomputation of
    checkpointed layers, runs in a thread of autograd.
    """

    def __init__(self) -> None:
        """Starts unset and without parts."""
        self._table: _Table | None = None
        self._parts: list[Routing] = []
        self._noted: Choice | None = None
        self._keeps = False

    def __repr__(self) -> str:
        """`Routing(unset)`, or the shapes that are held."""
        held = [tuple(table.weights.shape) for table in self._state() if table is not None]
        return f"Routing({', '.join(map(str, held)) or 'unset'})"

    def __getstate__(self) -> dict[str, object]:
        """Copies and pickles are unset: weights belong to one pass, and their graph cannot be copied."""
        return {"_table": None, "_parts": self._parts, "_noted": None, "_keeps": False}

    def part(self) -> "Routing":
        """A new part, for layers that take weights of their own."""
        self._parts.append(Routing())
        return self._parts[-1]

    @property
    def parts(self) -> "list[Routing]":
        """The parts, in the order in which they were made."""
        return list(self._parts)

    @property
    def weights(self) -> Tensor:
        """The weights of this pass, (B, E) or (B, T, E).

        Raises:
            RuntimeError: when no weights are set.
        """
        return self._now().weights

    @property
    def is_set(self) -> bool:
        """Whether any weights are held, here or in a part."""
        return any(table is not None for table in self._state())

    @property
    def kept(self) -> int:
        """How many weights of a row are not zero at most, and want a gradient where they ask for one.

        Raises:
            RuntimeError: when no weights are set.
        """
        return self._now().kept

    def _now(self) -> _Table:
        """What is held, or an error that says how to set it."""
        if self._table is None:
            raise RuntimeError(
                "a LoRA-MoE layer was called while no gate weights are set: expected weights of shape "
                "(samples, experts); call the model inside `with routing.use(weights):`, or after "
                "`routing.set(weights)`, and with activation checkpointing also pass "
                "`context_fn=routing.checkpoint_context`"
            )
        return self._table

    def set(self, weights: Weights, kept: int | None = None) -> None:
        """Holds weights until they are replaced or cleared.

        Args:
            weights: one tensor for all parts, or one for each.
            kept: how many weights of a row are not zero at most, as `Gate.kept` has it, where the zeros want no
                gradient: layers may then leave those experts out. Not told, weights that ask for no gradient are
                counted (set them again when they were changed in place), and of others each is taken to want its
                own.

        Raises:
            ValueError: the weights are no table of samples by experts, or are more than `kept` (looked at on the
                CPU alone, where it need not wait).
        """
        self._restore(self._checked(weights, kept))

    def clear(self) -> None:
        """Forgets the weights."""
        self._restore([None] * (1 + len(self._parts)))

    def use(self, weights: Weights, kept: int | None = None) -> AbstractContextManager[None]:
        """A context in which weights are held, as by `set`; on leaving, what was held before comes back."""
        return _Held(self, self._checked(weights, kept))

    def for_rows(self, rows: int, tokens: int | None = None) -> Tensor:
        """The weights for a layer's input of so many rows and tokens, (rows, E) or (rows, tokens, E).

        As many rows as samples take the weights as they are. A multiple of them repeats each sample's weights
        in place, the order in which beam search expands a batch. Weights (B, E) fit any number of tokens, as in
        generation with a cache; weights of each token fit only their own.

        Args:
            rows: length of the first dimension of a layer's input.
            tokens: length of its second dimension; None when it has none.

        Raises:
            RuntimeError: when no weights are set.
            ValueError: they are set for other rows or tokens.
        """
        weights = self.weights
        if weights.dim() == 3 and tokens is None and rows == weights.shape[0] * weights.shape[1]:
            return weights.flatten(0, 1)  # some layers are run on all tokens in one dimension, row by row
        samples = weights.shape[0]
        if weights.shape[-1] == 1 and (rows, tokens) != weights.shape[:-1] and rows % samples != 0:
            return weights.flatten(0, -2)[:1]  # a single expert has the weight 1 everywhere
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

    def note(self, choice: Choice) -> None:
        """Notes what a layer's own gate chose in this pass."""
        if self._noted is None or not self._keeps:
            self._noted = choice

    def noted(self) -> list[Choice]:
        """What the gates of single layers chose in the last pass, in the order of the layers."""
        return [part._noted for part in self._parts if part._noted is not None]

    @contextmanager
    def first_pass(self) -> Iterator[None]:
        """A context in which only the first pass is noted: in generation, the one over the prompt."""
        for part in self._parts:
            part._noted, part._keeps = None, True
        try:
            yield
        finally:
            for part in self._parts:
                part._keeps = False

    def checkpoint_context(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """A `context_fn` for `torch.utils.checkpoint(..., use_reentrant=False)`.

        It is called when a checkpointed layer runs forward. The second context brings the weights of that
        moment back whenever backward re-runs the layer, however many passes with other weights came between.
        Leave it out under `torch.compile`, which refuses it and keeps the weights in its graph by itself.

        Returns:
            The contexts of the forward pass and of the recomputation.
        """
        return nullcontext(), _Held(self, self._state())

    def _state(self) -> list[_Table | None]:
        """What is held here and in each part."""
        return [self._table, *(part._table for part in self._parts)]

    def _restore(self, state: Sequence[_Table | None]) -> None:
        """Holds what a `_state` said."""
        self._table = state[0]
        for part, table in zip(self._parts, state[1:], strict=True):
            part._table = table

    def _checked(self, weights: Weights, kept: int | None) -> list[_Table | None]:
        """The state that weights mean, refused when they are not of samples by experts, or not one a part."""
        if isinstance(weights, Tensor):
            return [_table(weights, kept)] * (1 + len(self._parts))
        if not self._parts or len(weights) != len(self._parts):
            raise ValueError(
                f"gate weights are given for {len(weights)} parts of a model that has {len(self._parts)}: expected "
                "one tensor, or one for each part that the layers were injected with"
            )
        return [None, *(_table(own, kept) for own in weights)]


class _Held:
    """A context with given weights in a routing; may be entered again, as a second backward does."""

    def __init__(self, routing: Routing, state: Sequence[_Table | None]) -> None:
        self._routing = routing
        self._state = state
        self._previous: list[Sequence[_Table | None]] = []

    def __enter__(self) -> None:
        self._previous.append(self._routing._state())
        self._routing._restore(self._state)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._routing._restore(self._previous.pop())


def _table(weights: Tensor, kept: int | None) -> _Table:
    """The weights and how many count, refused when they are not of samples (and tokens) by experts."""
    if weights.dim() not in (2, 3) or 0 in weights.shape or not weights.is_floating_point():
        raise ValueError(
            f"gate weights must be floating point of shape (samples, experts), found {weights.dtype} "
            f"of shape {tuple(weights.shape)}; take them from an InstanceGate"
        )
    return _Table(weights, _kept(weights, kept))


def _kept(weights: Tensor, told: int | None) -> int:
    """How many weights of a row count: as told; else as counted, or all where zeros may want a gradient."""
    experts = weights.shape[-1]
    if told is not None and told < 1:
        raise ValueError(f"at least 1 expert is kept for each sample, found kept = {told}")
    most = experts if told is None else min(told, experts)
    real = (
        type(weights) in (Tensor, nn.Parameter) and not weights.is_meta and not torch.compiler.is_compiling()
    )
    unread = (
        weights.requires_grad if told is None else weights.device.type != "cpu"
    )  # a GPU would be waited for
    if experts == 1 or not real or unread:
        return most
    counted = max(1, int((weights != 0).sum(-1).max()))
    if told is not None and counted > told:
        raise ValueError(
            f"kept = {told} experts are told for each sample, but {counted} have a weight that is not zero; give the "
            "`kept` of the gate that made the weights, or none"
        )
    return counted if told is None else most
