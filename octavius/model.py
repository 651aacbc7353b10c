"""The multimodal model: frozen encoders, projectors, gate and a causal LM with LoRA-MoE layers.

The model knows no modality by name: encoders and projectors are dicts keyed by modality. Gate weights are
computed once per sample and reach the LoRA-MoE layers through one shared `Routing` object.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, cast, get_args
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavius.decoder.decoder import Decoder
from octavius.encoders.base import Encoder, UnreadableMediaError, tags_of
from octavius.instruction.batch import IGNORE_INDEX, Batch, Processor
from octavius.instruction.chat import chat_template
from octavius.instruction.prompt import Template
from octavius.instruction.sample import Sample
from octavius.lora_moe import LoRAMoEConfig, Routing, build_lora_moe
from octavius.lora_moe.fixed import fixed_routing
from octavius.lora_moe.gates.base import Gate, GateInputs, GateOutput, Reading
from octavius.lora_moe.losses import auxiliary
from octavius.lora_moe.routing import Weights
from octavius.published.prompts import prompt_builder
from octavius.suggestions import nearest
from octavius.tasks import TASKS

# What a gate can read where the decoder embeds the images itself.
WORDS: tuple[Reading, ...] = ("question", "padding", "task", "token")


@dataclass
class AnswerLosses:
    """Cross-entropy of every answer token of a batch, M tokens in all.

    Attributes:
        losses: (M,) in nats, float32.
        rows: (M,) index in the batch of the sample that each token belongs to.
        gate: (B, E) gate weights for logging, averaged over layers and tokens where these have their own;
            None without experts.
        auxiliary: (K,) the auxiliary losses of the gate, in the order of `LoRAMoEConfig.losses`.
    """

    losses: Tensor
    rows: Tensor
    gate: Tensor | None
    auxiliary: Tensor


class Start(NamedTuple):
    """What the generation of a batch starts from.

    Attributes:
        embeddings: (B, T, D) the prompts with their media, see `Octavius.embed`.
        weights: gate weights in the form that `Routing.use` takes; None if gates inside the layers decide, or
            without experts.
        choices: the gate's decisions that the weights are from; empty if `weights` is None.
    """

    embeddings: Any
    weights: Weights | None
    choices: list[GateOutput]


class Octavius(nn.Module):
    """Embeds the prompts, fills their slots with projected media and runs the decoder.

    A new modality needs an encoder and a key in the configuration, no change here.
    """

    def __init__(
        self,
        decoder: Decoder,
        encoders: Mapping[str, Encoder],
        lora: LoRAMoEConfig | None = None,
        normalise_features: bool = False,
    ) -> None:
        """Joins the parts and freezes everything that is not tuned.

        Args:
            decoder: the language model; frozen if there are experts.
            encoders: modality to its encoder; always frozen.
            lora: the experts; None trains the whole decoder instead.
            normalise_features: normalise each encoder feature vector to mean 0 and variance 1 before the
                projector; the paper does not.
        """
        super().__init__()
        decoder.check_encoders([*encoders])
        self.decoder = decoder
        self.encoders = nn.ModuleDict(dict(encoders)).requires_grad_(False)
        self.projectors = nn.ModuleDict(
            {name: encoder.projector(decoder.width, normalise_features) for name, encoder in encoders.items()}
        )
        self.routing = Routing()
        self.gate: Gate | None = None
        self.lora = lora
        if lora is not None:
            given = get_args(Reading) if decoder.takes_vectors else WORDS
            parts = decoder.tuned, lora, decoder.width, self.routing
            self.gate = build_lora_moe(*parts, len(self.projectors), decoder.layouts, given)
            names = () if self.gate is None else self.gate.task_names
            if unknown := sorted({name.partition("/")[0] for name in names} - set(TASKS)):
                raise ValueError(
                    f"the gate's `tasks` name {unknown}{nearest(unknown[0], TASKS)}"
                    f"; tasks are {', '.join(TASKS)}"
                )

    def processor(
        self,
        template: Template | Literal["chat"] | None = None,
        max_tokens: int = 2048,
        generation_template: Template | None = None,
    ) -> Processor:
        """The processor that prepares samples for this model, in training and in use.

        Args:
            template: the prompt template; `chat` derives it from the tokenizer's own chat template.
            max_tokens: length limit of a prompt with its answer.
            generation_template: the template of prompts whose answer is to be generated; None takes `template`.
        """
        if (own := self.decoder.own_processor(max_tokens, template, generation_template)) is not None:
            return own
        template = chat_template(self.decoder.tokenizer) if template == "chat" else template
        encoders: dict[str, Encoder] = {name: module for name, module in self.encoders.items()}  # type: ignore[misc]
        slots = {name: encoder.num_tokens for name, encoder in encoders.items()}
        prompts = prompt_builder(
            self.decoder.tokenizer, slots, template, max_tokens, generation_template, tags_of(encoders)
        )
        return Processor(prompts, {name: encoder.loader() for name, encoder in encoders.items()})

    def prepare(
        self,
        samples: Callable[[], Iterable[Sample]],
        device: torch.device | str,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Lets each encoder precompute what it needs once per file, before any data is loaded.

        Args:
            samples: gives all samples that will be used; only called for encoders that precompute.
            device: where to compute.
            rank: index of this process. The files are divided among the ranks by a hash of path and pose, so
                that each is handled by exactly one.
            world: number of processes.
        """
        try:
            self.decoder.check_samples(samples)
        except ValueError as error:
            raise UnreadableMediaError(str(error)) from None
        for name, module in self.encoders.items():
            media = (item for sample in samples() for kind, item in sample.all_media if kind == name)
            share = (item for item in media if crc32(repr((item.path, item.pose)).encode()) % world == rank)
            cast(Encoder, module).prepare(share, device)

    def route(self, batch: Batch, embeddings: Any = None) -> Weights | None:
        """Gate weights (B, E) of the batch, or a list of them for a gate with weights per layer.

        A single expert has weight one. None if nothing is decided here: no experts, or a gate in each layer.

        Args:
            batch: its questions, tasks and media are read, as far as the gate needs them.
            embeddings: `embed(batch)`, if already computed.
        """
        return self._weights(self._choices(batch, embeddings))

    def _choices(self, batch: Batch, embeddings: Any) -> list[GateOutput]:
        """The gate's decisions before the decoder runs, or constant ones for a single expert."""
        if self.gate is not None:
            return self.gate.choices(self._asked(batch, embeddings))
        if self.lora is None or self.lora.experts != 1:
            return []
        ones = torch.ones(len(batch), 1, device=batch.gate_ids.device)
        return [GateOutput(ones, ones)]

    def _weights(self, choices: Sequence[GateOutput]) -> Weights | None:
        """The weights in the form that `Routing.set` takes; None if there are none to set."""
        weights = [choice.weights for choice in choices]
        if self.gate is not None and self.gate.per_layer:
            return weights
        return weights[0] if weights else None

    def _asked(self, batch: Batch, embeddings: Any) -> GateInputs:
        """The inputs of the gate: questions, tasks and, if the gate reads them, the media."""
        question = self.decoder.embed(batch.gate_ids)
        tasks = [f"{sample.task}/{sample.group}" for sample in batch.samples]
        if self.gate is None or not {"modality", "media"} & {*self.gate.reads}:
            return GateInputs(question, batch.gate_mask, tasks)
        embeddings = self.embed(batch) if embeddings is None else embeddings
        sums = embeddings.new_zeros(len(batch), self.decoder.width, dtype=torch.float32)
        counts = sums.new_zeros(len(batch), max(1, len(self.projectors)))
        for column, name in enumerate(self.projectors):
            if name in batch.slots:
                rows, columns = batch.slots[name].unbind(1)
                # The sample of each slot: its row, or in a packed row the segment at its position.
                owners = rows if batch.segment_ids is None else batch.segment_ids[rows, columns]
                sums = sums.index_add(0, owners, embeddings[rows, columns].float())
                counts[:, column] = torch.bincount(owners, minlength=len(batch))
        means = sums / counts.sum(1, keepdim=True).clamp(min=1)
        return GateInputs(question, batch.gate_mask, tasks, (counts > 0).float(), means)

    def embed(self, batch: Batch) -> Any:
        """`Decoder.inputs`: embeddings (B, T, D) of the prompts, with the projected media in their slots.

        Raises:
            ValueError: the number of slots differs from the number of media vectors.
        """
        embeddings = self.decoder.inputs(batch)
        for name, module in self.projectors.items():
            if name in batch.media:
                embeddings = self._fill_slots(embeddings, name, batch)
            elif self.training:
                # Adds zero, so that the projector is part of the backward pass on every rank: gradient reduction
                # would hang if a rank skipped the parameters of a modality that its batch lacks.
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
        """Losses of the answer tokens. Logits are computed at answer positions only, to save memory."""
        embeddings = self.embed(batch)
        choices = self._choices(batch, embeddings)
        weights = self._weights(choices)
        if weights is not None:
            max_active = None if self.gate is None else self.gate.max_active
            # Set without a context: checkpointed layers run again in the backward pass, after this method.
            self.routing.set(spread(weights, batch.segment_ids), max_active)
        wanted = batch.labels[:, 1:] != IGNORE_INDEX
        samples = wanted.nonzero()[:, 0] if batch.segment_ids is None else batch.segment_ids[:, 1:][wanted]
        logits = self.decoder.logits(
            embeddings,
            batch.attention_mask,
            F.pad(wanted, (0, 1)),
            batch.segment_ids,
            partial(self.hold, weights, samples, True),
        )
        losses = F.cross_entropy(logits.float(), batch.labels[:, 1:][wanted], reduction="none")
        choices = choices or self.routing.noted()
        names = () if self.lora is None else self.lora.losses
        extra = auxiliary(names, choices, batch.attention_mask) if names else losses.new_zeros(0)
        gate = mean_gate(choices, batch.attention_mask, batch.segment_ids)
        return AnswerLosses(losses, samples, gate, extra)

    @torch.no_grad()
    def generate(
        self, batch: Batch, max_new_tokens: int | Sequence[int], **options: Any
    ) -> tuple[list[str], Tensor | None]:
        """Generates answers to a left-padded batch, greedily by default.

        Args:
            batch: prompts without answers.
            max_new_tokens: length limit of the answers, one for all or one each; a higher limit of another
                prompt makes no answer longer.
            options: passed on to the decoder's `generate`.

        Returns:
            The texts, and the gate weights (B, E) that were used; None without experts.
        """
        limits = [max_new_tokens] * len(batch) if isinstance(max_new_tokens, int) else list(max_new_tokens)
        embeddings, weights, choices = self.start(batch)
        held = nullcontext() if weights is None else self.routing.use(weights)
        with held, fixed_routing(self.decoder), self.routing.first_pass():
            ids = self.decoder.generate(embeddings, batch.attention_mask, max(limits), **options)
        rows = [row[:limit] for row, limit in zip(ids.tolist(), limits, strict=True)]
        gate = mean_gate(choices or self.routing.noted(), batch.attention_mask)
        return [self.decoder.tokenizer.decode(row) for row in rows], gate

    def start(self, batch: Batch, forced: Sequence[float] | None = None) -> Start:
        """Embeds the prompts of a batch and routes them.

        Args:
            batch: left-padded prompts without answers.
            forced: weights of the E experts that replace the gate's in every row; None asks the gate.

        Raises:
            ValueError: the weights cannot be forced (see `check_forced`).
        """
        embeddings = self.embed(batch)
        if forced is None:
            choices = self._choices(batch, embeddings)
        else:
            self.check_forced(forced)
            row = torch.tensor(forced, dtype=torch.float32, device=batch.gate_ids.device).repeat(
                len(batch), 1
            )
            depths = len(self.gate.counts) if self.gate is not None and self.gate.per_layer else 1
            choices = [GateOutput(row, row)] * depths
        return Start(embeddings, self._weights(choices), choices)

    def check_forced(self, weights: Sequence[float]) -> None:
        """Checks that given weights can replace those of the gate.

        Raises:
            ValueError: there are no experts, gates inside the layers route each token, the layers have different
                numbers of experts, or the number of weights is another than that of the experts.
        """
        if self.lora is None:
            raise ValueError("this model has no experts, so that none can be chosen")
        if self.gate is None and self.lora.experts != 1:
            raise ValueError(
                "in this model gates inside the layers route each token; no weights can replace theirs"
            )
        counts = {1} if self.gate is None else {*self.gate.counts}
        if counts != {len(weights)}:
            wanted = f"{min(counts)} weights" if len(counts) == 1 else "layers with equal numbers of experts"
            raise ValueError(f"expected {wanted}, one for each expert, found {len(weights)} weights")

    @torch.no_grad()
    def likelihoods(self, batch: Batch, candidates: Sequence[Sequence[str]]) -> list[list[tuple[float, int]]]:
        """Log-probability and number of tokens of each candidate answer to each sample of a left-padded batch.

        Each candidate is run with the gate weights of its own sample, as in generation.
        """
        embeddings = self.embed(batch)
        hold = partial(self.hold, self.route(batch, embeddings))
        return self.decoder.likelihoods(embeddings, batch.attention_mask, candidates, hold)

    def hold(
        self, weights: Weights | None, rows: Tensor, tokens: bool = False
    ) -> AbstractContextManager[None]:
        """A context in which the LoRA-MoE layers use the gate weights of the given samples.

        Args:
            weights: of all samples, (B, E), or a list of such tensors by depth.
            rows: (N,) indices of the samples.
            tokens: whether `rows` names the samples of N tokens in one row, as when the output layer runs on
                the wanted positions only.
        """
        if weights is None or (tokens and not isinstance(weights, Tensor)):
            return nullcontext()  # weights by depth: the output layer has no depth, so it has no experts
        selected = weights[rows] if isinstance(weights, Tensor) else [table[rows] for table in weights]
        max_active = None if self.gate is None else self.gate.max_active
        return self.routing.use(cast(Tensor, selected)[None] if tokens else selected, max_active)


