"""Freezing of what a configuration does not train."""

from torch import nn

from octavius.lora_moe.build import LoRAMoEConfig
from octavius.lora_moe.gates.base import Gate


def freeze(model: nn.Module, settings: LoRAMoEConfig) -> None:
    """Freezes what `LoRAMoEConfig.train` leaves alone, of a model with its gates in it.

    Raises:
        ValueError: nothing would be trained.
    """
    if settings.train == "all":
        return
    trained = {
        parameter for part in model.modules() if isinstance(part, Gate) for parameter in part.parameters()
    }
    if not trained:
        kind = "a single expert has no gate" if settings.experts == 1 else "this gate has no parameters"
        raise ValueError(f"lora.train: gate trains the gate alone, but {kind}; take `train: all`")
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.requires_grad and parameter in trained)
