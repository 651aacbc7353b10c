"""LoRA-MoE: LoRA experts in a frozen language model, routed per sample by a gate that reads the question."""

from octavius.lora_moe.build import LoRAMoEConfig, build_lora_moe
from octavius.lora_moe.gates.instance import InstanceGate
from octavius.lora_moe.inject import adapter_parameters, inject
from octavius.lora_moe.layer import LoRAMoELinear
from octavius.lora_moe.routed.model import RoutedModel, get_routed_model
from octavius.lora_moe.routing import Routing

__all__ = [
    "InstanceGate",
    "LoRAMoEConfig",
    "LoRAMoELinear",
    "RoutedModel",
    "Routing",
    "adapter_parameters",
    "build_lora_moe",
    "get_routed_model",
    "inject",
]
