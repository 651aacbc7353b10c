"""Checks of a tokenizer of the miniature."""

from collections.abc import Iterable

from transformers import PreTrainedTokenizerFast


def unmerged(tokenizer: PreTrainedTokenizerFast, lines: Iterable[str]) -> list[str]:
    """Pieces of the lines that are not single tokens."""
    backend, known = tokenizer.backend_tokenizer.pre_tokenizer, tokenizer.get_vocab()
    pieces = {piece for line in lines for piece, _ in backend.pre_tokenize_str(line)}
    return sorted(pieces - set(known))
