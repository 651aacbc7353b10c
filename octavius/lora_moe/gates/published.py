"""The gate of the published code, to go on from its checkpoints."""

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from octavius.lora_moe.gates.base import Asked, Choice, GateSize, Reading
from octavius.lora_moe.gates.instance import InstanceGate
from octavius.weights import load_exactly


class PublishedGate(InstanceGate):
    """The instance gate as the published code computes it, to go on from its checkpoints.

    The mean is over all columns of the batch, padding as well, so that what shares the batch changes a sample's
    routing; it is not scaled; and the map begins at N(0, 1). Use `InstanceGate` for anything else.

    Args:
        size: the model that it is for.
        top_k: how many experts an instance uses, 1..E; None is all.
    """

    reads: tuple[Reading, ...] = ("question", "padding")

    def __init__(self, size: GateSize, /, *, top_k: int | None = 2) -> None:
        super().__init__(size, top_k=top_k)
        self.reads = PublishedGate.reads

    def fill_published(self, weight: Tensor) -> None:
        """Takes the weight (D, E) of the gate in a published checkpoint.

        Raises:
            ValueError: it has another shape.
        """
        load_exactly(self, {"weight": weight.T}, {"weight"}, Path("the gate of the file"))

    def reset_parameters(self) -> None:
        """Draws from N(0, 1)."""
        super().reset_parameters()
        nn.init.normal_(self.weight)

    def choices(self, asked: Asked) -> list[Choice]:
        """Reads the question, whatever its mask says."""
        mean = asked.embeddings.float().mean(dim=1)
        logits = F.linear(mean, self.weight.float())
        return [self.cut.choose(own) for own in logits.split(self.routed, dim=-1)]
