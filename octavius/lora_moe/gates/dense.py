"""The instance gate without selection: all experts, weighted by the softmax."""

from collections.abc import Sequence
from typing import Literal

from octavius.lora_moe.gates.base import GateSize
from octavius.lora_moe.gates.instance import InstanceGate


class DenseGate(InstanceGate):
    """Uses all experts by their softmax, as LoRAMoE (Dou et al., 2024) and HydraLoRA (Tian et al., 2024) do.

    Args:
        size: the model that it is for.
        inputs: as of `InstanceGate`, like all that follow.
        per_layer: make a choice for each layer of the language model.
        temperature: the logits are divided by it.
        jitter: noise on the inputs while training.
    """

    def __init__(
        self,
        size: GateSize,
        /,
        *,
        inputs: Sequence[Literal["modality", "media"]] = (),
        per_layer: bool = False,
        temperature: float = 1.0,
        jitter: float = 0.0,
    ) -> None:
        super().__init__(
            size, top_k=None, inputs=inputs, per_layer=per_layer, temperature=temperature, jitter=jitter
        )
