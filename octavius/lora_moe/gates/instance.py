"""The instance gate of the paper: one routing decision per sample, made from its question."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavius.lora_moe.gates.base import Gate, GateInputs, GateOutput, GateSize, TopKRouter
from octavius.lora_moe.gates.question import pooled


class InstanceGate(Gate):
    """The gate G(z^qu) of the paper's equation (3), which routes each sample once, by its question.

    The word embeddings of the real question tokens are averaged and scaled to a root mean square (RMS) of 1, a linear
    layer without bias gives one logit per expert, and the softmax is cut to its `top_k` largest entries. All of it
    is computed in fp32, under autocast and with half-precision parameters too.

    The scaling is not in the paper. Word embeddings are small (a standard deviation of 0.02 is usual); without it all
    logits of a new gate are nearly equal, and the same experts win for every question.

    Two more inputs may contribute to the logits: a learned embedding of each modality of the sample, initialised to
    zero and added to the question's, and the mean of the projected media vectors, scaled likewise, through a linear
    layer of its own. A sample without media has neither.

    Args:
        size: sizes of the model that the gate is for.
        top_k: number of experts that a sample uses, 1..E; None uses all.
        inputs: inputs beside the question: which modalities the sample has (`modality`), a summary of its media
            (`media`), or both.
        per_layer: whether each layer of the language model gets a routing decision of its own.
        universal: whether the last expert is always on, with the weight that the others leave to 1 (MoCLE).
        temperature: divisor of the logits.
        jitter: in training the inputs are multiplied by uniform noise in 1 - jitter..1 + jitter.

    Raises:
        ValueError: options contradict each other or do not fit the number of experts.
    """

    def __init__(
        self,
        size: GateSize,
        /,
        *,
        top_k: int | None = 2,
        inputs: Sequence[Literal["modality", "media"]] = (),
        per_layer: bool = False,
        universal: bool = False,
        temperature: float = 1.0,
        jitter: float = 0.0,
    ) -> None:
        super().__init__(size, per_layer=per_layer)
        self.router = TopKRouter(top_k, universal, temperature, jitter)
        self.routed = [self.router.routed(count) for count in self.counts]
        self.top_k, self.reads = top_k, ("question", *inputs)
        if "modality" in inputs and not size.modalities:
            raise ValueError(
                "the gate cannot read which modalities a sample has: the model has none; leave `modality` out of "
                "its inputs"
            )
        # One linear layer for all depths: (sum of their experts, D).
        self.weight = nn.Parameter(torch.empty(sum(self.routed), self.width))
        names = size.modalities if "modality" in inputs else 0
        self.modality_embeddings = nn.Parameter(torch.empty(names, self.width)) if names else None
        rows = sum(self.routed) if "media" in inputs else 0
        self.media_weight = nn.Parameter(torch.empty(rows, self.width)) if rows else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights such that logits start with a standard deviation of 1."""
        # The D inputs have an RMS of 1, so the variances of the weights must sum to 1.
        nn.init.normal_(self.weight, std=self.width**-0.5)
        if self.modality_embeddings is not None:
            nn.init.zeros_(self.modality_embeddings)  # the question alone decides at first
        if self.media_weight is not None:
            nn.init.normal_(self.media_weight, std=self.width**-0.5)

    @property
    def max_active(self) -> int | None:
        """See `TopKRouter`."""
        return self.router.max_active

    def choices(self, asked: GateInputs) -> list[GateOutput]:
        """Routes by the question, and by modalities and media if they are among the inputs."""
        # Autocast would compute the logits in half precision in spite of `.float()`.
        with torch.autocast(asked.embeddings.device.type, enabled=False):
            question = self.read_question(asked)
            logits = self._logits(question, asked.modalities, asked.media)
            return [self.router.choose(part) for part in logits.split(self.routed, dim=-1)]

    def read_question(self, asked: GateInputs) -> Tensor:
        """Represents the questions as vectors (B, D) in fp32."""
        return pooled(asked.embeddings, asked.mask, self.width)

    def extra_repr(self) -> str:
        """Settings shown when the model is printed."""
        return f"width={self.width}, experts={self.experts}, {self.router}"

    def _logits(self, question: Tensor, modalities: Tensor | None, media: Tensor | None) -> Tensor:
        """Logits of all depths side by side in fp32, from the pooled question (B, D) and the further inputs."""
        if self.modality_embeddings is not None:
            if modalities is None:
                raise ValueError("this gate reads which modalities a sample has: give it `modalities` (B, M)")
            question = question + modalities.float() @ self.modality_embeddings.float()
        logits = F.linear(self._noisy(question), self.weight.float())
        if self.media_weight is not None:
            if media is None:
                raise ValueError("this gate reads a summary of the media: give it `media` (B, D)")
            summary = F.rms_norm(media.float(), (self.width,))
            logits = logits + F.linear(self._noisy(summary), self.media_weight.float())
        return logits

    def _noisy(self, inputs: Tensor) -> Tensor:
        return self.router.noisy(inputs) if self.training else inputs
