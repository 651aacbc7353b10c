"""Word embeddings of a padded batch come in, expert weights as the published code has them go out."""

from torch import nn
from torch.nn import functional as F

from octavius.lora_moe.gates.base import Asked, Choice
from octavius.lora_moe.gates.instance import InstanceGate


class PublishedGate(InstanceGate):
    """The instance gate as the published code computes it, to go on from its checkpoints.

    The mean is over all columns of the batch, padding as well, so that what shares the batch changes a sample's
    routing; it is not scaled; and the map begins at N(0, 1). Use `InstanceGate` for anything else.
    """

    def reset_parameters(self) -> None:
        """Draws from N(0, 1)."""
        super().reset_parameters()
        nn.init.normal_(self.weight)

    def choices(self, asked: Asked) -> list[Choice]:
        """Reads the question, whatever its mask says."""
        mean = asked.embeddings.float().mean(dim=1)
        logits = F.linear(mean, self.weight.float())
        return [self.cut.choose(own) for own in logits.split(self.routed, dim=-1)]
