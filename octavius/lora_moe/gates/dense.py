"""The instance gate without top-k selection: all experts, weighted by the softmax."""

from collections.abc import Sequence
from typing import Literal

from octavius.lora_moe.gates.base import GateSize
from octavius.lora_moe.gates.instance import InstanceGate


class DenseGate(InstanceGate):
    """Weights all experts by the softmax, as LoRAMoE (Dou et al., 2024) and HydraLoRA (Tian et al., 2024) do.

    Args:
        size: sizes of the model that the gate is for.
        inputs: inputs beside the question: which modalities a sample has (`modality`), a summary of its media
            (`media`), or both (see `InstanceGate`).
        per_layer: whether each layer of the language model gets a routing decision of its own.
        temperature: divisor of the logits.
        jitter: in training the inputs are multiplied by uniform noise in 1 - jitter..1 + jitter.
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
