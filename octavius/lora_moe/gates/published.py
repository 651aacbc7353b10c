"""The gate of the published code, for continuing from its checkpoints."""

from torch import nn
from torch.nn import functional as F

from octavius.lora_moe.gates.base import GateInputs, GateOutput, GateSize, Reading
from octavius.lora_moe.gates.instance import InstanceGate


class PublishedGate(InstanceGate):
    """The instance gate as the published code computes it, for continuing from its checkpoints.

    The mean includes padding, so the routing of a sample depends on the batch it is in; the mean is not scaled; and
    the weight is drawn from N(0, 1). Use `InstanceGate` for anything else.

    Args:
        size: sizes of the model that the gate is for.
        top_k: number of experts that a sample uses, 1..E; None uses all.
    """

    reads: tuple[Reading, ...] = ("question", "padding")

    def __init__(self, size: GateSize, /, *, top_k: int | None = 2) -> None:
        super().__init__(size, top_k=top_k)
        self.reads = PublishedGate.reads  # the parent has set it from its inputs

    def reset_parameters(self) -> None:
        """Draws the weight from N(0, 1)."""
        super().reset_parameters()
        nn.init.normal_(self.weight)

    def choices(self, asked: GateInputs) -> list[GateOutput]:
        """Routes by the mean over all tokens; the mask is ignored on purpose, as in the published code."""
        mean = asked.embeddings.float().mean(dim=1)
        logits = F.linear(mean, self.weight.float())
        return [self.router.choose(part) for part in logits.split(self.routed, dim=-1)]
