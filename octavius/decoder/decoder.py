"""Wrapper around a causal language model of Hugging Face with exactly what tuning needs.

Takes any model that passes `octavius.decoder.check`. Logits are computed at the wanted positions only, and
always by the model's own forward method, because some models scale or cap them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from octavius.decoder.check import Capabilities, check_model
from octavius.decoder.image_cost import NO_IMAGE, ImageCost
from octavius.decoder.loading import has_compiler, layers, load_model, locate
from octavius.decoder.packed_attention import PACKED
from octavius.decoder.passes import (
    Around,
    Positions,
    attend_by,
    cached_options,
    log_likelihoods,
    logits_at,
    most_of_all,
    packed_options,
    rows_of,
    without_padding,
)
from octavius.decoder.quantised import Quantised, loading_options
from octavius.decoder.reach import Layout, layouts
from octavius.instruction.batch import Batch, Processor
from octavius.instruction.sample import Sample
from octavius.instruction.tokenizer import Tokenizer, load_tokenizer

TOGETHER = 64
"""Number of candidate answers that are scored in one pass."""

ScorePart: TypeAlias = Callable[[Tensor, list[Tensor]], Tensor]
"""Scores candidates: takes rows (N,) of the batch and the token ids of an answer to each.

Returns the log-probability (N,) of each answer.
"""


class Hold(Protocol):
    """Makes the context in which a selection of the batch's rows is run (it sets their gate weights)."""

    def __call__(self, rows: Tensor, tokens: bool = False) -> AbstractContextManager[None]:
        """The context for rows (N,) of the batch; with `tokens`, for N tokens in one row, each of such a row."""


