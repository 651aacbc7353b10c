"""The base classes of gates, their inputs and outputs, and the top-k selection that most gates share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from octavius.limits import POSITIVE_NUMBER, PROBABILITY_BELOW_1, SIZE_RANGE

Reading: TypeAlias = Literal["question", "padding", "modality", "media", "task", "token"]
"""Inputs that a gate may depend on: the question, the padding of its batch, which modalities a sample has, the mean
of its media vectors, the name of its task, and (in layers) the input of the layer at each token."""


FittedTo: TypeAlias = Literal["questions", "updates"]
"""What a gate is fitted to before training: the training questions, or the gradients of training samples too."""


class GateOutput(NamedTuple):
    """Output of a gate: its routing decision.

    Attributes:
        weights: factors of the experts' outputs, (..., E), in fp32; zero for experts that are not used.
        probabilities: full softmax before top-k, (..., E), or (..., E - 1) without the always-on universal expert.
    """

    weights: Tensor
    probabilities: Tensor


class GateInputs(NamedTuple):
    """Inputs of a gate for one batch.

    Attributes:
        embeddings: word embeddings of the questions, (B, Q, D).
        mask: true (or 1) at real question tokens, (B, Q).
        tasks: task name of each sample, or `task/group`; only the individual gate reads it.
        modalities: 1 where a sample has a modality, (B, M).
        media: mean of each sample's projected media vectors, (B, D); zeros without media.
    """

    embeddings: Tensor
    mask: Tensor
    tasks: Sequence[str] | None = None
    modalities: Tensor | None = None
    media: Tensor | None = None


class Sketches(NamedTuple):
    """What a gate with `fitted_to = "updates"` is fitted to: random projections of N samples in L adapted layers.

    Attributes:
        updates: gradients with respect to the experts' B, with the true answer minus with another one, (N, L, F, F).
        inputs: mean inputs of the layers, (N, L, F).
    """

    updates: Tensor
    inputs: Tensor


class GateSize(NamedTuple):
    """Sizes of the model that a gate is built for.

    Attributes:
        width: size D of a word embedding, or of the layer's input for a gate inside a layer.
        experts: number E of experts; a sequence has one number per layer of the language model.
        layers: number of layers of the language model; 0 if it has no list of equal ones.
        modalities: number M of modalities.
    """

    width: int
    experts: int | Sequence[int]
    layers: int = 0
    modalities: int = 0


class Gate(nn.Module, ABC):
    """Base class of gates, which route each sample once, for all layers or for each layer of the language model.

    A new gate is a subclass: `lora.gate` names it by `class_path`, and the keyword-only arguments of its constructor
    are its options there.

    Args:
        size: sizes of the model that the gate is for.
        per_layer: whether each layer of the language model gets a routing decision of its own. With numbers of
            experts that vary by layer it always does.

    Raises:
        ValueError: a number of experts is below 1, or `per_layer` is set and the model has no list of layers.
    """

    reads: tuple[Reading, ...] = ("question",)
    """Inputs that the gate depends on. One that reads the question alone can be exported for a fixed question."""

    in_layers: ClassVar[bool] = False
    """Whether there is one gate inside each LoRA-MoE layer (see `LayerGate`)."""

    fitted_to: ClassVar[FittedTo] = "questions"
    """For a gate with `fitted_buffers`: whether `fit_questions` or `fit_updates` is called."""

    fitted_buffers: ClassVar[tuple[str, ...]] = ()
    """Buffers that are filled when the gate is fitted, so that checkpoints hold them; `fitted` must be among them."""

    task_names: Sequence[str] = ()
    """Tasks with experts of their own, as `task` or `task/group`; for gates that read the task."""

    def __init__(self, size: GateSize, /, *, per_layer: bool = False) -> None:
        super().__init__()
        experts = size.experts
        if isinstance(experts, int) and per_layer:
            if not size.layers:
                raise ValueError(
                    "the model has no list of equal layers, so that no gate can choose for each of them: leave "
                    "per_layer out"
                )
            experts = [experts] * size.layers
        self.per_layer = not isinstance(experts, int)
        self.counts = (experts,) if isinstance(experts, int) else tuple(experts)
        if min(self.counts, default=0) < 1:
            raise ValueError(f"a gate needs at least 1 expert, found experts = {experts}; 1 is plain LoRA")
        self.size, self.width, self.experts = size, size.width, experts

    @property
    def max_active(self) -> int | None:
        """Upper bound on the non-zero weights of a row, if the zeros need no gradient; None if there is none."""
        return None

    @property
    def lr_factor(self) -> float:
        """Factor of the learning rate for the parameters of the gate."""
        return 1.0

    def fit_questions(
        self, questions: Sequence[str], sources: Sequence[int], pool: Callable[[Sequence[str]], Tensor]
    ) -> str:
        """Fits a gate with `fitted_buffers` to the training questions, once, before training.

        Args:
            questions: N training questions.
            sources: index of the training set of each question.
            pool: maps n texts to their mean embeddings (n, D), as `pooled` computes them.

        Returns:
            One line for the log that says what was done.
        """
        raise NotImplementedError(f"{type(self).__name__} has nothing to fit")

    def fit_updates(
        self, questions: Sequence[str], sketches: Sketches, pool: Callable[[Sequence[str]], Tensor]
    ) -> str:
        """Fits a gate with `fitted_to = "updates"`, once, before training.

        Args:
            questions: the questions of N training samples.
            sketches: sketches of the updates that the samples ask for.
            pool: maps n texts to their mean embeddings (n, D), as `pooled` computes them.

        Returns:
            One line for the log that says what was done.
        """
        raise NotImplementedError(f"{type(self).__name__} is not fitted to updates")

    @abstractmethod
    def choices(self, asked: GateInputs) -> list[GateOutput]:
        """Routes a batch: one decision (B, E) for all layers, or a list with one per layer of the language model."""

    def forward(
        self,
        question_embeddings: Tensor,
        question_mask: Tensor,
        tasks: Sequence[str] | None = None,
        modalities: Tensor | None = None,
        media: Tensor | None = None,
    ) -> Tensor | list[Tensor]:
        """Computes the expert weights in fp32, (B, E), or a list with one such tensor per layer.

        Args:
            question_embeddings: word embeddings of the questions, (B, Q, D).
            question_mask: true (or 1) at real question tokens, (B, Q).
            tasks: task name of each sample (see `GateInputs`).
            modalities: 1 where a sample has a modality, (B, M).
            media: mean of each sample's projected media vectors, (B, D).
        """
        found = self.choices(GateInputs(question_embeddings, question_mask, tasks, modalities, media))
        return [choice.weights for choice in found] if self.per_layer else found[0].weights


class LayerGate(Gate):
    """Base class of gates inside a LoRA-MoE layer, which route each token by the input of that layer.

    `size.width` is the width of that input, `size.experts` the number of experts of the layer.
    """

    reads: tuple[Reading, ...] = ("token",)
    in_layers: ClassVar[bool] = True

    @abstractmethod
    def choose(self, x: Tensor) -> GateOutput:
        """Routes each token of inputs (B, T, D) or (B, D): weights (B, T, E) or (B, E)."""

    def choices(self, asked: GateInputs) -> list[GateOutput]:
        """Routes inputs of the layer, given as `asked.embeddings`."""
        return [self.choose(asked.embeddings)]

    def forward(self, x: Tensor) -> GateOutput:  # type: ignore[override]
        """See `choose`."""
        return self.choose(x)


@dataclass(frozen=True)
class TopKRouter:
    """Top-k selection: from gate logits to expert weights.

    The softmax over the experts, at a temperature, is cut to its `top_k` largest entries, which are renormalised to a
    sum of 1 as in the paper. With a `top_k` of 1 that would be a constant 1 without a gradient for the gate, so the
    weight is then the probability itself, as in Switch Transformers (Fedus et al., 2022, equation 2).

    With `universal` the last of the E experts is always on and the gate routes between the others: the top-k
    probabilities are not renormalised, and the universal expert gets the remainder to 1 (MoCLE, Gou et al., 2023).
    With a `top_k` of 1 that is p for the best expert and 1 - p for the universal one.

    Attributes:
        top_k: number of experts that are used, 1..E, or 1..E - 2 beside a universal expert, which would get no
            weight otherwise. None uses all.
        universal: whether the last expert is always on.
        temperature: divisor of the logits; below 1 the softmax is sharper.
        jitter: in training the gate's input is multiplied by uniform noise in 1 - jitter..1 + jitter
            (Switch Transformers).
    """

    top_k: int | None
    universal: bool = False
    temperature: float = 1.0
    jitter: float = 0.0

    @property
    def max_active(self) -> int | None:
        """Upper bound on the non-zero weights of a row; None if all experts are used."""
        return None if self.top_k is None else self.top_k + self.universal

    def routed(self, experts: int) -> int:
        """Number of experts that the gate has logits for: all of E, or E - 1 beside a universal expert.

        Raises:
            ValueError: the settings do not fit E experts.
        """
        if experts < 1:
            raise ValueError(f"a gate needs at least 1 expert, found experts = {experts}; 1 is plain LoRA")
        top_k = experts if self.top_k is None else self.top_k
        SIZE_RANGE.check(top_k=top_k)
        POSITIVE_NUMBER.check(temperature=self.temperature)
        PROBABILITY_BELOW_1.check(jitter=self.jitter)
        if top_k > experts:
            raise ValueError(
                f"a sample cannot use more experts than there are: top_k = {top_k}, experts = {experts}; "
                f"lower top_k to {experts} or raise experts"
            )
        if self.universal and top_k > experts - 2:
            raise ValueError(
                f"a universal expert gets what the gate leaves of the weight after top_k = {top_k} of the other "
                f"{experts - 1}: nothing; expected at least top_k + 2 experts, and a number for top_k"
            )
        return experts - self.universal

    def choose(self, logits: Tensor) -> GateOutput:
        """Routes by logits (..., E), or (..., E - 1) beside a universal expert."""
        logits = logits / self.temperature
        top = logits.topk(self.top_k or logits.shape[-1], dim=-1)
        probabilities = logits.softmax(dim=-1)
        if self.top_k != 1 and not self.universal:
            values = top.values.softmax(dim=-1)  # equals the full softmax cut to top-k and renormalised
        else:
            values = probabilities.gather(-1, top.indices)
        # The others get exact zeros, by which backends can skip them, and pass no gradient to their logits.
        weights = torch.zeros_like(logits).scatter(-1, top.indices, values)
        if self.universal:
            weights = torch.cat([weights, 1 - values.sum(dim=-1, keepdim=True)], dim=-1)
        return GateOutput(weights, probabilities)

    def noisy(self, inputs: Tensor) -> Tensor:
        """Multiplies the inputs of a gate by noise (see `jitter`); to be called in training alone."""
        if not self.jitter:
            return inputs
        return inputs * torch.empty_like(inputs).uniform_(1 - self.jitter, 1 + self.jitter)

    def __str__(self) -> str:
        """Settings shown when the model is printed."""
        text = f"top_k={self.top_k or 'all'}" + (", universal=True" if self.universal else "")
        text += f", temperature={self.temperature:g}" if self.temperature != 1 else ""
        return text + (f", jitter={self.jitter:g}" if self.jitter else "")
