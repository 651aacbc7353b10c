"""Reading and writing of LoRA adapters in PEFT's file format, without PEFT itself.

Adapters that are read must be plain LoRAs of linear layers, y = W x + scale * B A x with unchanged base weights W.
Every other option of PEFT is either known to have no effect on that, or refused with the reason.
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

from octavius.files import atomic_write, read_text, write_text

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Prefix of layer names in PEFT's files, from the two modules that PEFT wraps around a model."""

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
"""Settings of PEFT by which an adapter is more than B A over its base, described for error messages."""

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
"""Settings that are read here. Which layers have an adapter follows from the tensors, not from `target_modules`."""

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
"""Settings without effect on the output of a trained adapter: its targets, initialisation and training."""

BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
"""Values of init_lora_weights that leave the base unchanged. PiSSA, OLoRA, CorDA, LoRA-GA and LoftQ subtract a part
from its weights, so the adapter alone is not what was learnt."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as read from its folder.

    Attributes:
        base: name of the language model that it was trained on; empty if not recorded.
        pairs: layer name to A (r, D) and B (D_out, r), as stored.
        scales: layer name to the factor of B A x: alpha / r, or alpha / sqrt(r) with rsLoRA.
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
    """Writes an adapter that `peft.PeftModel.from_pretrained` can load.

    Args:
        folder: folder to write to; created if missing.
        base: name of the language model: a hub id or a folder.
        pairs: layer name, A (r, D) and B (D_out, r); ranks may differ between layers.
        scale: factor of B A x, stored as lora_alpha / r.
        turned: whether the layers are `Conv1D`, as in GPT-2, whose weights are stored transposed.

    Returns:
        The rank of the adapter, the largest of its layers.
    """
    kept = {name: (down, up) for name, down, up in pairs}
    # All layers get the largest rank, padded with zeros: not every program supports `rank_pattern` (vLLM does not).
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
    with atomic_write(folder / WEIGHTS) as partial:
        save_file({name: part.contiguous().cpu() for name, part in tensors.items()}, partial)
    write_text(folder / CONFIG, json.dumps(settings, indent=2) + "\n")
    return rank


def read_adapter(folder: Path) -> Adapter:
    """Reads a plain LoRA adapter as PEFT saves it.

    Raises:
        ValueError: files are missing or damaged, or the adapter is not a plain LoRA of linear layers.
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
    """Reads settings and tensors, and checks that they are of a LoRA."""
    if missing := [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]:
        raise ValueError(f"{folder} has no {' and no '.join(missing)}; a LoRA that PEFT saved has both")
    try:
        settings = json.loads(read_text(folder / CONFIG))
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
    """Refuses settings by which an adapter is more than B A over its base."""
    for key, value in settings.items():
        # PEFT writes all its settings, those that are switched off as null, false or empty.
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
    """Scale of one layer: alpha / r, or alpha / sqrt(r) for a rank-stabilised LoRA (rsLoRA).

    Raises:
        ValueError: alpha or rank is not a positive number, or the tensors have another rank.
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
    """A setting of one layer: that of the first pattern matching the end of its name, as in PEFT, or the default."""
    patterns = settings.get(pattern) or {}
    try:
        matching = [value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name)]
        value = matching[0] if matching else settings[default]
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
