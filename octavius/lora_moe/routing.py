"""The gate weights of one pass come in once, every LoRA-MoE layer of the model reads them out."""

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from torch import Tensor


class Routing:
    """The one shared holder of this pass's gate weights, (B, E).

    A plain attribute, not a thread-local one: on a GPU the backward pass, and with it the recomputation of
    checkpointed layers, runs in a thread of autograd.
    """

    def __init__(self) -> None:
        """Starts unset."""
        self._weights: Tensor | None = None

    def __repr__(self) -> str:
        """`Routing(unset)`, or the shape that is held."""
        return f"Routing({'unset' if self._weights is None else tuple(self._weights.shape)})"

    def __getstate__(self) -> dict[str, None]:
        """Copies and pickles are unset: weights belong to one pass, and their graph cannot be copied."""
        return {"_weights": None}

    @property
    def weights(self) -> Tensor:
        """The weights of this pass, (B, E).

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

    def set(self, weights: Tensor) -> None:
        """Holds weights (B, E) until they are replaced or cleared."""
        self._weights = _checked(weights)

    def clear(self) -> None:
        """Forgets the weights."""
        self._weights = None

    def use(self, weights: Tensor) -> AbstractContextManager[None]:
        """A context in which weights (B, E) are held; on leaving, what was held before comes back."""
        return _Held(self, _checked(weights))

    def for_rows(self, rows: int) -> Tensor:
        """The weights for a batch of so many rows, (rows, E).

        As many rows as samples take the weights as they are. A multiple of them repeats each sample's weights
        in place, the order in which beam search expands a batch.

        Args:
            rows: length of the first dimension of a layer's input.
        """
        weights = self.weights
        samples = weights.shape[0]
        if rows == samples:
            return weights
        if rows % samples != 0:
            raise ValueError(
                f"gate weights are set for {samples} samples, but a LoRA-MoE layer got {rows} rows: expected "
                f"{samples}, or a multiple of it (beam search); set the weights of this very batch"
            )
        return weights.repeat_interleave(rows // samples, dim=0)

    def checkpoint_context(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """A `context_fn` for `torch.utils.checkpoint(..., use_reentrant=False)`.

        It is called when a checkpointed layer runs forward. The second context brings the weights of that
        moment back whenever backward re-runs the layer, however many passes with other weights came between.
        Leave it out under `torch.compile`, which refuses it and keeps the weights in its graph by itself.

        Returns:
            The contexts of the forward pass and of the recomputation.
        """
        return nullcontext(), _Held(self, self._weights)


class _Held:
    """A context with given weights in a routing; may be entered again, as a second backward does."""

    def __init__(self, routing: Routing, weights: Tensor | None) -> None:
        self._routing = routing
        self._weights = weights
        self._previous: list[Tensor | None] = []

    def __enter__(self) -> None:
        self._previous.append(self._routing._weights)
        self._routing._weights = self._weights

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._routing._weights = self._previous.pop()


def _checked(weights: Tensor) -> Tensor:
    """The weights, refused when they are not a table of samples by experts."""
    if weights.dim() != 2 or weights.shape[0] == 0 or not weights.is_floating_point():
        raise ValueError(
            f"gate weights must be floating point of shape (samples, experts), found {weights.dtype} "
            f"of shape {tuple(weights.shape)}; take them from an InstanceGate"
        )
    return weights
