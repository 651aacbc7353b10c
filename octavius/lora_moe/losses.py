"""Auxiliary losses that balance or sharpen the routing of a gate.

Each is a function of the whole batch, not a mean over samples. With gradient accumulation or several processes a step
therefore has the mean over its micro-batches, which differs from the loss of one large batch.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from octavius.lora_moe.gates.base import GateOutput

LossName: TypeAlias = Literal["cv", "switch", "certainty_balance"]


def squared_cv(weights: Tensor, probabilities: Tensor) -> Tensor:  # noqa: ARG001
    """Squared coefficient of variation of the experts' importance, the paper's equation (2).

    The importance of an expert is the sum of its weights over the batch (Shazeer et al., 2017); the loss is 0 when
    all are equal. It is computed on the weights after top-k, so an expert that no sample uses gets no gradient.

    Args:
        weights: gate weights of N samples or tokens, (N, E).
        probabilities: ignored.
    """
    importance = weights.sum(0)
    # The variance over all experts, not an estimate from a sample of them: no correction.
    return importance.var(correction=0) / importance.mean().square()


def switch(weights: Tensor, probabilities: Tensor) -> Tensor:
    """Load balancing loss of Switch Transformers: E times the sum of routed fraction times mean probability.

    Equations (4) to (6) of Fedus et al. (2022); 1 when both are uniform. With top-k above 1 each chosen expert counts
    in the routed fraction. The gradient flows through the probabilities alone.

    Args:
        weights: gate weights of N samples or tokens, (N, E).
        probabilities: softmax before top-k, (N, E).
    """
    chosen = (weights > 0).to(probabilities.dtype).sum(0)
    share = (chosen / chosen.sum()).detach()
    return weights.shape[1] * (share * probabilities.mean(0)).sum()


def certainty_balance(weights: Tensor, probabilities: Tensor) -> Tensor:  # noqa: ARG001
    """Mean entropy of the samples minus the entropy of their mean, in nats, in -log E..0.

    Minus the generalised Jensen-Shannon divergence: low when each sample is certain of its experts and the batch as a
    whole uses all of them. After HMoRA (Liao et al., ICLR 2025), without its clamps.

    Args:
        weights: ignored.
        probabilities: softmax of N samples or tokens before top-k, (N, E).
    """
    return _entropy(probabilities).mean() - _entropy(probabilities.mean(0))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cv": squared_cv,
    "switch": switch,
    "certainty_balance": certainty_balance,
}
"""Auxiliary losses by their name in a configuration."""


def auxiliary(names: Iterable[str], choices: Sequence[GateOutput], mask: Tensor) -> Tensor:
    """Computes the losses of a batch, each averaged over gates; an always-on universal expert is left out.

    Args:
        names: names of the K losses.
        choices: routing decision of each gate, with tensors (B, E), or (B, T, E) from gates per token.
        mask: 1 at real tokens, (B, T).

    Returns:
        The values, (K,).
    """
    values = []
    for choice in choices:
        real = mask.bool() if choice.weights.dim() == 3 else slice(None)
        probabilities = choice.probabilities[real]
        # The universal expert comes last and has no probability.
        weights = choice.weights[real][:, : probabilities.shape[1]]
        values.append(torch.stack([LOSSES[name](weights, probabilities) for name in names]))
    return torch.stack(values).mean(0)


def _entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats of distributions (..., E)."""
    # The gradient of -p log p is infinite at p = 0, which a softmax in fp32 can underflow to.
    return torch.special.entr(probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny)).sum(-1)
