"""An instance gate that is initialised as a linear classifier of the training sources.

The gate of the paper is initialised at random and learns together with the experts. It collapses: nearly all of a
pooled question is common to all questions; the experts start out equal (B = 0), so the first gradients of the gate
are tiny; and Adam, which normalises their size, moves the logits along the common direction, until one expert gets
every question. A gate has to separate the sources *before* the experts differ, and to change slowly afterwards. So

- the input is centred: the mean of the training questions is subtracted;
- the weights start as a ridge regression of the source (the data set that a question is from) on that input. Sources
  are read when the gate is fitted, never in use;
- the learning rate is divided by sqrt(D), since a step of Adam moves a logit by up to D times the learning rate.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from octavius.lora_moe.gates.base import GateInputs, GateSize
from octavius.lora_moe.gates.instance import InstanceGate

RIDGE = 0.02
"""Penalty of the regression, relative to an input with a mean square of 1."""

MARGIN = 8.0
"""Mean margin, in logits, between the expert of a training question's source and the runner-up after fitting."""

MOST = 20_000
"""Upper bound on the texts that the classifier is fitted to: each question in all frames, or in as many as fit."""

FRAMES = (
    "{}",
    "Look carefully. {}",
    "Now, {}",
    "Please answer this: {}",
    "Here is the next one. {}",
    "{} Thank you.",
    "{} Please answer now.",
    "{} Say what you think.",
    "Hello. {} Please.",
)
"""Neutral words around a question, as augmentation: the classifier must not rely on how a question starts or ends."""


