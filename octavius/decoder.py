"""Embeddings come in, hidden states, logits or generated tokens go out: any Hugging Face causal LM."""

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from pathlib import Path
from shutil import which
from typing import Any, Literal, cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, distributed, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AddedToken, AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from octavius.instruction.tokenizer import Tokenizer, load_tokenizer
from octavius.packed_attention import PACKED, note_of, positions_in
from octavius.presets import find_checkpoint

TOGETHER = 64
"""Candidate answers that are scored at once."""


class Decoder(nn.Module):
    """A causal language model behind `embed`, `hidden`, `logits`, `generate`, `likelihoods`, with its tokenizer."""

    def __init__(
        self,
        name: str,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        from_scratch: bool = False,
        attention: str = "sdpa",
        compile: bool = False,
    ) -> None:
        """Loads the model.

        Args:
            name: a hub id, a local folder, a GGUF file, or a bare name under `checkpoints/`.
            dtype: of the weights.
            from_scratch: take only the architecture and tokenizer; weights start at random.
            attention: `sdpa`, `eager` (the fastest on a CPU in bfloat16) or another of transformers.
            compile: train through `torch.compile`, layer by layer; it needs a C++ compiler, without which there is
                a warning and nothing is compiled, and some seconds at the start. Answers are generated without
                it, since their lengths never repeat.

        Raises:
            ValueError: nothing of that name can be loaded.
        """
        super().__init__()
        self.name = name
        place = locate(name)
        options = {"dtype": getattr(torch, dtype), "attn_implementation": attention}
        try:
            self.lm = load_model(place, from_scratch, options)
            self.tokenizer: Tokenizer = load_tokenizer(place)
        except Exception as error:  # transformers, safetensors and gguf raise almost anything on bad files
            raise ValueError(
                f"no language model could be loaded from {name!r}: expected a hub id (with a network or a "
                "filled cache), a folder with config.json, weights and tokenizer, or a .gguf file. "
                f"The loader said: {error}"
            ) from None
        self.attention: str = self.lm.config._attn_implementation  # transformers may know it by another name
        # What a model's authors advise for chat, such as a penalty on repeated words, is not asked for here.
        self.lm.generation_config = GenerationConfig()
        self.compiled = compile and _has_compiler()
        if self.compiled:
            for layer in layers(self.lm):
                layer.compile(dynamic=True)
        self.width = cast(Tensor, self.lm.get_input_embeddings().weight).shape[1]

    def embed(self, ids: Tensor) -> Tensor:
        """Word embeddings (..., D) of ids (...)."""
        return cast(Tensor, self.lm.get_input_embeddings()(ids))

    def hidden(self, embeddings: Tensor, attention_mask: Tensor, segments: Tensor | None = None) -> Tensor:
        """Last hidden states (B, T, D) after the final norm.

        Args:
            embeddings: (B, T, D).
            attention_mask: (B, T), 1 on real tokens.
            segments: (1, N) of packed texts, which of them each token is of: a token sees the earlier ones of its own
                text, and positions count from the beginning of that. A text lies in one piece.

        Raises:
            ValueError: the texts are packed, and the model cannot attend to each alone.
        """
        options: dict[str, Tensor] = {}
        if segments is None:
            self._attend_by(self.attention)
        else:
            self._attend_by(PACKED)
            attention_mask = note_of(segments, attention_mask)
            options["position_ids"] = positions_in(segments)
        states = self.lm.base_model(
            inputs_embeds=embeddings, attention_mask=attention_mask, use_cache=False, **options
        )
        return cast(Tensor, states.last_hidden_state)

    def _attend_by(self, kind: str) -> None:
        """Sets the attention of this pass; it stays, for layers that backward computes again.

        Raises:
            ValueError: it is that of packed texts, which the model cannot have.
        """
        if kind == PACKED and (self.attention not in ("sdpa", "eager") or not self.lm._supports_sdpa):
            raise ValueError(
                "packed batches need the decoder's `attention` to be sdpa or eager, and a model that can have sdpa; "
                f"found {self.attention!r} and {type(self.lm).__name__}; set data.init_args.batching to grouped"
            )
        self.lm.config._attn_implementation = kind

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits (..., V) of hidden states (..., D)."""
        return cast(Tensor, self.lm.get_output_embeddings()(hidden))

    @torch.no_grad()
    def generate(
        self,
        embeddings: Tensor,
        attention_mask: Tensor,
        max_new_tokens: int,
        stop: str = "",
        **options: Any,
    ) -> Tensor:
        """New token ids (B, N) after left-padded embeddings (B, T, D), greedy unless options say more.

        Args:
            embeddings: of the prompts.
            attention_mask: 1 on what is no padding, (B, T).
            max_new_tokens: the longest answer.
            stop: words after which an answer is over, besides the end-of-sequence token; empty for none.
            options: of `transformers`' generate.
        """
        self._attend_by(self.attention)
        settings = {"do_sample": False, "num_beams": 1, **options}
        if stop:
            settings |= {"stop_strings": [stop], "tokenizer": self.tokenizer.backend}
        with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext():
            return cast(
                Tensor,
                self.lm.generate(  # type: ignore[operator]
                    inputs_embeds=embeddings,
                    attention_mask=attention_mask,
                    max_new_tokens=max_new_tokens,
                    pad_token_id=self.tokenizer.pad_id,
                    eos_token_id=self.tokenizer.eos_id,
                    **settings,
                ),
            )

    @torch.no_grad()
    def likelihoods(
        self,
        embeddings: Tensor,
        attention_mask: Tensor,
        candidates: Sequence[Sequence[str]],
        hold: Callable[[Tensor], AbstractContextManager[None]],
    ) -> list[list[tuple[float, int]]]:
        """For each prompt and candidate answer the log-probability of the answer with its end mark, and its tokens.

        The prompts are run once; candidates go on from their cached keys and values, `TOGETHER` at a time. Every
        process makes as many passes as the one with most candidates, for the sake of sharded weights.

        Args:
            embeddings: (B, T, D) left-padded prompts.
            attention_mask: (B, T).
            candidates: of each prompt; none for one that is not to be scored.
            hold: gives the context in which rows (N,) of the batch are run.
        """
        device, tokenizer = embeddings.device, self.tokenizer
        rows = [row for row, texts in enumerate(candidates) for _ in texts]
        ids = [[*tokenizer.encode(f" {text}"), tokenizer.eos_id] for texts in candidates for text in texts]
        passes = most_of_all(-(-len(rows) // TOGETHER), device)
        if not passes:
            return [[] for _ in candidates]
        with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext():
            with hold(torch.arange(len(embeddings), device=device)):
                states, cache = self._cached(embeddings, attention_mask)
            first = self.logits(states[:, -1]).float().log_softmax(-1)
            found = []
            for start in range(0, passes * TOGETHER, TOGETHER):
                # A pass more than this process needs scores nothing at all.
                part = torch.tensor(rows[start : start + TOGETHER] or [0], device=device)
                said = [torch.tensor(one) for one in ids[start : start + TOGETHER] or [[tokenizer.eos_id]]]
                lengths = torch.tensor([len(one) for one in said], device=device)
                padded = pad_sequence(said, batch_first=True, padding_value=tokenizer.pad_id).to(device)
                real = torch.arange(padded.shape[1], device=device) < lengths[:, None]
                mask = torch.cat([attention_mask[part], real.to(attention_mask)], 1)
                with hold(part):
                    states, _ = self._cached(self.embed(padded), mask, rows_of(cache, part))
                logs = torch.cat([first[part, None], self.logits(states[:, :-1]).float().log_softmax(-1)], 1)
                each = logs.gather(2, padded[..., None])[..., 0].masked_fill(~real, 0.0).sum(1)
                found += list(zip(each.tolist(), lengths.tolist(), strict=True))[: len(rows) - start]
        numbered = iter(found)
        return [[next(numbered) for _ in texts] for texts in candidates]

    def _cached(self, embeddings: Tensor, attention_mask: Tensor, cache: Any = None) -> tuple[Tensor, Any]:
        """Hidden states (B, T, D), and the cache with them in it; the mask also covers what the cache holds."""
        self._attend_by(self.attention)
        places = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, -embeddings.shape[1] :]
        known = "position_ids" in inspect.signature(self.lm.base_model.forward).parameters
        out = self.lm.base_model(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=True,
            **({"position_ids": places} if known else {}),
        )
        return out.last_hidden_state, out.past_key_values

    def add_tokens(self, tokens: Sequence[str]) -> None:
        """Makes words tokens of their own, after which all word embeddings and the output layer are trained.

        The published code does so with the tags around media. New rows begin as the mean of the others; a word that
        the tokenizer knows already stays as it is.

        Args:
            tokens: the words, in the order of their ids.
        """
        backend, known = self.tokenizer.backend, len(self.tokenizer.backend)
        backend.add_tokens([AddedToken(word, special=True, normalized=False) for word in tokens])
        self.tokenizer = Tokenizer(backend)
        self.lm.resize_token_embeddings(len(backend), mean_resizing=False)
        tables = [self.lm.get_input_embeddings(), self.lm.get_output_embeddings()]
        for table in tables:
            weight = cast(nn.Parameter, table.weight)
            weight.requires_grad_(True)
            with torch.no_grad():
                weight[known:] = weight[:known].float().mean(0).to(weight.dtype)

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Writes a Hugging Face folder: these weights of `lm` in half precision, configuration, tokenizer."""
        half = {name: tensor.half() for name, tensor in state.items()}
        self.lm.save_pretrained(folder, state_dict=half)
        self.tokenizer.backend.save_pretrained(str(folder))


