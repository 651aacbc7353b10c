"""What gates chose in a batch comes in, losses that spread or sharpen their choices go out.

Each looks at the batch as a whole: none is a mean over samples, so that a step made of several micro-batches or
processes has the mean of theirs and not that of one large batch.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from octavius.lora_moe.gates.base import Choice

LossName: TypeAlias = Literal["cv", "switch", "certainty_balance"]


def squared_cv(weights: Tensor, probabilities: Tensor) -> Tensor:  # noqa: ARG001
    """Squared coefficient of variation of the experts' importance, the paper's equation (2).

    The importance of an expert is the sum of its weights over the batch (Shazeer et al., 2017); 0 when all have the
    same. It acts on the weights after the cut, so that an expert that nobody chose gets no gradient from it.

    Args:
        weights: of N samples or tokens, (N, E).
        probabilities: not read.
    """
    importance = weights.sum(0)
    return importance.var(correction=0) / importance.mean().square()


def switch(weights: Tensor, probabilities: Tensor) -> Tensor:
    """E times the sum over experts of the share of choices and the mean probability: 1 when all are alike.

    Equations (4) to (6) of Switch Transformers (Fedus et al., 2022); with more than one expert kept each of them
    counts as a choice. Only the probabilities have a gradient.

    Args:
        weights: of N samples or tokens, (N, E).
        probabilities: the softmax before the cut, (N, E).
    """
    chosen = (weights > 0).to(probabilities.dtype).sum(0)
    share = (chosen / chosen.sum()).detach()
    return weights.shape[1] * (share * probabilities.mean(0)).sum()


def certainty_balance(weights: Tensor, probabilities: Tensor) -> Tensor:  # noqa: ARG001
    """Mean entropy of the choices less the entropy of the mean choice, in nats: from 0 down to -log E.

    Low when each sample is certain of its experts and the batch as a whole uses all of them: minus the generalised
    Jensen-Shannon divergence of the choices, after HMoRA (Liao et al., ICLR 2025), without its clamps.

    Args:
        weights: not read.
        probabilities: of N samples or tokens, before the cut, (N, E).
    """
    return _entropy(probabilities).mean() - _entropy(probabilities.mean(0))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cv": squared_cv,
    "switch": switch,
    "certainty_balance": certainty_balance,
}
"""Auxiliary losses by the name in a configuration."""


def auxiliary(names: Iterable[str], choices: Sequence[Choice], mask: Tensor) -> Tensor:
    """The losses of a batch, each the mean over the gates; an always-on expert has no part in them.

    Args:
        names: of the losses.
        choices: what each gate chose: (B, E) or, where tokens choose, (B, T, E).
        mask: 1 at real tokens, (B, T).

    Returns:
        One value for each name, (K,).
    """
    values = []
    for choice in choices:
        real = mask.bool() if choice.weights.dim() == 3 else slice(None)
        probabilities = choice.probabilities[real]
        weights = choice.weights[real][:, : probabilities.shape[1]]
        values.append(torch.stack([LOSSES[name](weights, probabilities) for name in names]))
    return torch.stack(values).mean(0)


def _entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats of distributions (..., E)."""
    # At exactly 0 the gradient of the entropy is infinite.
    return torch.special.entr(probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny)).sum(-1)
