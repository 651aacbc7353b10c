"""An instance gate that begins as a linear classifier of the training sources.

The gate of the paper is drawn at random and learns with the experts. It collapses: nearly all of a pooled question
is common to all questions, the experts begin alike (B = 0) so that its first gradients are tiny, and Adam, which
divides them by their own size, moves the logits along the common direction. One expert then gets every question. A
gate has to part the sources *before* the experts differ, and has to be slow afterwards. This one does both:

- its input is centred: the mean of the training questions is subtracted;
- its weights begin as a ridge regression of the training source (the data set that a question is of) on that input.
  The names of the sources are read in training alone; in use the question decides;
- its learning rate is smaller by the root of the width, since Adam moves a logit by up to D times the learning rate.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from octavius.lora_moe.gates.base import Asked
from octavius.lora_moe.gates.cluster import centroids_of, nearest
from octavius.lora_moe.gates.instance import InstanceGate

RIDGE = 0.02
"""Of the regression, beside an input of mean square 1."""

MARGIN = 8.0
"""Logits between the expert of a training question's source and the next one, on average, when training begins."""

MOST = 20_000
"""Texts that the classifier is fitted to at most: each question in all frames, or in as many as there is room for."""

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
"""Neutral words around a question, so that the classifier does not go by how a question begins or ends."""


class SourceGate(InstanceGate):
    """Chooses by the question, as the instance gate does, and begins as a classifier of the training sources.

    With fewer experts than sources those of the most similar questions share an expert; with more, the sources with
    the most different questions are divided. Without `fit_questions` it begins at random, as the instance gate.

    Attributes:
        centre: mean of the training questions that is subtracted from the input, (D,).
        fitted: whether the gate was fitted.
    """

    fitted_buffers: ClassVar[tuple[str, ...]] = ("centre", "fitted")

    def reset_parameters(self) -> None:
        """Begins as the instance gate does, with an input that is not yet centred."""
        super().reset_parameters()
        self.register_buffer("centre", torch.zeros(self.width))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def lr_factor(self) -> float:
        """One over the root of the width: a step of Adam then moves a logit as far at any width."""
        return self.width**-0.5

    @torch.no_grad()
    def fit_questions(
        self, questions: Sequence[str], sources: Sequence[int], pool: Callable[[Sequence[str]], Tensor]
    ) -> str:
        """Makes the weights a classifier of the sources; the same questions give the same weights.

        Args:
            questions: N training questions; those of several sources may be the same.
            sources: the source of each, 0..S - 1.
            pool: makes pooled questions (n, D) of n texts.

        Returns:
            What was done, in a line.
        """
        pairs = list(dict.fromkeys(zip(questions, sources, strict=True)))
        turns = min(len(FRAMES), max(1, MOST // len(pairs)))
        framed = [
            FRAMES[(index + turn) % len(FRAMES)].format(question)
            for turn in range(turns)
            for index, (question, _) in enumerate(pairs)
        ]
        owners = torch.tensor([source for _, source in pairs] * turns)
        inputs = pool(framed).double().cpu()
        # Each source counts as one, however many questions it has.
        share = 1.0 / torch.bincount(owners).double()[owners] / len(owners.unique())
        centre = share @ inputs
        inputs = F.rms_norm(inputs - centre, (self.width,))
        # Grouped by questions, not by texts: the words around a question must not decide about its expert.
        means = inputs.view(turns, len(pairs), self.width).mean(0)
        weights, right = [], 1.0
        for experts in self.routed:
            groups = group(means, owners[: len(pairs)], experts).repeat(turns)
            own = classifier(inputs, groups, share, experts)
            right = min(right, float(share @ ((inputs @ own.T).argmax(1) == groups).double()))
            weights.append(own)
        self.weight.copy_(torch.cat(weights))
        self.get_buffer("centre").copy_(centre)
        self.get_buffer("fitted").fill_(True)
        return (
            f"the gate begins as a classifier of {len(owners.unique())} sources by {len(pairs)} questions; "
            f"{right:.0%} of them are told apart"
        )

    def read_question(self, asked: Asked) -> Tensor:
        """The centred question at unit root mean square, (B, D)."""
        return F.rms_norm(super().read_question(asked) - self.get_buffer("centre"), (self.width,))


def classifier(inputs: Tensor, groups: Tensor, share: Tensor, experts: int) -> Tensor:
    """Weights (E, D) of a ridge regression of each input's group, scaled to a mean margin of `MARGIN` logits.

    Args:
        inputs: of unit root mean square, (N, D).
        groups: 0..E - 1 for each, (N,).
        share: how much each input counts, (N,), of sum 1.
        experts: number E.
    """
    wanted = F.one_hot(groups, experts).to(inputs)
    weighed = inputs * share[:, None]
    square = weighed.T @ inputs + RIDGE * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    weights = torch.linalg.solve(square, weighed.T @ (wanted - share @ wanted))
    scores = inputs @ weights
    best_other = scores.masked_fill(wanted.bool(), -torch.inf).amax(1)
    # Sources that ask the same questions cannot be told apart: their margin of 0 must not blow the others up.
    margin = float(share @ ((scores * wanted).sum(1) - best_other)) if experts > 1 else 1.0
    return weights.T * (MARGIN / max(margin, 0.25))


def group(inputs: Tensor, sources: Tensor, experts: int) -> Tensor:
    """Groups of inputs, one for each expert, that keep sources together, (N,).

    Sources with the most similar mean inputs are joined until there are E groups (agglomerative clustering with
    average linkage); of too few sources the group with the largest spread is divided in two by k-means until there
    are enough, or none can be divided.

    Args:
        inputs: (N, D).
        sources: of each input, (N,).
        experts: number E of groups.
    """
    means = {int(source): inputs[sources == source].mean(0) for source in sources.unique()}
    members = [[source] for source in means]
    while len(members) > experts:
        linked = {
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
    for index in range(len(members), experts):
        spread = {
            int(own): float((inputs[groups == own] - inputs[groups == own].mean(0)).square().sum(1).mean())
            for own in groups.unique()
            if len(inputs[groups == own].unique(dim=0)) > 1
        }
        if not spread:
            break
        widest = (groups == max(spread, key=lambda own: spread[own])).nonzero().flatten()
        halves = nearest(inputs[widest], centroids_of(inputs[widest], 2))
        groups[widest[halves == 1]] = index
    return groups
