"""LoRA adapters in PEFT's file format, written and read.

What is read must be a plain LoRA of linear layers, y = W x + scale * B A x over the unchanged weights W of the base.
PEFT has many options beside that; every one is known here as one that changes nothing, or is refused with its reason.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from octavius.files import replacing, write_text

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT writes before the name that a layer has in the model that it wraps."""

REFUSED = {
    "alora_invocation_tokens": "aLoRA, which acts only on tokens after its invocation",
    "arrow_config": "Arrow, which chooses between several adapters for each token",
    "ensure_weight_tying": "adapters that are tied between word embeddings and output layer",
    "kasa_config": "KaSA, which truncates the base weights",
    "layer_replication": "layer_replication, which makes a deeper model of the base",
    "lora_bias": "a bias in LoRA (lora_bias)",
    "megatron_config": "parallel layers of Megatron",
    "modules_to_save": "modules_to_save, whole layers that were trained beside LoRA",
    "monteclora_config": "MonteCLoRA, which draws its weights by chance",
    "target_parameters": "target_parameters, LoRA of single tensors and not of layers",
    "trainable_token_indices": "trainable_token_indices, word embeddings that were trained beside LoRA",
    "use_bdlora": "BD-LoRA, whose matrices are block-diagonal",
    "use_dora": "DoRA, which also scales each row of the base weights",
    "velora_config": "VeLoRA, which keeps projections of its backward pass beside A and B",
    "use_qalora": "QALoRA, which averages groups of inputs",
}
"""Settings of PEFT that are more than B A over the base, and what they are."""

READ = (
    *(
        "peft_type",
        "base_model_name_or_path",
        "r",
        "lora_alpha",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
    ),
    *("bias", "init_lora_weights"),
)
"""Settings that are read; which layers have an adapter is told by the tensors."""

WITHOUT_EFFECT = (
    *(
        "task_type",
        "auto_mapping",
        "peft_version",
        "revision",
        "inference_mode",
        "runtime_config",
        "megatron_core",
    ),
    *(
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "fan_in_fan_out",
        "lora_dropout",
    ),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size"),
)
"""Settings that change nothing of what a trained adapter adds: where it lies, how it was begun and trained."""

BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
"""Values of init_lora_weights that leave the base as it is. PiSSA, OLoRA, CorDA, LoRA-GA and LoftQ take a part out of
its weights, so that the adapter alone is not what was learnt."""


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
    with replacing(folder / WEIGHTS) as partial:
        save_file({name: part.contiguous().cpu() for name, part in tensors.items()}, partial)
    write_text(folder / CONFIG, json.dumps(settings, indent=2) + "\n")
    return rank


def read_adapter(folder: Path) -> Adapter:
    """Reads a plain LoRA adapter as PEFT saves it.

    Raises:
        ValueError: files are missing or damaged, or it is more than a plain LoRA of linear layers.
    """
    settings, state = _read(folder)
    _check_settings(folder, settings)
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        name, _, half = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        if half not in ("lora_A", "lora_B") or not key.startswith(PREFIX) or tensor.dim() != 2:
            raise ValueError(
                f"{folder / WEIGHTS} holds {key} of the shape {tuple(tensor.shape)}, expected lora_A and lora_B of "
                "linear layers alone; only a plain LoRA can become an expert"
            )
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{folder / WEIGHTS} holds numbers that are not finite in {key}; copy it again")
        halves.setdefault(name, {})[half] = tensor
    if half_ones := [name for name, parts in halves.items() if len(parts) < 2]:
        raise ValueError(f"{folder / WEIGHTS} holds one half of the LoRA of {half_ones[0]}; copy it again")
    if not halves:
        raise ValueError(f"{folder / WEIGHTS} holds no LoRA of any layer")
    scales = {name: _scale(folder, name, settings, parts) for name, parts in halves.items()}
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
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder} cannot be read as an adapter: {' '.join(str(error).split())}") from None
    kind = settings.get("peft_type") if isinstance(settings, dict) else None
    if kind != "LORA":
        raise ValueError(
            f"{folder / CONFIG} is of the kind {kind}, expected LORA; no other becomes an expert"
        )
    return settings, state


def _check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuses settings that make more of an adapter than B A over its base."""
    for key, value in settings.items():
        if key in REFUSED and value not in (None, False, [], {}):
            raise ValueError(
                f"the adapter in {folder} uses {REFUSED[key]}; only a plain LoRA can become an expert"
            )
        if key not in (*REFUSED, *READ, *WITHOUT_EFFECT) and value:
            raise ValueError(
                f"the adapter in {folder} has the setting {key}: {value!r:.60}, of which nothing is known here; only "
                "a plain LoRA can become an expert"
            )
    begun = settings.get("init_lora_weights", True)
    if not isinstance(begun, bool | str | None) or begun not in BEGINNINGS:
        raise ValueError(
            f"the adapter in {folder} was begun by init_lora_weights: {begun!r}, which takes a part out of the base "
            "weights: without it the adapter is not what was learnt. Save it as a plain LoRA, by "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...) of PEFT"
        )


def _scale(folder: Path, name: str, settings: Mapping[str, Any], parts: Mapping[str, Tensor]) -> float:
    """Alpha / r of one layer, or alpha / sqrt(r) for a rank-stabilised LoRA.

    Raises:
        ValueError: the settings are none of these, or mean another rank than the tensors have.
    """
    alpha = _of_layer(folder, name, settings, "alpha_pattern", "lora_alpha")
    rank = _of_layer(folder, name, settings, "rank_pattern", "r")
    found = len(parts["lora_A"])
    if found != rank or parts["lora_B"].shape[1] != rank:
        raise ValueError(
            f"{folder / CONFIG} says that the LoRA of {name} has rank {rank:g}, but its matrices are "
            f"{tuple(parts['lora_A'].shape)} and {tuple(parts['lora_B'].shape)}; copy both files again"
        )
    return alpha / (rank**0.5 if settings.get("use_rslora") else rank)


def _of_layer(folder: Path, name: str, settings: Mapping[str, Any], pattern: str, default: str) -> float:
    """A number of one layer: of the first pattern that its name ends with, as PEFT reads them, or the default."""
    patterns = settings.get(pattern) or {}
    try:
        own = [value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name)]
        value = own[0] if own else settings[default]
        number = float(value)
    except (KeyError, TypeError, ValueError, AttributeError, re.error) as error:
        raise ValueError(
            f"{folder / CONFIG} cannot be read: expected numbers by name or regular expression in {pattern}, and a "
            f"number as {default} ({type(error).__name__}: {error})"
        ) from None
    if isinstance(value, bool | str) or not 0 < number < float("inf"):
        raise ValueError(
            f"{folder / CONFIG} has {value!r} as {default} of {name}, expected a positive number"
        )
    return number
