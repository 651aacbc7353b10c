r"""LoRA-MoE as a tuner of ms-swift, by its plugin interface; run with ms-swift 4.6.0.

    LORA_MOE_EXPERTS=4 swift sft --external_plugins docs/ms_swift_tuner.py --tuner_type lora_moe --model ... \
        --dataset ... --lora_rank 16 --lora_alpha 16 --target_modules q_proj k_proj v_proj o_proj \
        --gradient_checkpointing_kwargs '{"use_reentrant": false}'

The gate reads the prompt, which labels of -100 mark. What takes the labels from the model (loss scales, label
smoothing, --enable_dft_loss) or puts several samples into one row (--packing, --padding_free) is refused.
"""

import os
from typing import Any

from swift.tuner_plugin import Tuner, tuners_map
from torch import nn

from octavius.lora_moe import LoRAMoEConfig, RoutedModel, get_routed_model


class LoRAMoETuner(Tuner):
    """Makes, saves and loads routed models for ms-swift."""

    @staticmethod
    def prepare_model(args: Any, model: nn.Module) -> nn.Module:
        """Puts experts into the layers that ms-swift's options for LoRA name."""
        experts = int(os.environ.get("LORA_MOE_EXPERTS", "4"))
        targets = list(args.target_modules)
        if "all-linear" in targets:  # ms-swift's default; the paper's are the attention projections
            targets = LoRAMoEConfig().targets
        config = LoRAMoEConfig(
            experts=experts,
            rank=args.lora_rank,
            alpha=float(args.lora_alpha),
            dropout=args.lora_dropout,
            targets=targets,
        )
        model = get_routed_model(model, config)
        model.print_trainable_parameters()
        return model

    @staticmethod
    def save_pretrained(
        model: nn.Module,
        save_directory: str,
        state_dict: dict[str, Any] | None = None,
        safe_serialization: bool = True,
        **kwargs: Any,  # noqa: ARG004 - of the interface
    ) -> None:
        """Writes experts, gate and settings."""
        model.save_pretrained(save_directory, state_dict=state_dict, safe_serialization=safe_serialization)

    @staticmethod
    def from_pretrained(model: nn.Module, model_id: str, **kwargs: Any) -> nn.Module:  # noqa: ARG004
        """Loads what `save_pretrained` wrote, to train on or to answer."""
        return RoutedModel.from_pretrained(model, model_id)


tuners_map["lora_moe"] = LoRAMoETuner
