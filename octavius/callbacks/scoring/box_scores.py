"""The scores of generated tokens come in, one for each `]` of an answer goes out: how sure a model is of a box."""

from functools import lru_cache

import torch
from torch import Tensor
from transformers import LogitsProcessor

from octavius.instruction.tokenizer import Tokenizer


class BoxScores(LogitsProcessor):
    """Watches a greedy generation and changes nothing; average precision ranks boxes by what it notes.

    A box, its label with it, is all tokens after the `]` before it up to its own; its score is the mean of their
    log-probabilities. The last token of a generation is not seen.
    """

    def __init__(self) -> None:
        """Starts before the first token."""
        self._ids: Tensor | None = None
        self._last: Tensor | None = None
        self._kept: list[Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Notes the log-probability (B,) of the token that was taken last."""
        if self._last is not None:
            self._kept.append(self._last.gather(1, input_ids[:, -1:])[:, 0])
        self._ids, self._last = input_ids, scores.float().log_softmax(-1)
        return scores

    def of_row(self, row: int, tokenizer: Tokenizer) -> tuple[float, ...]:
        """The score for each `]` in the answer of one row."""
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
    """How many `]` a token holds."""
    return str(tokenizer.backend.decode([token])).count("]")
