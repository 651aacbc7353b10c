"""Freezing of what a configuration does not train."""

import torch
from torch import nn

from octavius.lora_moe.build import LoRAMoEConfig
from octavius.lora_moe.gates.added import AddedGate
from octavius.lora_moe.gates.base import Gate
from octavius.lora_moe.inject import adapter_parameters
from octavius.lora_moe.layer import LoRAMoELinear


def freeze(model: nn.Module, settings: LoRAMoEConfig) -> None:
    """Freezes what `LoRAMoEConfig.train` leaves alone, in a model with experts and gate.

    The experts of a layer are one parameter. With `train: added` it stays trainable, and the gradients of the earlier
    experts have to be set to zero before each step (see `keep_earlier`).
    """
    if settings.train == "all":
        return
    gates = [part for part in model.modules() if isinstance(part, Gate)]
    trained = {part for gate in gates for part in gate.parameters()}
    if settings.train == "experts":
        trained |= {*adapter_parameters(model).values()}
    elif settings.train == "added":
        newest = next(gate for gate in gates if isinstance(gate, AddedGate))
        trained = {part for part in (newest.weight,) if part is not None}
        for layer in _layers(model):
            trained |= {layer.lora_B} if layer.shared_a else {layer.lora_A, layer.lora_B}
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.requires_grad and parameter in trained)


@torch.no_grad()
def keep_earlier(model: nn.Module, settings: LoRAMoEConfig) -> None:
    """Sets the gradients of all experts to zero but of those added last, if only these are trained.

    An optimizer without weight decay then leaves the others unchanged, to the last bit.
    """
    if settings.train != "added":
        return
    for layer in _layers(model):
        earlier = (layer.experts - settings.added[-1]) * layer.rank
        for parameter, axis in ((layer.lora_A, 0), (layer.lora_B, 1)):
            if parameter.requires_grad and parameter.grad is not None:
                parameter.grad.narrow(axis, 0, earlier).zero_()


def _layers(model: nn.Module) -> list[LoRAMoELinear]:
    return [part for part in model.modules() if isinstance(part, LoRAMoELinear)]
