"""Confidence of generated boxes: the mean log-probability of the tokens that spell each box."""

from functools import lru_cache

import torch
from torch import Tensor
from transformers import LogitsProcessor

from octavius.instruction.tokenizer import Tokenizer


class BoxScores(LogitsProcessor):
    """A LogitsProcessor that changes nothing but records token log-probabilities during generation without beams.

    Average precision ranks boxes by these scores. A box, including its label, consists of the tokens after
    the previous `]` up to its own; its score is the mean of their log-probabilities. The last generated token
    is not recorded, since the processor is called before each token.
    """

    def __init__(self) -> None:
        """Starts before the first token."""
        self._ids: Tensor | None = None
        self._last: Tensor | None = None
        self._kept: list[Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Records the log-probability (B,) of the token chosen in the previous step; returns `scores` unchanged."""
        if self._last is not None:
            self._kept.append(self._last.gather(1, input_ids[:, -1:])[:, 0])
        self._ids, self._last = input_ids, scores.float().log_softmax(-1)
        return scores

    def of_row(self, row: int, tokenizer: Tokenizer) -> tuple[float, ...]:
        """The score of each `]` in the answer of one row of the batch."""
        if self._ids is None or not self._kept:
            return ()
        count = len(self._kept)
        ids = self._ids[row, -count:].tolist()
        logs = torch.stack([column[row] for column in self._kept]).tolist()
        found: list[float] = []
        part: list[float] = []
        for token, log in zip(ids, logs, strict=True):
            if token == tokenizer.eos_id:
                break
            part.append(log)
            if closed := brackets(tokenizer, token):
                found += [sum(part) / len(part)] * closed
                part = []
        return tuple(found)


@lru_cache(maxsize=65536)
def brackets(tokenizer: Tokenizer, token: int) -> int:
    """Number of `]` in a token."""
    return str(tokenizer.backend.decode([token])).count("]")
