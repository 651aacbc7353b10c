"""Imports published Octavius checkpoints and PEFT LoRA adapters as a checkpoint that runs can start from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import lightning as L
import torch
from torch import Tensor

from octavius.checkpoint.peft_format import CONFIG, Adapter, read_adapter
from octavius.decoder.decoder import Decoder
from octavius.lora_moe.layer import LoRAMoELinear
from octavius.lora_moe.merge import layers_of
from octavius.options import OptionParser
from octavius.published.checkpoint import fill_published, read_published
from octavius.training import OctaviusModule

Adapters: TypeAlias = list[tuple[Path, Adapter]]
"""Adapters with their folders, in the order of the experts that they become."""


def read_source(files: Sequence[Path]) -> dict[str, Tensor] | Adapters:
    """Reads a published checkpoint of Octavius (.pt), or folders that PEFT wrote.

    Raises:
        ValueError: a file is missing or neither, or an adapter is not a plain LoRA.
    """
    for file in files:
        if not file.exists():
            raise ValueError(f"there is no {file.absolute()}; name a published checkpoint or a LoRA's folder")
    if len(files) == 1 and not (files[0] / CONFIG).is_file():
        return read_published(files[0])
    return [(file, read_adapter(file)) for file in files]


def import_into(module: OctaviusModule, source: dict[str, Tensor] | Adapters, base: str | None = None) -> str:
    """Loads the weights of another program's files into a new model.

    Args:
        module: the model.
        source: what `read_source` read.
        base: name of the language model in the adapters, if it differs from the name here.

    Returns:
        One line that says what was loaded.

    Raises:
        ValueError: they do not fit the model.
    """
    model = module.model
    if model.lora is None:
        raise ValueError(
            "the configuration has no experts to fill; give it `lora`, such as lora: {experts: 4}"
        )
    if isinstance(source, list):
        return fill_experts(module, source, base)
    return fill_published(model.decoder.lm, model.lora, model.gate, model.projectors, source)


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


def fill_experts(module: OctaviusModule, adapters: Adapters, base: str | None) -> str:
    """Loads plain LoRA adapters as experts 0, 1, ...; further experts and the gate keep their initial values.

    Layers without an adapter, and ranks beyond that of the adapter, contribute zero at first.

    Raises:
        ValueError: an adapter is for another language model or other layers, or has a higher rank, or there are
            more adapters than experts.
    """
    layers = layers_of(module.model.decoder.lm)
    for folder, adapter in adapters:
        _check_base(folder, adapter, base or module.model.decoder.name)
    _check_layers(adapters, layers, module.model.decoder)
    for index, (folder, adapter) in enumerate(adapters):
        for name, (down, up) in adapter.pairs.items():
            layer = layers[name]
            if index >= layer.experts:
                raise ValueError(
                    f"there are {len(adapters)} adapters, but {name} has {layer.experts} experts; set "
                    f"lora.experts: {len(adapters)}"
                )
            _fill(
                layer,
                index,
                f"the adapter in {folder}",
                name,
                down,
                up * (adapter.scales[name] / layer.scale),
            )
    filled = {name for _, adapter in adapters for name in adapter.pairs}
    count = f"{len(filled)} of {len(layers)}" if len(filled) < len(layers) else f"{len(layers)}"
    ranks = sorted({len(down) for _, adapter in adapters for down, _ in adapter.pairs.values()})
    said = "rank " + " to ".join(map(str, ranks if len(ranks) < 2 else (ranks[0], ranks[-1])))
    if len(adapters) == 1:
        return f"expert 0 of {count} layers from an adapter of {said}; all else begins anew"
    return (
        f"experts 0 to {len(adapters) - 1} of {count} layers from {len(adapters)} adapters of {said}; "
        "all else begins anew"
    )


def _check_base(folder: Path, adapter: Adapter, called: str) -> None:
    """Checks the name of the language model that an adapter was trained on."""
    if adapter.base and Path(adapter.base).name.lower() != Path(called).name.lower():
        raise ValueError(
            f"the adapter in {folder} is of the base {adapter.base}, but the decoder is {called}; name that one, "
            f"or say by --base {adapter.base} that they are the same"
        )


def _check_layers(adapters: Adapters, layers: dict[str, LoRAMoELinear], decoder: Decoder) -> None:
    """Checks that the layers of all adapters have experts, of a rank that is high enough."""
    needed = {name for _, adapter in adapters for name in adapter.pairs}
    tuned = set(decoder.tuned.modules())
    beside = {name for name, part in decoder.lm.named_modules() if part not in tuned}
    ends = {name.rpartition(".")[2] for name in layers}
    highest = max(len(down) for _, adapter in adapters for down, _ in adapter.pairs.values())
    for folder, adapter in adapters:
        if extra := sorted(adapter.pairs.keys() - layers.keys()):
            advice = (
                "Set lora.targets to what the adapters have: "
                f"{sorted({name.rpartition('.')[2] for name in needed})}"
            )
            if outside := sorted(beside.intersection(extra)):
                extra, advice = (
                    outside,
                    "Experts are in the language part alone: train the adapter without these",
                )
            elif ends.issuperset(name.rpartition(".")[2] for name in extra):
                advice = f"The names here are such as {next(iter(layers))}: was it trained on another base?"
            raise ValueError(
                f"the adapter in {folder} is of other layers: {len(extra)} of it get no experts here, such as "
                f"{', '.join(extra[:3])}. {advice}"
            )
        if (own := max(len(down) for down, _ in adapter.pairs.values())) > (
            rank := min(layers[name].rank for name in adapter.pairs)
        ):
            raise ValueError(
                f"the adapter in {folder} has a rank of up to {own}, the experts have rank {rank}; set "
                f"lora.rank: {highest}"
            )


@torch.no_grad()
def _fill(layer: LoRAMoELinear, expert: int, whose: str, name: str, down: Tensor, up: Tensor) -> None:
    """Sets A (r, D) and B (D_out, r) of one expert; its further ranks keep their initial values, with B = 0."""
    if layer.shared_a:
        raise ValueError(
            f"the experts of this configuration share A, so that A of {whose} would change all of them; set "
            "lora.shared_a: false"
        )
    if (down.shape[1], len(up)) != (layer.in_features, layer.out_features):
        raise ValueError(
            f"{whose} is of another base: {name} maps {down.shape[1]} to {len(up)} there, and "
            f"{layer.in_features} to {layer.out_features} here"
        )
    first = expert * layer.rank
    layer.lora_A[first : first + len(down)] = down
    layer.lora_B[:, first : first + len(down)] = up


def parser() -> OptionParser:
    """The options of the command itself; all others are passed on as for `octavius fit`."""
    option_parser = OptionParser(
        prog="octavius import",
        description="Make a checkpoint to start from: of a published checkpoint of Octavius (.pt), of folders "
        "with LoRA adapters of PEFT, which become experts 0, 1, ..., or of a checkpoint of Octavius (.ckpt), to "
        "which experts may be added. `octavius fit`, `test` and `predict` take it by --ckpt; a fit begins at step 0.",
        epilog="The model that it fills is that of --config (or of the .ckpt); any option of `fit` may follow, "
        "for instance --model.init_args.decoder.init_args.name vicuna-13b-v0. See docs/import-export.md.",
    )
    option_parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="file",
        help="a checkpoint, or the folders of adapters",
    )
    option_parser.add_argument(
        "--out", type=Path, required=True, help="checkpoint to write, such as checkpoints/start.ckpt"
    )
    option_parser.add_argument(
        "--add-experts",
        type=int,
        default=0,
        metavar="N",
        help="of a checkpoint of Octavius: experts to add, which alone are trained then (default: 0)",
    )
    option_parser.add_argument(
        "--base", help="how the adapters call the language model, if it is called otherwise here"
    )
    return option_parser
