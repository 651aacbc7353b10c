"""The base class of gates, what they may read and what they return; and top-k selection, which most of them use."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from octavius.limits import POSITIVE, PROBABILITY, SIZE

Reading: TypeAlias = Literal["question", "padding", "modality", "media", "task", "token"]
"""What a choice may depend on: the question, the padding of its batch, which modalities a sample has, the mean of its
media vectors, the name of its task, and the inputs of a layer."""


class Choice(NamedTuple):
    """What a gate decided.

    Attributes:
        weights: what the experts' outputs are multiplied by, (..., E), in fp32.
        probabilities: the full softmax over the experts that are chosen between, before the cut, (..., E), or
            (..., E - 1) beside an always-on expert.
    """

    weights: Tensor
    probabilities: Tensor


class Asked(NamedTuple):
    """What a gate may read of a batch.

    Attributes:
        embeddings: word embeddings of the questions, (B, Q, D).
        mask: true (or 1) at real question tokens, (B, Q).
        tasks: name of each sample's task, or `task/group`; only the individual gate reads it.
        modalities: 1 where a sample brings a modality, (B, M).
        media: mean of a sample's projected media vectors, (B, D); zeros without media.
    """

    embeddings: Tensor
    mask: Tensor
    tasks: Sequence[str] | None = None
    modalities: Tensor | None = None
    media: Tensor | None = None


class GateSize(NamedTuple):
    """The model that a gate is made for, as far as a gate has to know it.

    Attributes:
        width: size D of a word embedding; for a gate in a layer, of the layer's input.
        experts: number E of experts; a sequence gives one number for each layer of the language model.
        layers: layers of the language model; 0 where there is no list of equal ones.
        modalities: number M of modalities.
    """

    width: int
    experts: int | Sequence[int]
    layers: int = 0
    modalities: int = 0


class Gate(nn.Module, ABC):
    """What chooses the experts: once for each sample, for all layers or for each layer of the language model.

    A subclass is all that a new gate needs: `lora.gate` names it by `class_path`, and the keyword arguments of its
    constructor are its options there.

    Args:
        size: the model that it is for.
        per_layer: make a choice for each layer of the language model, also where all have the same number of experts.

    Raises:
        ValueError: a number of experts is below 1, or the model has no layers to tell apart.
    """

    reads: tuple[Reading, ...] = ("question",)
    """What the choice depends on. One that depends on the question alone can be exported for a fixed question."""

    in_layers: ClassVar[bool] = False
    """Whether each LoRA-MoE layer has a gate of its own (see `LayerGate`)."""

    fitted_buffers: ClassVar[tuple[str, ...]] = ()
    """Buffers that `fit_questions` makes, so that a checkpoint must hold them; `fitted` is one of them."""

    task_names: Sequence[str] = ()
    """Tasks that have experts of their own, as `task` or `task/group`; of gates that read the task."""

    def __init__(self, size: GateSize, /, per_layer: bool = False) -> None:
        super().__init__()
        experts = size.experts
        if isinstance(experts, int) and per_layer:
            if not size.layers:
                raise ValueError(
                    "the model has no list of equal layers, so that no gate can choose for each of them: leave "
                    "per_layer out"
                )
            experts = [experts] * size.layers
        self.by_depth = not isinstance(experts, int)
        self.counts = (experts,) if isinstance(experts, int) else tuple(experts)
        if min(self.counts, default=0) < 1:
            raise ValueError(f"a gate needs at least 1 expert, found experts = {experts}; 1 is plain LoRA")
        self.size, self.width, self.experts = size, size.width, experts

    @property
    def kept(self) -> int | None:
        """How many weights of a row are not zero at most, the others wanting no gradient; None: not known."""
        return None

    @property
    def lr_factor(self) -> float:
        """What the learning rate is multiplied by for the gate's parameters."""
        return 1.0

    def fit_questions(
        self, questions: Sequence[str], sources: Sequence[int], pool: Callable[[Sequence[str]], Tensor]
    ) -> str:
        """Fits a gate with `fitted_buffers` to the training questions, once, before training.

        Args:
            questions: N training questions.
            sources: index of the training set that each is of.
            pool: makes pooled questions (n, D) of n texts.

        Returns:
            What was done, in a line.
        """
        raise NotImplementedError(f"{type(self).__name__} has nothing to fit")

    def fill_published(self, weight: Tensor) -> None:  # noqa: ARG002
        """Takes the weight (D, E) of the gate in a published checkpoint.

        Raises:
            ValueError: this gate computes something else.
        """
        raise ValueError(
            f"the gate of the file scores plain means of word embeddings, which {type(self).__name__} does not; set "
            "lora.gate: published, as --config published.yaml does"
        )

    @abstractmethod
    def choices(self, asked: Asked) -> list[Choice]:
        """The choice (B, E) for each layer of the language model, or the one that all layers share."""

    def forward(
        self,
        question_embeddings: Tensor,
        question_mask: Tensor,
        tasks: Sequence[str] | None = None,
        modalities: Tensor | None = None,
        media: Tensor | None = None,
    ) -> Tensor | list[Tensor]:
        """The weights of the experts in fp32, (B, E); of a gate for each layer a list of them.

        Args:
            question_embeddings: word embeddings of the questions, (B, Q, D).
            question_mask: true (or 1) at real question tokens, (B, Q).
            tasks: see `Asked`, as for what follows.
            modalities: (B, M).
            media: (B, D).
        """
        found = self.choices(Asked(question_embeddings, question_mask, tasks, modalities, media))
        return [choice.weights for choice in found] if self.by_depth else found[0].weights


