"""The vocabulary of a tokenizer for GGUF files.

llama.cpp needs it to turn answers into text. Prompts are sent to it as token ids: how a text is split before byte
pairs are merged has a name for each model family in llama.cpp, and is not among what is written here.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from octavius.instruction.tokenizer import Tokenizer

if TYPE_CHECKING:
    from gguf import GGUFWriter


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary of byte pairs.

    Attributes:
        model: `gpt2` for byte-level tokens, `llama` for SentencePiece's.
        tokens: all tokens by id.
        types: the type of each.
        merges: pairs of byte-level tokens in the order in which they are merged.
        eos: id of the end-of-sequence token.
        bos: id of the beginning-of-sequence token, if there is one.
        pad: id of the padding token.
    """

    model: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    eos: int
    bos: int | None
    pad: int

    def add_to(self, writer: "GGUFWriter") -> None:
        """Adds the vocabulary to the metadata of a file."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre("default")
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.model == "gpt2":
            writer.add_token_merges(self.merges)
        else:  # SentencePiece merges by score; ids of such tokenizers are in the order of merges
            writer.add_token_scores([-float(index) for index in range(len(self.tokens))])
            writer.add_add_space_prefix(False)
        writer.add_eos_token_id(self.eos)
        writer.add_pad_token_id(self.pad)
        if self.bos is not None:
            writer.add_bos_token_id(self.bos)
        writer.add_add_bos_token(False)
        writer.add_add_eos_token(False)


def vocabulary_of(tokenizer: Tokenizer, size: int) -> Vocabulary:
    """The vocabulary of a tokenizer.

    Args:
        tokenizer: the tokenizer.
        size: number of word embeddings; ids without a token are filled up.

    Raises:
        ValueError: it is no BPE tokenizer of the package tokenizers, or has more tokens than `size`.
    """
    from gguf import TokenType

    fast = getattr(tokenizer.backend, "backend_tokenizer", None)
    content: dict[str, Any] = {} if fast is None else json.loads(fast.to_str())
    model = content.get("model", {})
    byte_level = "ByteLevel" in json.dumps([content.get("pre_tokenizer"), content.get("decoder")])
    if model.get("type") != "BPE" or not (byte_level or model.get("byte_fallback")):
        raise ValueError(
            f"the tokenizer {type(tokenizer.backend).__name__} cannot be written as GGUF: expected byte pairs (BPE), "
            f"byte-level or with byte fallback, found {model.get('type', 'a tokenizer without tokenizer.json')}"
        )
    vocabulary = {index: token for token, index in tokenizer.backend.get_vocab().items()}
    if max(vocabulary) >= size:
        raise ValueError(
            f"the tokenizer has {max(vocabulary) + 1} tokens, but the language model has {size} word embeddings"
        )
    added = {token["id"]: token["special"] for token in content["added_tokens"]}
    types = []
    for index in range(size):
        if index not in vocabulary:
            kind = TokenType.UNUSED
        elif index in added:
            kind = TokenType.CONTROL if added[index] else TokenType.USER_DEFINED
        elif not byte_level and len(token := vocabulary[index]) == 6 and token.startswith("<0x"):
            kind = TokenType.BYTE
        else:
            kind = TokenType.NORMAL
        types.append(int(kind))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return Vocabulary(
        "gpt2" if byte_level else "llama",
        [vocabulary.get(index, f"[PAD{index}]") for index in range(size)],
        types,
        merges,
        tokenizer.eos_id,
        tokenizer.bos_id,
        tokenizer.pad_id,
    )
