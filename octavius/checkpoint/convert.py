"""Imports published Octavius checkpoints and PEFT LoRA adapters as a checkpoint that runs can start from."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from octavius.checkpoint.peft_format import CONFIG, read_adapter
from octavius.checkpoint_format.seal import check_seal
from octavius.checkpoint_format.weights import load_exactly, part_of, trainable_names
from octavius.encoders.projector import LinearProjector
from octavius.encoders.rois.object_as_scene import ObjectAsScene, import_published
from octavius.lora_moe.merge import layers_of
from octavius.options import OptionParser
from octavius.training import OctaviusModule

LLM = "llama_model.base_model.model."
"""Prefix of the language model's tensors in a published checkpoint."""

GATE = "gating_network.w_gating"
PARTS = (LLM, "gating_network.", "llama_proj.", "resampler_3d.", "pos_3d_proj.", "llama_proj_3d.")
CLOUD = PARTS[3:]


def import_into(module: OctaviusModule, file: Path, base: str | None = None) -> str:
    """Loads the weights of another program's file into a new model.

    Args:
        module: the model.
        file: a published checkpoint of Octavius (.pt), or a folder that PEFT wrote.
        base: name of the language model in the adapter, if it differs from the name here.

    Returns:
        One line that says what was loaded.

    Raises:
        ValueError: the file is neither, or does not fit the model.
    """
    if module.model.lora is None:
        raise ValueError(
            "the configuration has no experts to fill; give it `lora`, such as lora: {experts: 4}"
        )
    if file.is_dir() and (file / CONFIG).is_file():
        return fill_first_expert(module, file, base)
    return fill_published(module, read_published(file))


def start_of(module: OctaviusModule) -> dict[str, Any]:
    """A checkpoint before the first step: the trainable tensors, without optimizer state."""
    checkpoint: dict[str, Any] = {
        "state_dict": module.state_dict(),
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": L.__version__,
        "optimizer_states": [],
        "lr_schedulers": [],
        "callbacks": {},
    }
    module.on_save_checkpoint(checkpoint)
    return checkpoint


