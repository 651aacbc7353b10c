"""Base of metrics that need all samples at once: gathers records across ranks as bytes."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from octavius.instruction.sample import References
from octavius.metrics.pairs import Tokens, caption_tokens


class Records(Metric):
    """A metric that is computed from the records of all samples, which are gathered across ranks.

    A record is any JSON value. The state holds bytes, one line of JSON per record, since torchmetrics
    syncs only tensors, and because integer tensors survive a change of precision such as `.to(torch.float16)`.

    Attributes:
        state: name of the state. A MetricCollection puts in one compute group metrics whose states have equal
            names and content, so the name says what the records hold.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, state: str) -> None:
        """Starts without records."""
        super().__init__()
        self.state = state
        self.add_state(state, [], dist_reduce_fx="cat")

    def keep(self, records: Iterable[object]) -> None:
        """Adds records."""
        getattr(self, self.state).append(
            self._bytes("".join(json.dumps(record) + "\n" for record in records))
        )

    def kept(self) -> list[Any]:
        """All records: rank by rank, each in the order of its updates."""
        held = getattr(self, self.state)
        packed = dim_zero_cat(held) if len(held) else self._bytes("")
        return [json.loads(line) for line in packed.cpu().numpy().tobytes().decode("ascii").splitlines()]

    def sync(
        self,
        dist_sync_fn: Callable[..., object] | None = None,
        process_group: object | None = None,
        should_sync: bool = True,
        distributed_available: Callable[..., bool] | None = None,
    ) -> None:
        """Gathers the records of all ranks.

        For a rank without samples torchmetrics would send an empty float tensor, and tensors of two dtypes
        cannot be gathered; so an empty byte tensor is added first.
        """
        if not len(getattr(self, self.state)):
            setattr(self, self.state, [self._bytes("")])
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def _bytes(self, text: str) -> Tensor:
        data = np.array(bytearray(text.encode("ascii")), dtype=np.uint8)
        return torch.from_numpy(data).to(self.device)

    def _scores(self, values: dict[str, float]) -> dict[str, Tensor]:
        return {
            key: torch.tensor(value, dtype=torch.float32, device=self.device) for key, value in values.items()
        }


class CaptionRecords(Records):
    """A metric that needs all predicted texts and their references at once."""

    def __init__(self, tokenize: bool = True) -> None:
        """Takes raw texts, or with `tokenize=False` texts whose tokens are separated by spaces."""
        super().__init__("captions")
        self.tokenize = tokenize

    def update(self, predictions: Sequence[str | None], golds: Sequence[References]) -> None:
        """Adds one text, or None, per gold."""
        self.keep(caption_tokens(predictions, golds, self.tokenize))

    def pairs(self) -> list[tuple[Tokens, list[Tokens]]]:
        """The tokens of each predicted text and of each of its references."""
        return [(candidate, references) for candidate, references in self.kept()]


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean, independent of the order; nan for an empty sequence, since nothing was measured.

    >>> mean([0.5, 1.0])
    0.75
    """
    return math.fsum(values) / len(values) if values else math.nan