def spread(weights: Weights, segment_ids: Tensor | None) -> Weights:
    """Expands gate weights (B, E) of samples to (1, T, E), one per token of the packed row they share.

    Weights by depth are expanded each. Without `segment_ids` the weights are returned as they are.
    """
    if segment_ids is None:
        return weights
    return weights[segment_ids] if isinstance(weights, Tensor) else [part[segment_ids] for part in weights]


def mean_gate(
    choices: Sequence[GateOutput], mask: Tensor, segment_ids: Tensor | None = None
) -> Tensor | None:
    """Gate weights (B, E) for reports: the mean over gates, and over tokens if each has its own weights.

    A layer with fewer experts than others counts as giving the missing ones zero.

    Args:
        choices: the decision of each gate, with weights (B, E) or (B, T, E).
        mask: (B, T) 1 at real tokens.
        segment_ids: (1, T) index of the sample that each token of a packed row belongs to.

    Returns:
        None if there are no decisions.
    """
    if segment_ids is not None:
        choices = [
            GateOutput(*(_by_sample(part, mask, segment_ids) for part in choice)) for choice in choices
        ]
        mask = mask[:1].new_ones(int(segment_ids.max()) + 1, 1)
    share = (mask / mask.sum(1, keepdim=True)).unsqueeze(-1)
    # Beam search repeats each sample for its beams, adjacent in the batch: every n-th row is one per sample.
    weights = [choice.weights[:: max(1, len(choice.weights) // len(mask))] for choice in choices]
    tables = [(table * share).sum(1) if table.dim() == 3 else table for table in weights]
    experts = max((table.shape[1] for table in tables), default=0)
    padded = [F.pad(table, (0, experts - table.shape[1])) for table in tables]
    return torch.stack(padded).mean(0) if padded else None


def _by_sample(table: Tensor, mask: Tensor, segment_ids: Tensor) -> Tensor:
    """Averages a table (1, T, E) of a packed row over the real tokens of each sample, giving (B, E)."""
    if table.dim() < 3:
        return table
    owners = segment_ids[mask.bool()]
    sums = table.new_zeros(int(segment_ids.max()) + 1, table.shape[2]).index_add(
        0, owners, table[mask.bool()]
    )
    return sums / torch.bincount(owners, minlength=len(sums)).unsqueeze(1)
