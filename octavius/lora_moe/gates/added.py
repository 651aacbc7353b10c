"""A gate to which experts were added later, for other questions than those it was trained with."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavius.lora_moe.gates.base import Gate, GateInputs, GateOutput
from octavius.lora_moe.gates.question import pooled
from octavius.lora_moe.gates.source import FRAMES, classifier

SEEN = 1024
"""Number of questions of earlier trainings that are kept, as vectors."""

MARGIN = 0.01
"""Least distance of the threshold from the scores of earlier questions, beyond rounding."""


class AddedGate(Gate):
    """Sends new questions to experts that were added, and leaves all others to the earlier gate.

    Whether a question is new is decided by a linear classifier, which is fitted once, before the added experts
    are trained: to the training questions and to those of earlier trainings, which are kept as vectors. A question
    that is not new gets the weights of the earlier gate, and zero for the added experts. Until the gate is fitted,
    none is new.

    The `lora` section of a configuration makes it by `added`; it has no short name.

    Args:
        before: the gate that experts are added to; it is not changed.
        added: number N of added experts. With several, a linear layer with a softmax weights them.

    Attributes:
        seen: vectors of questions of earlier trainings, (SEEN, D); rows of zeros are empty.
        centre: mean of the questions, subtracted before they are classified, (D,).
        direction: weights of the classifier, (D,).
        threshold: a question is new above it.
        weight: weights of the linear layer over the added experts, (N, D); None with one.
    """

    fitted_buffers: ClassVar[tuple[str, ...]] = ("seen", "centre", "direction", "threshold", "fitted")

    def __init__(self, before: Gate, added: int) -> None:
        counts = [count + added for count in before.counts]
        super().__init__(before.size._replace(experts=counts if before.per_layer else counts[0]))
        self.before, self.added = before, added
        self.reads, self.task_names = tuple(dict.fromkeys(("question", *before.reads))), before.task_names
        self.weight = nn.Parameter(torch.empty(added, self.width)) if added > 1 else None
        if self.weight is not None:
            nn.init.normal_(self.weight, std=self.width**-0.5)
        self.register_buffer("seen", torch.zeros(SEEN, self.width))
        self.register_buffer("centre", torch.zeros(self.width))
        self.register_buffer("direction", torch.zeros(self.width))
        self.register_buffer("threshold", torch.tensor(0.0))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def max_active(self) -> int | None:
        """See `Gate.max_active`."""
        most = self.before.max_active
        return None if most is None else max(most, self.added)

    def choices(self, asked: GateInputs) -> list[GateOutput]:
        """The earlier gate's weights or the added experts', with zeros for the others."""
        with torch.autocast(asked.embeddings.device.type, enabled=False):
            question = pooled(asked.embeddings, asked.mask, self.width)
            new = (self.scores(question) > self.get_buffer("threshold"))[:, None]
            weight = question.new_zeros(1, self.width) if self.weight is None else self.weight.float()
            own = F.linear(question, weight).softmax(-1)
        return [
            GateOutput(*(_either(new, part, own) for part in choice)) for choice in self.before.choices(asked)
        ]

    def scores(self, questions: Tensor) -> Tensor:
        """How much pooled questions (B, D) resemble the new ones more than the earlier ones, (B,)."""
        return F.rms_norm(questions - self.get_buffer("centre"), (self.width,)) @ self.get_buffer("direction")

    @torch.no_grad()
    def remember(self, questions: Sequence[str], pool: Callable[[Sequence[str]], Tensor]) -> None:
        """Keeps the questions of the training before this one, and those that the earlier gate keeps.

        Args:
            questions: training questions; some are taken, evenly spaced, if there are too many.
            pool: maps n texts to their mean embeddings (n, D), as `pooled` computes them.
        """
        earlier = self.before.kept if isinstance(self.before, AddedGate) else torch.zeros(0, self.width)
        trainings = len([part for part in self.modules() if isinstance(part, AddedGate)])
        fresh = pool(framed(questions, SEEN // trainings))
        kept = torch.cat([earlier[spaced(len(earlier), SEEN - len(fresh))].to(fresh), fresh])
        self.get_buffer("seen")[: len(kept)] = kept

    @property
    def kept(self) -> Tensor:
        """The vectors of earlier questions, without empty rows, (n, D)."""
        seen = self.get_buffer("seen")
        return seen[seen.any(1)]

    @torch.no_grad()
    def fit_questions(
        self, questions: Sequence[str], sources: Sequence[int], pool: Callable[[Sequence[str]], Tensor]
    ) -> str:
        """Fits the classifier of new and earlier questions; the same questions give the same weights.

        Raises:
            ValueError: there are no earlier questions, or none of the new ones differs from them.
        """
        del sources  # all are new
        new = pool(framed(questions, SEEN)).double().cpu()
        old = self.kept.double().cpu()
        if not len(old):
            raise ValueError(
                "the gate has experts that were added, but keeps no questions of earlier trainings: add experts to a "
                "checkpoint by `octavius import last.ckpt --add-experts 1 --out start.ckpt`, and begin with --ckpt "
                "start.ckpt"
            )
        centre = (new.mean(0) + old.mean(0)) / 2
        inputs = F.rms_norm(torch.cat([old, new]) - centre, (self.width,))
        groups = torch.tensor([0] * len(old) + [1] * len(new))
        rows = classifier(inputs, groups, 0.5 / torch.bincount(groups).double()[groups])
        self.get_buffer("centre").copy_(centre)
        self.get_buffer("direction").copy_(rows[1] - rows[0])
        device = self.get_buffer("centre").device
        highest = self.scores(old.float().to(device)).max() + MARGIN
        scores = self.scores(new.float().to(device))
        # Above all earlier questions, and midway if all new ones are above these.
        self.get_buffer("threshold").copy_(torch.maximum(highest, (highest + scores.min()) / 2))
        share = float((scores > self.get_buffer("threshold")).double().mean())
        if not share:
            raise ValueError(
                f"none of {len(new)} training questions can be distinguished from those of earlier trainings, so "
                "that the added experts would not be used; word the new questions differently, or train all "
                "(lora.train: all)"
            )
        self.get_buffer("fitted").fill_(True)
        return (
            f"{share:.1%} of {len(new)} training questions go to the added experts; {len(old)} earlier ones keep "
            "their routing"
        )


def _either(new: Tensor, before: Tensor, own: Tensor) -> Tensor:
    """Rows of `before` (B, E) followed by zeros, or where `new` (B, 1) zeros followed by those of `own` (B, N)."""
    return torch.cat([torch.where(new, 0.0, before), torch.where(new, own, 0.0)], -1)


def framed(questions: Sequence[str], most: int) -> list[str]:
    """Different questions in neutral frames, up to `most` texts: each in all frames, or in as many as fit."""
    different = list(dict.fromkeys(questions))
    different = [different[index] for index in spaced(len(different), most)]
    turns = min(len(FRAMES), max(1, most // max(1, len(different))))
    return [
        FRAMES[(index + turn) % len(FRAMES)].format(question)
        for turn in range(turns)
        for index, question in enumerate(different)
    ]


def spaced(count: int, most: int) -> list[int]:
    """Up to `most` of the indices below `count`, evenly spaced."""
    return list(range(count)) if count <= most else [index * count // most for index in range(most)]
