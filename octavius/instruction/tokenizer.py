"""Thin wrapper of a Hugging Face tokenizer that neither adds special tokens nor reads them from data."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase


class Tokenizer:
    """Encodes and decodes plain text; names of special tokens in data sets are encoded as ordinary text."""

    def __init__(self, backend: PreTrainedTokenizerBase, eos_id: int | None = None) -> None:
        """Wraps the tokenizer of the decoder.

        Args:
            backend: the tokenizer.
            eos_id: id of the token that ends an answer; None takes the eos token.

        Raises:
            ValueError: it has no eos token, so an answer could never end.
        """
        eos_id = backend.eos_token_id if eos_id is None else eos_id
        if eos_id is None:
            raise ValueError(
                f"the tokenizer {backend.name_or_path!r} has no eos token, which ends every answer. "
                "Set eos_token in its tokenizer_config.json"
            )
        self.backend = backend
        self.eos_id = int(eos_id)
        self.bos_id = None if backend.bos_token_id is None else int(backend.bos_token_id)
        self.pad_id = self.eos_id if backend.pad_token_id is None else int(backend.pad_token_id)
        self._encode = lru_cache(maxsize=8192)(self._look_up)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids of a text, without additions; cached, because the parts of prompts repeat.

        Args:
            text: any text.
            special: recognize special tokens by name. For the fixed text of a template only: a question that
                contains `</s>` must not end anything.
        """
        return list(self._encode(text, special))

    def _look_up(self, text: str, special: bool) -> tuple[int, ...]:
        return tuple(self.backend(text, add_special_tokens=False, split_special_tokens=not special).input_ids)

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[PreTrainedTokenizerBase, int]]:
        """Pickles without the cache."""
        return Tokenizer, (self.backend, self.eos_id)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids up to the first eos token, stripped."""
        kept = list(ids)
        if self.eos_id in kept:
            kept = kept[: kept.index(self.eos_id)]
        return str(self.backend.decode(kept, skip_special_tokens=True)).strip()


def load_tokenizer(name: str | Path) -> Tokenizer:
    """Loads the tokenizer of a hub id, a local folder, or a GGUF file."""
    path = Path(name)
    if path.suffix == ".gguf":
        return Tokenizer(AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name))
    return Tokenizer(AutoTokenizer.from_pretrained(str(name)))