class Decoder(nn.Module):
    """A causal language model and its tokenizer behind `embed`, `logits`, `generate` and `likelihoods`.

    Attributes:
        capabilities: which uses besides padded batches the model supports: packing, cached candidates.
    """

    capabilities: Capabilities
    takes_vectors: ClassVar[bool] = True
    """Whether vectors of encoders can stand in the prompts."""
    loaders: ClassVar[tuple[str, str]] = ("AutoModelForCausalLM", "AutoTokenizer")
    """Classes of transformers that load model and text preparation."""
    quantise: Quantised | None = None
    """Type of the weights of its linear layers, if they are quantised."""

    def __init__(
        self,
        name: str,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        from_scratch: bool = False,
        attention: str = "sdpa",
        compile: bool = False,
        quantise: Quantised | None = None,
    ) -> None:
        """Loads the model.

        Args:
            name: a hub id, a local folder, a GGUF file, or a bare name under `checkpoints/`.
            dtype: type of the weights.
            from_scratch: take only the architecture and the tokenizer; weights start at random.
            attention: `sdpa`, `eager` (the fastest on a CPU in bfloat16) or another attention implementation
                of transformers.
            compile: train through `torch.compile`, layer by layer, which costs some seconds at the start.
                Needs a C++ compiler; without one there is a warning and nothing is compiled. Generation is
                not compiled, since the lengths of answers never repeat.
            quantise: load the linear layers, except the output layer, in 4 bits (`nf4`) or 8 bits (`int8`) by
                bitsandbytes, for training experts on a model that does not fit in `dtype`.

        Raises:
            ValueError: no model of that name can be loaded, or it fails `octavius.decoder.check`: losses and
                answers would not be those of its own forward method.
        """
        super().__init__()
        self.name, self.quantise = name, quantise
        location = locate(name)
        options = {"dtype": getattr(torch, dtype), "attn_implementation": attention}
        if quantise is not None:
            options |= loading_options(quantise, options["dtype"], str(location), from_scratch)
        try:
            self.lm = load_model(location, from_scratch, options)
            self.tokenizer: Tokenizer = load_tokenizer(location)
            self.ends = [self.tokenizer.eos_id]
        except Exception as error:  # transformers, safetensors and gguf raise almost anything on bad files
            raise ValueError(
                f"no language model could be loaded from {name!r}: expected a hub id (with a network or a "
                "filled cache), a folder with config.json, weights and tokenizer, or a .gguf file. "
                f"The loader said: {error}"
            ) from None
        self.attention: str = self.lm.config._attn_implementation  # transformers may have renamed it
        # Drops the generation defaults that a model ships for chat, such as sampling or a repetition penalty.
        self.lm.generation_config = GenerationConfig()
        try:
            self.capabilities = check_model(self.lm, self.tokenizer, self.attention)
        except ValueError as error:
            raise ValueError(f"the language model {name!r} cannot be used: {error}") from None
        self.compiled = compile and has_compiler()
        if self.compiled:
            for layer in layers(self.lm):
                layer.compile(dynamic=True)
        self.width = cast(Tensor, self.lm.get_input_embeddings().weight).shape[1]

    def layouts(self, modules: Mapping[str, nn.Module]) -> dict[str, Layout]:
        """The tensor layout of the inputs of the given submodules; see `octavius.decoder.reach`."""
        # Two passes over a few tokens, which are not worth the minutes that compiling takes.
        with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext():
            return layouts(self.lm, self.tokenizer, self.attention, modules)

    @property
    def tuned(self) -> nn.Module:
        """The part that is tuned: its linear layers get the experts, or it is trained whole."""
        return self.lm

    def own_processor(self, max_tokens: int, *templates: object) -> Processor | None:  # noqa: ARG002
        """The processor of a model that prepares prompts itself; None if they are written by templates of ours."""
        return None

    def check_encoders(self, names: Sequence[str]) -> None:
        """Raises ValueError if encoders of these modalities cannot be added."""

    def check_samples(self, samples: Callable[[], Iterable[Sample]]) -> None:
        """Raises ValueError if the model can take samples in no case; prompts of ours are checked when built."""

    def image_cost(self, size: tuple[int, int]) -> ImageCost:  # noqa: ARG002
        """What an image of a width and height in pixels takes: nothing here, since encoders turn it into vectors."""
        return NO_IMAGE

    def inputs(self, batch: Batch) -> Any:
        """What `logits`, `generate` and `likelihoods` take as prompts: here the word embeddings (B, T, D)."""
        return self.embed(batch.input_ids)

    def continued(
        self, prompts: Sequence[tuple[Any, Tensor]], said: Sequence[list[int]]
    ) -> tuple[Any, Tensor]:
        """A left-padded batch of prompts with the token ids that were said to each, as `generate` takes it.

        A prompt is what `Octavius.embed` makes of it alone, and the mask (1, T) of that.
        """
        rows, masks = list[Tensor](), list[Tensor]()
        for (embeddings, mask), ids in zip(prompts, said, strict=True):
            [row], [real] = without_padding(embeddings, mask)
            new = torch.tensor(ids, dtype=torch.long, device=mask.device)
            rows.append(torch.cat([row, self.embed(new).to(row)]))
            masks.append(torch.cat([real, torch.ones_like(new)]))
        inputs = pad_sequence(rows, batch_first=True, padding_side="left")
        return inputs, pad_sequence(masks, batch_first=True, padding_side="left")

    def answer_ids(self, text: str) -> list[int]:
        """Token ids of an answer with the token that ends it."""
        return [*self.tokenizer.encode(f" {text}"), self.tokenizer.eos_id]

    def embed(self, ids: Tensor) -> Tensor:
        """Word embeddings (..., D) of ids (...)."""
        return cast(Tensor, self.lm.get_input_embeddings()(ids))

    def logits(
        self,
        embeddings: Tensor,
        attention_mask: Tensor,
        wanted: Positions,
        segment_ids: Tensor | None = None,
        around: Around = nullcontext,
    ) -> Tensor:
        """Vocabulary logits (M, V) at the wanted positions, row by row.

        Args:
            embeddings: (B, T, D).
            attention_mask: (B, T) 1 on real tokens.
            wanted: (B, T) true where logits are wanted, or the rows and columns of these positions.
            segment_ids: (1, N) index of the text that each token of a packed row belongs to; texts are
                contiguous. A token attends to earlier ones of its own text only, and positions count from the
                start of that text.
            around: makes the context in which the output layer runs on the wanted positions alone, (1, M, D).

        Raises:
            ValueError: the texts are packed, but the model cannot keep them apart.
        """
        options: dict[str, Tensor] = {"attention_mask": attention_mask}
        if segment_ids is None:
            attend_by(self.lm, self.attention)
        else:
            self.check_packing(segment_ids)
            attend_by(self.lm, PACKED)
            options = packed_options(segment_ids, attention_mask)
        return logits_at(self.lm, embeddings, wanted, around, use_cache=False, **options)[0]

    def check_packing(self, segment_ids: Tensor | None = None) -> None:
        """Refuses packed batches if texts that share a row would influence each other.

        Args:
            segment_ids: as in `logits`; None checks whether the model supports packing at all.

        Raises:
            ValueError: it does not; the message says why.
        """
        reason, limit = self.capabilities.packing, self.capabilities.longest_packed
        if self.attention not in ("sdpa", "eager") or not self.lm._supports_sdpa:
            reason = (
                "it needs the decoder's `attention` to be sdpa or eager, and a model that can have sdpa; found "
                f"{self.attention!r} and {type(self.lm).__name__}"
            )
        if reason is None and limit is not None and segment_ids is not None:
            longest = int(segment_ids.unique_consecutive(return_counts=True)[1].max())
            if longest > limit:
                reason = (
                    f"a text has {longest} tokens, and {type(self.lm).__name__} does not tell the packed attention "
                    f"of its window of {limit}"
                )
        if reason is not None:
            raise ValueError(f"texts cannot be packed: {reason}; set data.init_args.batching to grouped")

    @torch.no_grad()
    def generate(
        self,
        embeddings: Tensor,
        attention_mask: Tensor,
        max_new_tokens: int,
        stop: str = "",
        **options: Any,
    ) -> Tensor:
        """New token ids (B, N) after left-padded embeddings (B, T, D); greedy unless options say otherwise.

        Args:
            embeddings: (B, T, D) the prompts.
            attention_mask: (B, T) 1 on real tokens.
            max_new_tokens: length limit of an answer.
            stop: stop string besides the end-of-sequence token; empty for none.
            options: passed to `generate` of transformers.
        """
        attend_by(self.lm, self.attention)
        settings = {"do_sample": False, "num_beams": 1, **options}
        # `stop_strings` of transformers need the tokenizer to match strings across token boundaries.
        if stop:
            settings |= {"stop_strings": [stop], "tokenizer": self.tokenizer.backend}
        # Lengths change with every token, and would be compiled again and again.
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
        hold: Hold,
    ) -> list[list[tuple[float, int]]]:
        """Log-probability of each candidate answer with its end-of-sequence token, and its number of tokens.

        The prompts are run once, and candidates continue from the cached keys and values, `TOGETHER` at a
        time. If the model's cache cannot be reused so (see `Capabilities.caching`), each candidate is run behind
        its whole prompt, as in training. All ranks make as many passes as the one with the most candidates,
        since each pass of a sharded model is a collective operation.

        Args:
            embeddings: (B, T, D) left-padded prompts.
            attention_mask: (B, T).
            candidates: candidate answers of each prompt; empty for a prompt that is not scored.
            hold: gives the context in which rows (N,) of the batch, or tokens of such rows, are run.
        """
        device, tokenizer = attention_mask.device, self.tokenizer
        rows = [row for row, texts in enumerate(candidates) for _ in texts]
        ids = [self.answer_ids(text) for texts in candidates for text in texts]
        passes = most_of_all(-(-len(rows) // TOGETHER), device)
        if not passes:
            return [[] for _ in candidates]
        attend_by(self.lm, self.attention)
        score = self._after_cache if self.capabilities.caching else self._after_prompts
        with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext():
            score_part = score(embeddings, attention_mask, hold)
            found: list[tuple[float, int]] = []
            for start in range(0, passes * TOGETHER, TOGETHER):
                # Surplus passes, made for the other ranks, run a dummy whose score is cut off below.
                part = torch.tensor(rows[start : start + TOGETHER] or [0], device=device)
                said = [torch.tensor(one) for one in ids[start : start + TOGETHER] or [[tokenizer.eos_id]]]
                each = score_part(part, said)
                lengths = [len(one) for one in said]
                found += list(zip(each.tolist(), lengths, strict=True))[: len(rows) - start]
        numbered = iter(found)
        return [[next(numbered) for _ in texts] for texts in candidates]

    def _after_cache(self, embeddings: Tensor, attention_mask: Tensor, hold: Hold) -> ScorePart:
        """Runs the prompts; returns a function that scores candidates (N,) from the prompts' cache."""
        device = embeddings.device
        last = torch.zeros_like(attention_mask, dtype=torch.bool)
        last[:, -1] = True
        every = torch.arange(len(embeddings), device=device)
        with hold(every):
            options = cached_options(self.lm, attention_mask, embeddings.shape[1], None)
            around = partial(hold, every, True)
            logits, cache = logits_at(self.lm, embeddings, last, around, **options)
        first = logits.float().log_softmax(-1)

        def score(part: Tensor, said: list[Tensor]) -> Tensor:
            padded, real = self._padded(said, device)
            mask = torch.cat([attention_mask[part], real.to(attention_mask)], 1)
            # Padding as well: with a fixed number of positions per row, the logits can be unflattened below.
            wanted = torch.ones_like(real)
            owners = part[:, None].expand_as(real)[wanted]
            with hold(part):
                options = cached_options(self.lm, mask, padded.shape[1], rows_of(cache, part))
                around = partial(hold, owners, True)
                rest, _ = logits_at(self.lm, self.embed(padded), wanted, around, **options)
            # The first token is predicted by the prompt's last position, each other one by the token before it.
            logs = rest.unflatten(0, padded.shape)[:, :-1].float().log_softmax(-1)
            each = torch.cat([first[part, None], logs], 1).gather(2, padded[..., None])[..., 0]
            return each.masked_fill(~real, 0.0).sum(1)

        return score

    def _after_prompts(self, embeddings: Tensor, attention_mask: Tensor, hold: Hold) -> ScorePart:
        """Returns a function that scores candidates (N,), each behind its whole prompt, padded on the right."""
        device = embeddings.device
        prompts, masks = without_padding(embeddings, attention_mask)

        def score(part: Tensor, said: list[Tensor]) -> Tensor:
            rows = [
                (
                    torch.cat([prompts[row], self.embed(ids.to(device)).to(embeddings)]),
                    masks[row],
                    ids.to(device),
                )
                for row, ids in zip(part.tolist(), said, strict=True)
            ]
            x = pad_sequence([row for row, _, _ in rows], batch_first=True)
            mask = pad_sequence(
                [torch.cat([m, torch.ones_like(ids)]) for _, m, ids in rows], batch_first=True
            )
            wanted = torch.zeros_like(mask, dtype=torch.bool)
            for index, (row, _, ids) in enumerate(rows):
                wanted[index, len(row) - len(ids) - 1 : len(row) - 1] = (
                    True  # logits at t predict token t + 1
                )
            owners = part[:, None].expand_as(mask)[wanted]
            with hold(part):
                around = partial(hold, owners, True)
                logits, _ = logits_at(self.lm, x, wanted, around, attention_mask=mask, use_cache=False)
            each = log_likelihoods(logits, torch.cat([ids for _, _, ids in rows]))
            return torch.stack([one.sum() for one in each.split([len(ids) for _, _, ids in rows])])

        return score

    def _padded(self, said: list[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
        """Token ids (N, T) padded on the right, and a mask (N, T) of the real ones."""
        lengths = torch.tensor([len(one) for one in said], device=device)
        padded = pad_sequence(said, batch_first=True, padding_value=self.tokenizer.pad_id).to(device)
        return padded, torch.arange(padded.shape[1], device=device) < lengths[:, None]

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Writes a Hugging Face folder: the given weights of `lm` in half precision, configuration and tokenizer."""
        half = {name: tensor.half() for name, tensor in state.items()}
        self.lm.save_pretrained(folder, state_dict=half)
        self.save_tokenizer(folder)

    def save_tokenizer(self, folder: Path) -> None:
        """Writes the tokenizer to a folder."""
        self.tokenizer.backend.save_pretrained(str(folder))

    def unfreeze(self) -> None:
        """Lets everything be trained that is without experts, as in a model that was just loaded."""
        self.requires_grad_(True)