class SourceGate(InstanceGate):
    """The instance gate, initialised as a classifier of the training sources (see the module).

    With fewer experts than sources, sources with similar questions share an expert; with more, a source has several,
    with equal weights. Until `fit_questions` is called the weights are random, as in the instance gate.

    Args:
        size: sizes of the model that the gate is for.
        top_k: number of experts that a sample uses, 1..E; None uses all. Fewer than a source has leaves the others
            idle.
        inputs: inputs beside the question: which modalities a sample has (`modality`), a summary of its media
            (`media`), or both (see `InstanceGate`).
        per_layer: whether each layer of the language model gets a routing decision of its own.
        universal: whether the last expert is always on, with the weight that the others leave to 1 (MoCLE).
        temperature: divisor of the logits.
        jitter: in training the inputs are multiplied by uniform noise in 1 - jitter..1 + jitter.

    Attributes:
        centre: mean of the training questions, subtracted from the input, (D,).
        fitted: whether `fit_questions` was called.
    """

    fitted_buffers: ClassVar[tuple[str, ...]] = ("centre", "fitted")

    def __init__(
        self,
        size: GateSize,
        /,
        *,
        top_k: int | None = None,
        inputs: Sequence[Literal["modality", "media"]] = (),
        per_layer: bool = False,
        universal: bool = False,
        temperature: float = 1.0,
        jitter: float = 0.0,
    ) -> None:
        super().__init__(
            size,
            top_k=top_k,
            inputs=inputs,
            per_layer=per_layer,
            universal=universal,
            temperature=temperature,
            jitter=jitter,
        )

    def reset_parameters(self) -> None:
        """Draws the weights of an instance gate; the input is not centred until the gate is fitted."""
        super().reset_parameters()
        self.register_buffer("centre", torch.zeros(self.width))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def lr_factor(self) -> float:
        """1 / sqrt(D) (see the module)."""
        return self.width**-0.5

    def fit_questions(
        self, questions: Sequence[str], sources: Sequence[int], pool: Callable[[Sequence[str]], Tensor]
    ) -> str:
        """Sets the weights to a classifier of the sources; the same questions give the same weights.

        Args:
            questions: N training questions; a question may occur in several sources.
            sources: source of each, 0..S - 1.
            pool: maps n texts to their mean embeddings (n, D), as `pooled` computes them.

        Returns:
            One line for the log that says what was done.
        """
        # Each pair once, in order of first occurrence: questions that a data set repeats would dominate the fit.
        pairs = list(dict.fromkeys(zip(questions, sources, strict=True)))
        right = self.classify(pairs, pool)
        return (
            f"the gate begins as a classifier of {len({*sources})} sources by {len(pairs)} questions; "
            f"{right:.0%} of them are classified correctly"
        )

    @torch.no_grad()
    def classify(self, pairs: Sequence[tuple[str, int]], pool: Callable[[Sequence[str]], Tensor]) -> float:
        """Sets the weights to a classifier of different pairs of question and class.

        Returns:
            The share of the questions that it classifies correctly.
        """
        turns = min(len(FRAMES), max(1, MOST // len(pairs)))
        # Shifted by `index`, so that frames are spread evenly over the questions even if only some turns fit.
        framed = [
            FRAMES[(index + turn) % len(FRAMES)].format(question)
            for turn in range(turns)
            for index, (question, _) in enumerate(pairs)
        ]
        owners = torch.tensor([source for _, source in pairs] * turns)
        inputs = pool(framed).double().cpu()  # fp64 on the CPU: all processes must get the same weights
        # All sources have the same total weight, however many questions each has.
        share = 1.0 / torch.bincount(owners).double()[owners] / len(owners.unique())
        centre = share @ inputs
        inputs = F.rms_norm(inputs - centre, (self.width,))
        # Grouped by the mean over frames: the words around a question must not decide on its expert.
        means = inputs.view(turns, len(pairs), self.width).mean(0)
        weights, right = [], 1.0
        for experts in self.routed:
            groups = group(means, owners[: len(pairs)], experts).repeat(turns)
            own = classifier(inputs, groups, share)
            right = min(right, float(share @ ((inputs @ own.T).argmax(1) == groups).double()))
            weights.append(own[torch.arange(experts) % len(own)])
        self.weight.copy_(torch.cat(weights))
        self.get_buffer("centre").copy_(centre)
        self.get_buffer("fitted").fill_(True)
        return right

    def read_question(self, asked: GateInputs) -> Tensor:
        """Represents the questions by their centred mean embeddings at unit RMS, (B, D)."""
        return F.rms_norm(super().read_question(asked) - self.get_buffer("centre"), (self.width,))


def classifier(inputs: Tensor, groups: Tensor, share: Tensor) -> Tensor:
    """Fits a ridge regression of one-hot groups, scaled to a mean margin of `MARGIN` logits.

    Args:
        inputs: vectors of unit RMS, (N, D).
        groups: group of each, 0..G - 1, (N,).
        share: weight of each input in the fit, (N,), summing to 1.

    Returns:
        Weights (G, D).
    """
    wanted = F.one_hot(groups).to(inputs)
    weighed = inputs * share[:, None]
    square = weighed.T @ inputs + RIDGE * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    weights = torch.linalg.solve(square, weighed.T @ (wanted - share @ wanted))
    scores = inputs @ weights
    best_other = scores.masked_fill(wanted.bool(), -torch.inf).amax(1)
    # Sources with the same questions cannot be separated. Their margin of 0 lowers the mean, which must not scale the
    # weights up without bound.
    margin = float(share @ ((scores * wanted).sum(1) - best_other)) if wanted.shape[1] > 1 else 1.0
    return weights.T * (MARGIN / max(margin, 0.25))


def group(inputs: Tensor, sources: Tensor, most: int) -> Tensor:
    """Merges sources until there are at most `most`, by agglomerative clustering of their mean inputs.

    Args:
        inputs: (N, D).
        sources: source of each input, (N,).
        most: upper bound on the number of groups.

    Returns:
        Group of each input, from 0, (N,).
    """
    means = {int(source): inputs[sources == source].mean(0) for source in sources.unique()}
    members = [[source] for source in means]
    while len(members) > most:
        linked = {  # average linkage
            (one, other): sum(
                float(torch.dist(means[a], means[b])) for a in members[one] for b in members[other]
            )
            / (len(members[one]) * len(members[other]))
            for one in range(len(members))
            for other in range(one)
        }
        one, other = min(linked, key=lambda pair: linked[pair])
        members[other] += members.pop(one)
    groups = torch.zeros_like(sources)
    for index, joined in enumerate(members):
        groups[torch.isin(sources, torch.tensor(joined))] = index
    return groups
