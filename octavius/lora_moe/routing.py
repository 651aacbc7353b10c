"""The gate weights of one pass come in once, every LoRA-MoE layer of the model reads them out."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import TypeAlias

from torch import Tensor

from octavius.lora_moe.gates.base import Choice

Weights: TypeAlias = Tensor | Sequence[Tensor]
"""Gate weights of a pass: (B, E), or (B, T, E) when each token has its own; or such a tensor for each part."""


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
        self._weights: Tensor | None = None
        self._parts: list[Routing] = []
        self._noted: Choice | None = None
        self._keeps = False

    def __repr__(self) -> str:
        """`Routing(unset)`, or the shapes that are held."""
        held = [tuple(weights.shape) for weights in self._state() if weights is not None]
        return f"Routing({', '.join(map(str, held)) or 'unset'})"

    def __getstate__(self) -> dict[str, object]:
        """Copies and pickles are unset: weights belong to one pass, and their graph cannot be copied."""
        return {"_weights": None, "_parts": self._parts, "_noted": None, "_keeps": False}

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
        if self._weights is None:
            raise RuntimeError(
                "a LoRA-MoE layer was called while no gate weights are set: expected weights of shape "
                "(samples, experts); call the model inside `with routing.use(weights):`, or after "
                "`routing.set(weights)`, and with activation checkpointing also pass "
                "`context_fn=routing.checkpoint_context`"
            )
        return self._weights

    def set(self, weights: Weights) -> None:
        """Holds weights until they are replaced or cleared: one tensor for all parts, or one for each."""
        self._restore(self._checked(weights))

    def clear(self) -> None:
        """Forgets the weights."""
        self._restore([None] * (1 + len(self._parts)))

    def use(self, weights: Weights) -> AbstractContextManager[None]:
        """A context in which weights are held; on leaving, what was held before comes back."""
        return _Held(self, self._checked(weights))

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
        samples = weights.shape[0]
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

    def _state(self) -> list[Tensor | None]:
        """What is held here and in each part."""
        return [self._weights, *(part._weights for part in self._parts)]

    def _restore(self, state: Sequence[Tensor | None]) -> None:
        """Holds what a `_state` said."""
        self._weights = state[0]
        for part, weights in zip(self._parts, state[1:], strict=True):
            part._weights = weights

    def _checked(self, weights: Weights) -> list[Tensor | None]:
        """The state that weights mean, refused when they are not of samples by experts, or not one a part."""
        if isinstance(weights, Tensor):
            return [_table(weights)] * (1 + len(self._parts))
        if not self._parts or len(weights) != len(self._parts):
            raise ValueError(
                f"gate weights are given for {len(weights)} parts of a model that has {len(self._parts)}: expected "
                "one tensor, or one for each part that the layers were injected with"
            )
        return [None, *(_table(own) for own in weights)]


class _Held:
    """A context with given weights in a routing; may be entered again, as a second backward does."""

    def __init__(self, routing: Routing, state: Sequence[Tensor | None]) -> None:
        self._routing = routing
        self._state = state
        self._previous: list[Sequence[Tensor | None]] = []

    def __enter__(self) -> None:
        self._previous.append(self._routing._state())
        self._routing._restore(self._state)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._routing._restore(self._previous.pop())


def _table(weights: Tensor) -> Tensor:
    """The weights, refused when they are not a table of samples, or samples and tokens, by experts."""
    if weights.dim() not in (2, 3) or 0 in weights.shape or not weights.is_floating_point():
        raise ValueError(
            f"gate weights must be floating point of shape (samples, experts), found {weights.dtype} "
            f"of shape {tuple(weights.shape)}; take them from an InstanceGate"
        )
    return weights