def rows_of(cache: Any, rows: Tensor) -> Any:
    """A cache with these rows of another one, which stays as it is."""
    found = copy(cache)
    found.layers = [copy(layer) for layer in cache.layers]
    found.batch_select_indices(rows)
    return found


def most_of_all(count: int, device: torch.device) -> int:
    """The largest of the counts of all processes."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return count
    most = torch.tensor(count, device=device)
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    return int(most)


def _has_compiler() -> bool:
    """Whether there is the C++ compiler that `torch.compile` takes; says so when there is none."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    found = which(name) is not None
    if not found:
        rank_zero_warn(
            f"the decoder's setting `compile: true` needs a C++ compiler, and there is no {name!r} here: training "
            "goes on without torch.compile, at about half the speed on a CPU. Install one (Debian: apt install g++), "
            "name yours in the environment variable CXX, or set compile to false"
        )
    return found


def layers(lm: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a Hugging Face causal LM: its longest list of modules.

    Raises:
        ValueError: it has none, so there is nothing to shard or to compile.
    """
    lists: list[list[nn.Module]] = [list(found) for found in lm.modules() if isinstance(found, nn.ModuleList)]
    if not lists:
        raise ValueError(
            f"{type(lm).__name__} has no list of equal layers: use the strategy ddp instead of sharding it, and "
            "leave `compile` off"
        )
    return max(lists, key=len)


def locate(name: str) -> str | Path:
    """A folder or GGUF file here or under `checkpoints/`; any other name is left to the hub."""
    if Path(name).exists():
        return Path(name)
    try:
        return find_checkpoint(name)
    except ValueError:
        if name.endswith(".gguf"):
            raise
        return name


def load_model(place: str | Path, from_scratch: bool, options: dict[str, Any]) -> PreTrainedModel:
    """Loads weights, or only the architecture, of a hub id, folder or GGUF file."""
    path = Path(place)
    files = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    source = str(path.parent if files else place)
    if from_scratch:
        config = AutoConfig.from_pretrained(source, **files)
        return cast(PreTrainedModel, AutoModelForCausalLM.from_config(config, **options))
    loaded: Any = AutoModelForCausalLM.from_pretrained(source, output_loading_info=True, **files, **options)
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"weights and configuration do not belong together: {len(missing)} tensors of the configuration "
            f"are not among the weights, the first is {missing[0]}"
        )
    return cast(PreTrainedModel, model)
