"""LoRA pairs by layer name come in, a folder as PEFT writes one goes out; and the other way round."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT writes before the name that a layer has in the model that it wraps."""

REFUSED = {"use_dora": "DoRA", "modules_to_save": "modules_to_save", "lora_bias": "a bias in LoRA"}
"""Settings of PEFT that are more than B A, and what they are called."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as its folder says it.

    Attributes:
        base: what its language model was called where it was trained; empty when it does not say.
        pairs: layer name to A (r, D) and B (D_out, r), as stored.
        scales: layer name to what B A x is multiplied by: alpha / r, unless the settings say otherwise.
    """

    base: str
    pairs: dict[str, tuple[Tensor, Tensor]]
    scales: dict[str, float]


def write_adapter(
    folder: Path,
    base: str,
    pairs: Iterable[tuple[str, Tensor, Tensor]],
    scale: float = 1.0,
    turned: bool = False,
) -> int:
    """Writes an adapter that `peft.PeftModel.from_pretrained` reads, and PEFT itself is not needed for it.

    All layers get the same rank, the largest, filled up with zeros: not every program that reads adapters knows
    ranks that differ (vLLM does not).

    Args:
        folder: where to; made when it is not there.
        base: what the language model is called: a hub id or a folder.
        pairs: name of a layer, A (r, D) and B (D_out, r).
        scale: what PEFT multiplies by; it becomes lora_alpha / r.
        turned: whether the layers are `Conv1D`, as in GPT-2, whose weights are stored transposed.

    Returns:
        The rank.
    """
    kept = {name: (down, up) for name, down, up in pairs}
    rank = max(1, *(len(down) for down, _ in kept.values()))
    tensors = {}
    for name, (down, up) in kept.items():
        missing = rank - len(down)
        tensors[f"{PREFIX}{name}.lora_A.weight"] = torch.nn.functional.pad(down, (0, 0, 0, missing))
        tensors[f"{PREFIX}{name}.lora_B.weight"] = torch.nn.functional.pad(up, (0, missing))
    alpha = scale * rank
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(kept),
        "fan_in_fan_out": turned,
        "bias": "none",
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: part.contiguous().cpu() for name, part in tensors.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return rank


def read_adapter(folder: Path) -> Adapter:
    """Reads a plain LoRA adapter as PEFT saves it.

    Raises:
        ValueError: files are missing or damaged, or it is more than a plain LoRA of linear layers.
    """
    settings, state = _read(folder)
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        name, _, half = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        if half not in ("lora_A", "lora_B") or not key.startswith(PREFIX):
            raise ValueError(
                f"{folder / WEIGHTS} holds {key}, expected lora_A and lora_B of linear layers alone; only a plain "
                "LoRA can become an expert"
            )
        halves.setdefault(name, {})[half] = tensor
    if half_ones := [name for name, parts in halves.items() if len(parts) < 2]:
        raise ValueError(f"{folder / WEIGHTS} holds one half of the LoRA of {half_ones[0]}; copy it again")
    scales = {name: _scale(name, settings, len(parts["lora_A"])) for name, parts in halves.items()}
    return Adapter(
        settings.get("base_model_name_or_path") or "",
        {name: (parts["lora_A"], parts["lora_B"]) for name, parts in halves.items()},
        scales,
    )


def _read(folder: Path) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Settings and tensors of a folder, checked to be of LoRA."""
    if missing := [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]:
        raise ValueError(f"{folder} has no {' and no '.join(missing)}; a LoRA that PEFT saved has both")
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        state = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{folder} cannot be read as an adapter: {' '.join(str(error).split())}") from None
    kind = settings.get("peft_type") if isinstance(settings, dict) else None
    if kind != "LORA":
        raise ValueError(
            f"{folder / CONFIG} is of the kind {kind}, expected LORA; no other becomes an expert"
        )
    for key, said in REFUSED.items():
        if settings.get(key):
            raise ValueError(f"the adapter in {folder} uses {said}; only a plain LoRA can become an expert")
    return settings, state


def _scale(name: str, settings: Mapping[str, Any], rank: int) -> float:
    """Alpha / r of one layer, or alpha / sqrt(r) for a rank-stabilised LoRA."""
    own = [key for key in settings.get("alpha_pattern") or {} if name == key or name.endswith(f".{key}")]
    alpha = float(settings["alpha_pattern"][own[0]] if own else settings["lora_alpha"])
    return alpha / (rank**0.5 if settings.get("use_rslora") else rank)
