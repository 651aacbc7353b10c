"""What a gate reads comes in, what it chose goes out: the one interface of gates, and the cut of a softmax."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


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


class Gate(nn.Module, ABC):
    """A gate that chooses once for each instance, for all layers or for each depth.

    Args:
        experts: number E of experts; a sequence for each depth of the model, which then has a choice each.
    """

    fitted_buffers: ClassVar[tuple[str, ...]] = ()
    """Buffers that `fit_questions` makes, so that a checkpoint must hold them; `fitted` is one of them."""

    def __init__(self, experts: int | Sequence[int]) -> None:
        super().__init__()
        self.by_depth = not isinstance(experts, int)
        self.counts = (experts,) if isinstance(experts, int) else tuple(experts)
        if min(self.counts, default=0) < 1:
            raise ValueError(f"a gate needs at least 1 expert, found experts = {experts}; 1 is plain LoRA")
        self.experts = experts

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

    @abstractmethod
    def choices(self, asked: Asked) -> list[Choice]:
        """The choice (B, E) for each depth, or the one that all layers share."""

    def forward(
        self,
        question_embeddings: Tensor,
        question_mask: Tensor,
        tasks: Sequence[str] | None = None,
        modalities: Tensor | None = None,
        media: Tensor | None = None,
    ) -> Tensor | list[Tensor]:
        """The weights of the experts in fp32, (B, E); of a gate for each depth a list of them.

        Args:
            question_embeddings: word embeddings of the questions, (B, Q, D).
            question_mask: true (or 1) at real question tokens, (B, Q).
            tasks: see `Asked`, as for what follows.
            modalities: (B, M).
            media: (B, D).
        """
        found = self.choices(Asked(question_embeddings, question_mask, tasks, modalities, media))
        return [choice.weights for choice in found] if self.by_depth else found[0].weights


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
        if top_k < 1:
            raise ValueError(f"a gate keeps at least 1 expert, found top_k = {top_k}; choose 1 to {experts}")
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
        if self.temperature <= 0:
            raise ValueError(
                f"a gate's temperature must be positive, found {self.temperature:g}; 1 changes nothing"
            )
        if not 0 <= self.jitter < 1:
            raise ValueError(f"a gate's jitter is in 0..1 (1 excluded), found {self.jitter:g}; 0 is none")
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
