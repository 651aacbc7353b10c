"""Loads the published checkpoints of Octavius: names, orientations and scales of their tensors."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from octavius.checkpoint_format.bounds import check_torch_file
from octavius.checkpoint_format.seal import check_seal
from octavius.checkpoint_format.weights import load_exactly, part_of, trainable_names
from octavius.encoders.projector import LinearProjector
from octavius.encoders.rois.object_as_scene import ObjectAsScene
from octavius.lora_moe import LoRAMoEConfig, adapter_parameters
from octavius.lora_moe.gates.base import Gate
from octavius.lora_moe.gates.published import PublishedGate
from octavius.lora_moe.merge import layers_of
from octavius.published.reader import fill_reader

LLM = "llama_model.base_model.model."
"""Prefix of the language model's tensors in a published checkpoint."""

GATE = "gating_network.w_gating"
PARTS = (LLM, "gating_network.", "llama_proj.", "resampler_3d.", "pos_3d_proj.", "llama_proj_3d.")
CLOUD = PARTS[3:]


def read_published(file: Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint by name.

    Raises:
        ValueError: it cannot be read, or is something else.
    """
    try:
        check_seal(file)  # a published archive has a CRC-32 for each tensor
        check_torch_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"{file} cannot be read: expected a published checkpoint of Octavius (.pt), or a folder with "
            f"adapter_config.json that PEFT wrote ({reason})"
        ) from None
    if isinstance(state, Mapping) and "state_dict" in state:
        raise ValueError(f"{file} is a checkpoint of this program already; use it as it is, by --ckpt {file}")
    tensors = isinstance(state, Mapping) and all(
        isinstance(name, str) and isinstance(part, Tensor) for name, part in state.items()
    )
    if not tensors or not any(".lora_moe_A." in name for name in state):
        raise ValueError(
            f"{file} is no published checkpoint of Octavius: expected tensors such as {LLM}model.layers.0."
            f"self_attn.q_proj.lora_moe_A.default and {GATE}, and found none of them"
        )
    return dict(state)


def fill_published(
    lm: nn.Module,
    lora: LoRAMoEConfig,
    gate: Gate | None,
    projectors: nn.ModuleDict,
    state: Mapping[str, Tensor],
) -> str:
    """Loads experts, gate, projectors and, if both the file and the model train them, word embeddings.

    Args:
        lm: the language model with its experts.
        lora: the settings of the experts.
        gate: the gate; None for a single expert.
        projectors: modality to projector.
        state: the tensors of the file, see `read_published`.

    Returns:
        One line that says what was loaded.

    Raises:
        ValueError: the tensors do not match the model.
    """
    if unknown := sorted(name for name in state if not name.startswith(PARTS)):
        raise ValueError(f"the file holds {', '.join(unknown[:3])}, which no published checkpoint has")
    fill_language_model(lm, lora, part_of(state, LLM))
    if gate is not None:
        fill_gate(gate, state)
    image = {f"linear.{name}": part for name, part in part_of(state, "llama_proj.").items()}
    cloud = {name: part for name, part in state.items() if name.startswith(CLOUD)}
    kinds: tuple[tuple[str, dict[str, Tensor], type[nn.Module]], ...]
    kinds = ("image", image, LinearProjector), ("cloud", cloud, ObjectAsScene)
    for kind, tensors, wanted in kinds:
        names = [name for name, projector in projectors.items() if isinstance(projector, wanted)]
        if len(names) != bool(tensors):
            holds = "holds" if tensors else "holds no"
            raise ValueError(
                f"the file {holds} tensors of the {kind} projector, but the configuration has {names or 'none'}; "
                "give it the encoders that the file was trained with"
            )
        projector = projectors[names[0]] if names else None
        if isinstance(projector, LinearProjector):
            load_exactly(projector, tensors, projector.state_dict(), Path("llama_proj of the file"))
        elif isinstance(projector, ObjectAsScene):
            fill_reader(tensors, projector)
    return f"{lora.experts} experts, gate and {', '.join(projectors)} projectors of a published checkpoint"


def fill_language_model(lm: nn.Module, lora: LoRAMoEConfig, tensors: Mapping[str, Tensor]) -> None:
    """Loads the experts and any word embeddings that were trained with them.

    The published code stores A as (E, D, R) and B as (E, R, D_out); here A is (E*R, D) and B (D_out, E*R).
    """
    layers = layers_of(lm)
    first = next(part for name, part in tensors.items() if ".lora_moe_A." in name)
    if first.dim() != 3 or (first.shape[0], first.shape[2]) != (lora.experts, lora.rank):
        raise ValueError(
            f"the file's experts are {tuple(first.shape)}, experts by width by rank, but the configuration has "
            f"{lora.experts} experts of rank {lora.rank}; set lora.experts and lora.rank to the file's"
        )
    state = {}
    for name, tensor in tensors.items():
        layer, moe, half = name.removesuffix(".default").rpartition(".lora_moe_")
        # The published code scales by 1, ignoring alpha; dividing B by our scale below makes up for it.
        scale = layers[layer].scale if layer in layers else 1.0
        if not moe:
            state[name] = tensor
        elif half == "A":  # (E, D, R)
            state[f"{layer}.lora_A"] = tensor.transpose(1, 2).flatten(0, 1)
        else:  # (E, R, D_out)
            state[f"{layer}.lora_B"] = tensor.permute(2, 0, 1).flatten(1) / scale
    wanted = {*trainable_names(lm), *adapter_parameters(lm)}
    embeddings = sorted(name for name in tensors if ".lora_moe_" not in name)
    if embeddings and not any(".lora_" not in name for name in wanted):
        raise ValueError(
            f"the file holds {' and '.join(embeddings)}, which the published code trains with the experts; set "
            "tag_tokens: true in the configuration, as --config published.yaml does"
        )
    rows = {name: len(part) for name, part in lm.state_dict().items() if name in embeddings}
    for name, count in rows.items():
        if len(tensors[name]) != count:
            raise ValueError(
                f"{name} has {len(tensors[name])} rows in the file, and {count} here, one for each token of the "
                "tokenizer with a spare one and the tags of the media; take the tokenizer of the file's language "
                "model (Vicuna-13B v0), and the encoders that it was trained with"
            )
    load_exactly(lm, state, wanted, Path("the file's language model"))


def fill_gate(gate: Gate, state: Mapping[str, Tensor]) -> None:
    """Loads the gate, which is stored as (D, E).

    Raises:
        ValueError: the file has none, or the gate of the model computes something else from it.
    """
    if GATE not in state:
        raise ValueError(f"the file has no {GATE}; copy it again")
    if not isinstance(gate, PublishedGate):
        raise ValueError(
            f"the gate of the file scores plain means of word embeddings, which {type(gate).__name__} does not; set "
            "lora.gate: published, as --config published.yaml does"
        )
    load_exactly(gate, {"weight": state[GATE].T}, {"weight"}, Path("the gate of the file"))