class LayerGate(Gate):
    """A gate of a single LoRA-MoE layer, which chooses for each token by the input of that layer.

    `size.width` is the width of that input, and `size.experts` the number of the layer's experts.
    """

    reads: tuple[Reading, ...] = ("token",)
    in_layers: ClassVar[bool] = True

    @abstractmethod
    def choose(self, x: Tensor) -> Choice:
        """The choice for each token of inputs (B, T, D) or (B, D): weights (B, T, E) or (B, E)."""

    def choices(self, asked: Asked) -> list[Choice]:
        """The choice for inputs of the layer that stand in `embeddings`."""
        return [self.choose(asked.embeddings)]

    def forward(self, x: Tensor) -> Choice:  # type: ignore[override]
        """See `choose`."""
        return self.choose(x)


@dataclass(frozen=True)
class Cut:
    """The way from logits to weights of every gate with a softmax.

    The softmax over the experts (divided by a temperature before) is cut to its `top_k` largest entries. What is
    kept is brought to a sum of 1, as in the paper, unless `top_k` is 1: a lone weight of 1 would give the gate no
    gradient, so that the weight is the probability itself, as in Switch Transformers (Fedus et al., 2022,
    equation 2).

    With `universal` the last of the E experts is always on and the gate chooses between the others: the kept
    probabilities stay as they are, and the universal expert gets what is left to 1 (MoCLE, Gou et al., 2023).
    With `top_k` 1 that is weight p for the best expert and 1 - p for the universal one.

    Attributes:
        top_k: how many experts are kept, 1..E; 1..E - 2 beside a universal one, which would have no weight else.
            None keeps all, however many.
        universal: whether the last expert is always on.
        temperature: logits are divided by it; below 1 a gate is more decided.
        jitter: while training, the gate's input is multiplied by uniform noise in 1 - jitter..1 + jitter
            (Switch Transformers), drawn from torch's generator.
    """

    top_k: int | None
    universal: bool = False
    temperature: float = 1.0
    jitter: float = 0.0

    @property
    def kept(self) -> int | None:
        """How many experts have a weight at most; None is all."""
        return None if self.top_k is None else self.top_k + self.universal

    def routed(self, experts: int) -> int:
        """How many of E experts there are to choose between.

        Raises:
            ValueError: the settings do not fit so many experts.
        """
        if experts < 1:
            raise ValueError(f"a gate needs at least 1 expert, found experts = {experts}; 1 is plain LoRA")
        top_k = experts if self.top_k is None else self.top_k
        SIZE.check(top_k=top_k)
        POSITIVE.check(temperature=self.temperature)
        PROBABILITY.check(jitter=self.jitter)
        if top_k > experts:
            raise ValueError(
                f"an instance cannot use more experts than there are: top_k = {top_k}, experts = {experts}; "
                f"lower top_k to {experts} or raise experts"
            )
        if self.universal and top_k > experts - 2:
            raise ValueError(
                f"a universal expert gets what the gate leaves of the weight after top_k = {top_k} of the other "
                f"{experts - 1}: nothing; expected at least top_k + 2 experts, and a gate that cuts"
            )
        return experts - self.universal

    def choose(self, logits: Tensor) -> Choice:
        """The choice by logits (..., E), or (..., E - 1) beside a universal expert."""
        logits = logits / self.temperature
        kept = logits.topk(self.top_k or logits.shape[-1], dim=-1)
        probabilities = logits.softmax(dim=-1)
        if self.top_k != 1 and not self.universal:
            values = kept.values.softmax(dim=-1)  # the full softmax, cut and renormalised
        else:
            values = probabilities.gather(-1, kept.indices)
        weights = torch.zeros_like(logits).scatter(-1, kept.indices, values)
        if self.universal:
            weights = torch.cat([weights, 1 - values.sum(dim=-1, keepdim=True)], dim=-1)
        return Choice(weights, probabilities)

    def noisy(self, inputs: Tensor) -> Tensor:
        """Inputs of a gate with the noise of training."""
        if not self.jitter:
            return inputs
        return inputs * torch.empty_like(inputs).uniform_(1 - self.jitter, 1 + self.jitter)

    def __str__(self) -> str:
        """The settings, for printing the model."""
        text = f"top_k={self.top_k or 'all'}" + (", universal=True" if self.universal else "")
        text += f", temperature={self.temperature:g}" if self.temperature != 1 else ""
        return text + (f", jitter={self.jitter:g}" if self.jitter else "")
