"""What `generate` of transformers calls at each step of a batch: hands tokens to their rows, and samples for some."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from octavius.lora_moe.routing import Weights
from octavius.serve.rows import Row


class Step(StoppingCriteria):
    """Tells `generate` which rows have ended, as a function of the new token of each."""

    def __init__(self, take: Callable[[list[int]], Sequence[bool]]) -> None:
        """Stores the function.

        Args:
            take: takes the new token of each of the B rows, and returns whether each row has ended.
        """
        self.take = take

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002
        """Whether each row has ended, (B,)."""
        return torch.tensor(self.take(input_ids[:, -1].tolist()), device=input_ids.device)


class Sampling(LogitsProcessor):
    """Leaves one sampled token to rows with a temperature, which greedy decoding then takes.

    Each row has its own temperature and random numbers, so that its answer does not depend on the batch.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        """Stores the B rows."""
        self.rows = rows

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """The logits (B, V)."""
        scores = scores.clone()
        for index, row in enumerate(self.rows):
            if row.question.temperature and not row.done:
                token = row.choose(scores[index])
                scores[index] = -torch.inf
                scores[index, token] = 0.0
        return scores


def stacked(weights: Sequence[Weights | None]) -> Weights | None:
    """Gate weights (B, E) of a batch from those of its rows, (1, E) each; lists by depth stay lists."""
    first = weights[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat(cast(list[Tensor], list(weights)))
    return [torch.cat(parts) for parts in zip(*cast(Sequence[Sequence[Tensor]], weights), strict=True)]
