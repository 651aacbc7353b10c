"""A `Batch` comes in, answer losses or answers go out: encoders, projectors, gate and decoder in one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import cast
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavius.decoder import Decoder
from octavius.encoders.base import Encoder
from octavius.instruction.batch import IGNORE, Batch, Processor
from octavius.instruction.prompt import PromptBuilder, Template
from octavius.instruction.sample import Sample
from octavius.lora_moe import InstanceGate, Routing, inject


@dataclass(frozen=True)
class LoRAMoE:
    """The paper's settings of the adapters; one expert is the plain LoRA baseline.

    Attributes:
        experts: LoRA experts in each group.
        rank: of one expert.
        alpha: the update is scaled by alpha / rank.
        dropout: on the experts' inputs.
        top_k: experts that an instance uses.
        targets: names of the linear layers that get a group.
    """

    experts: int = 4
    rank: int = 32
    alpha: float = 32.0
    dropout: float = 0.1
    top_k: int = 2
    targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])


@dataclass
class AnswerLosses:
    """Cross-entropy of every answer token of a batch: M tokens in all.

    Attributes:
        losses: (M,) in nats, float32.
        rows: (M,) the sample that each belongs to.
        gate: (B, E) routing weights; None without experts.
    """

    losses: Tensor
    rows: Tensor
    gate: Tensor | None


class Octavius(nn.Module):
    """The whole model; modalities are keys, so one more encoder needs no change here."""

    def __init__(
        self,
        decoder: Decoder,
        encoders: Mapping[str, Encoder],
        lora: LoRAMoE | None = None,
        normalise_features: bool = False,
    ) -> None:
        """Joins the parts and freezes what tuning leaves alone.

        Args:
            decoder: the language model; frozen when there are experts.
            encoders: modality to its encoder; always frozen.
            lora: the experts; None trains all of the decoder instead.
            normalise_features: bring encoder features to unit scale before the projector.
        """
        super().__init__()
        self.decoder = decoder
        self.encoders = nn.ModuleDict(dict(encoders)).requires_grad_(False)
        self.projectors = nn.ModuleDict(
            {name: encoder.projector(decoder.width, normalise_features) for name, encoder in encoders.items()}
        )
        self.routing = Routing()
        self.gate: InstanceGate | None = None
        self.lora = lora
        if lora is not None:
            inject(decoder, lora.targets, lora.experts, lora.rank, lora.alpha, lora.dropout, self.routing)
            if lora.experts > 1:
                self.gate = InstanceGate(decoder.width, lora.experts, lora.top_k)

    def processor(self, template: Template | None = None, max_tokens: int = 2048) -> Processor:
        """What prepares samples for this very model, in any use."""
        encoders: dict[str, Encoder] = {name: module for name, module in self.encoders.items()}  # type: ignore[misc]
        slots = {name: encoder.num_tokens for name, encoder in encoders.items()}
        prompts = PromptBuilder(self.decoder.tokenizer, slots, template, max_tokens)
        return Processor(prompts, {name: encoder.loader() for name, encoder in encoders.items()})

    def prepare(
        self,
        samples: Callable[[], Iterable[Sample]],
        device: torch.device | str,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Lets each encoder do what it does once for each medium, before any loader is asked for one.

        Args:
            samples: gives all samples that will be used; encoders that have nothing to do ask for none.
            device: where to compute.
            rank: of this process, which does its share of the files: all that is asked of one is done by one.
            world: number of processes.
        """
        for name, module in self.encoders.items():
            media = (sample.media[name] for sample in samples() if name in sample.media)
            share = (item for item in media if crc32(repr((item.path, item.pose)).encode()) % world == rank)
            cast(Encoder, module).prepare(share, device)

    def route(self, batch: Batch) -> Tensor | None:
        """Gate weights (B, E) of the batch's questions; ones for a single expert, None for no experts."""
        if self.lora is None:
            return None
        if self.gate is None:
            return torch.ones(len(batch), 1, device=batch.question_ids.device)
        weights: Tensor = self.gate(self.decoder.embed(batch.question_ids), batch.question_mask)
        return weights

    def embed(self, batch: Batch) -> Tensor:
        """Embeddings (B, T, D) of the prompt with the projected media in their slots.

        Raises:
            ValueError: the number of slots and of media vectors differ.
        """
        embeddings = self.decoder.embed(batch.input_ids)
        for name, module in self.projectors.items():
            if name in batch.media:
                embeddings = self._fill_slots(embeddings, name, batch)
            elif self.training:
                # Every rank must run the same backward, also one whose batch lacks this modality.
                embeddings = embeddings + 0.0 * sum(part.sum() for part in module.parameters())
        return embeddings

    def _fill_slots(self, embeddings: Tensor, name: str, batch: Batch) -> Tensor:
        with torch.no_grad():
            features = self.encoders[name](batch.media[name])
        vectors = self.projectors[name](features).flatten(0, 1)
        slots = batch.slots[name]
        if len(slots) != len(vectors):
            raise ValueError(
                f"the prompts hold {len(slots)} slots for {name}, the encoder gave {len(vectors)} vectors; "
                "prompt builder and encoder must agree on num_tokens"
            )
        return embeddings.index_put((slots[:, 0], slots[:, 1]), vectors.to(embeddings.dtype))

    def forward(self, batch: Batch) -> AnswerLosses:
        """Losses of the answer tokens; logits are made at answer positions only."""
        gate = self.route(batch)
        embeddings = self.embed(batch)
        if gate is not None:
            self.routing.set(gate)
        hidden = self.decoder.hidden(embeddings, batch.attention_mask)
        wanted = batch.labels[:, 1:] != IGNORE
        logits = self.decoder.logits(hidden[:, :-1][wanted]).float()
        losses = F.cross_entropy(logits, batch.labels[:, 1:][wanted], reduction="none")
        return AnswerLosses(losses, wanted.nonzero()[:, 0], gate)

    @torch.no_grad()
    def generate(
        self, batch: Batch, max_new_tokens: int | Sequence[int], **options: object
    ) -> tuple[list[str], Tensor | None]:
        """Answers to a left-padded batch, and the gate weights (B, E) that made them; greedy by default.

        Args:
            batch: prompts without answers.
            max_new_tokens: the longest answer, of all or of each; what shares the batch makes none longer.
            options: of the decoder's `generate`.
        """
        limits = [max_new_tokens] * len(batch) if isinstance(max_new_tokens, int) else list(max_new_tokens)
        gate = self.route(batch)
        embeddings = self.embed(batch)
        with nullcontext() if gate is None else self.routing.use(gate):
            ids = self.decoder.generate(embeddings, batch.attention_mask, max(limits), **options)
        rows = [row[:limit] for row, limit in zip(ids.tolist(), limits, strict=True)]
        return [self.decoder.tokenizer.decode(row) for row in rows], gate

    @torch.no_grad()
    def likelihoods(self, batch: Batch, candidates: Sequence[Sequence[str]]) -> list[list[tuple[float, int]]]:
        """For each sample of a left-padded batch and each candidate answer its log-probability and its tokens.

        Each candidate is run with the gate weights of its own sample, as in generation.
        """
        gate = self.route(batch)

        def hold(rows: Tensor) -> AbstractContextManager[None]:
            return nullcontext() if gate is None else self.routing.use(gate[rows])

        return self.decoder.likelihoods(self.embed(batch), batch.attention_mask, candidates, hold)