def read_published(file: Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint by name.

    Raises:
        ValueError: it cannot be read, or is something else.
    """
    try:
        check_seal(file)  # a published archive has a CRC-32 for each tensor
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"{file} cannot be read: expected a published checkpoint of Octavius (.pt), or a folder with "
            f"{CONFIG} that PEFT wrote ({reason})"
        ) from None
    if isinstance(state, Mapping) and "state_dict" in state:
        raise ValueError(f"{file} is a checkpoint of this program already; use it as it is, by --ckpt {file}")
    tensors = isinstance(state, Mapping) and all(isinstance(part, Tensor) for part in state.values())
    if not tensors or not any(".lora_moe_A." in name for name in state):
        raise ValueError(
            f"{file} is no published checkpoint of Octavius: expected tensors such as {LLM}model.layers.0."
            f"self_attn.q_proj.lora_moe_A.default and {GATE}, and found none of them"
        )
    return dict(state)


def fill_published(module: OctaviusModule, state: Mapping[str, Tensor]) -> str:
    """Loads experts, gate, projectors and, if both the file and the model train them, word embeddings.

    Returns:
        One line that says what was loaded.

    Raises:
        ValueError: the tensors do not match the model.
    """
    model = module.model
    if unknown := sorted(name for name in state if not name.startswith(PARTS)):
        raise ValueError(f"the file holds {', '.join(unknown[:3])}, which no published checkpoint has")
    fill_language_model(module, part_of(state, LLM))
    fill_gate(module, state)
    image = {f"linear.{name}": part for name, part in part_of(state, "llama_proj.").items()}
    cloud = {name: part for name, part in state.items() if name.startswith(CLOUD)}
    kinds: tuple[tuple[str, dict[str, Tensor], type[nn.Module]], ...]
    kinds = ("image", image, LinearProjector), ("cloud", cloud, ObjectAsScene)
    for kind, tensors, wanted in kinds:
        names = [name for name, projector in model.projectors.items() if isinstance(projector, wanted)]
        if len(names) != bool(tensors):
            holds = "holds" if tensors else "holds no"
            raise ValueError(
                f"the file {holds} tensors of the {kind} projector, but the configuration has {names or 'none'}; "
                "give it the encoders that the file was trained with"
            )
        projector = model.projectors[names[0]] if names else None
        if isinstance(projector, LinearProjector):
            load_exactly(projector, tensors, projector.state_dict(), Path("llama_proj of the file"))
        elif isinstance(projector, ObjectAsScene):
            import_published(tensors, projector)
    experts = model.lora.experts if model.lora else 0
    return f"{experts} experts, gate and {', '.join(model.projectors)} projectors of a published checkpoint"


def fill_language_model(module: OctaviusModule, tensors: Mapping[str, Tensor]) -> None:
    """Loads the experts and any word embeddings that were trained with them.

    The published code stores A as (E, D, R) and B as (E, R, D_out); here A is (E*R, D) and B (D_out, E*R).
    """
    lm, lora, layers = module.model.decoder.lm, module.model.lora, layers_of(module.model.decoder.lm)
    assert lora is not None
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
    wanted = trainable_names(lm)
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


def fill_gate(module: OctaviusModule, state: Mapping[str, Tensor]) -> None:
    """Loads the gate, which is stored as (D, E)."""
    gate = module.model.gate
    if gate is None:
        return
    if GATE not in state:
        raise ValueError(f"the file has no {GATE}; copy it again")
    gate.fill_published(state[GATE])


@torch.no_grad()
def fill_first_expert(module: OctaviusModule, folder: Path, base: str | None) -> str:
    """Loads a plain LoRA adapter as expert 0; the other experts and the gate keep their initial values.

    Layers without an adapter, and ranks beyond that of the adapter, contribute zero at first.

    Raises:
        ValueError: the adapter is for another language model or other layers, or has a higher rank.
    """
    decoder, adapter = module.model.decoder, read_adapter(folder)
    layers, called = layers_of(decoder.lm), base or decoder.name
    if adapter.base and Path(adapter.base).name.lower() != Path(called).name.lower():
        raise ValueError(
            f"the adapter in {folder} is of the base {adapter.base}, but the decoder is {called}; name that one, "
            f"or say by --base {adapter.base} that they are the same"
        )
    if extra := sorted(adapter.pairs.keys() - layers.keys()):
        raise ValueError(
            f"the adapter in {folder} is of other layers: {len(extra)} of it get no experts here, such as "
            f"{', '.join(extra[:3])}. Set lora.targets to the adapter's: "
            f"{sorted({name.rpartition('.')[2] for name in adapter.pairs})}"
        )
    highest = max(len(down) for down, _ in adapter.pairs.values())
    for name, (down, up) in adapter.pairs.items():
        layer = layers[name]
        if highest > layer.rank:
            raise ValueError(
                f"the adapter in {folder} has a rank of up to {highest}, the experts have rank {layer.rank}; set "
                f"lora.rank: {highest}"
            )
        if layer.shared_a:
            raise ValueError(
                f"the experts of this configuration share A, so that A of the adapter in {folder} would change "
                "all of them; set lora.shared_a: false"
            )
        if (down.shape[1], len(up)) != (layer.in_features, layer.out_features):
            raise ValueError(
                f"the adapter in {folder} is of another base: {name} maps {down.shape[1]} to {len(up)} there, and "
                f"{layer.in_features} to {layer.out_features} here"
            )
        rank = len(down)  # further ranks keep their initial values, with B = 0
        layer.lora_A[:rank] = down
        layer.lora_B[:, :rank] = up * (adapter.scales[name] / layer.scale)
    count = f"{len(adapter.pairs)} of {len(layers)}" if len(adapter.pairs) < len(layers) else f"{len(layers)}"
    return f"expert 0 of {count} layers from an adapter of rank {highest}; all else begins anew"


def parser() -> OptionParser:
    """The options of the command itself; all others are passed on as for `octavius fit`."""
    made = OptionParser(
        prog="octavius import",
        description="Make a checkpoint from a file of other programs: a published checkpoint of Octavius (.pt), or a "
        "folder with a LoRA adapter of PEFT, which becomes expert 0. `octavius fit`, `test` and `predict` take it "
        "by --ckpt; a fit begins at step 0.",
        epilog="The model that it fills is that of --config, as for `octavius fit`; any option of `fit` may follow, "
        "for instance --model.init_args.decoder.init_args.name vicuna-13b-v0. See docs/import-export.md.",
    )
    made.add_argument("file", type=Path, help="a published checkpoint, or the folder of an adapter")
    made.add_argument(
        "--out", type=Path, required=True, help="checkpoint to write, such as checkpoints/start.ckpt"
    )
    made.add_argument(
        "--base", help="how the adapter calls the language model, if it is called otherwise here"
    )
    return made
