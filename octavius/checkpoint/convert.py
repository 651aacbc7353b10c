"""Imports published Octavius checkpoints and PEFT LoRA adapters as a checkpoint that runs can start from."""

from pathlib import Path
from typing import Any

import lightning as L
import torch

from octavius.checkpoint.peft_format import CONFIG, read_adapter
from octavius.lora_moe.merge import layers_of
from octavius.options import OptionParser
from octavius.published.checkpoint import fill_published, read_published
from octavius.training import OctaviusModule


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
    model = module.model
    if model.lora is None:
        raise ValueError(
            "the configuration has no experts to fill; give it `lora`, such as lora: {experts: 4}"
        )
    if file.is_dir() and (file / CONFIG).is_file():
        return fill_first_expert(module, file, base)
    return fill_published(model.decoder.lm, model.lora, model.gate, model.projectors, read_published(file))


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
    option_parser = OptionParser(
        prog="octavius import",
        description="Make a checkpoint from a file of other programs: a published checkpoint of Octavius (.pt), or a "
        "folder with a LoRA adapter of PEFT, which becomes expert 0. `octavius fit`, `test` and `predict` take it "
        "by --ckpt; a fit begins at step 0.",
        epilog="The model that it fills is that of --config, as for `octavius fit`; any option of `fit` may follow, "
        "for instance --model.init_args.decoder.init_args.name vicuna-13b-v0. See docs/import-export.md.",
    )
    option_parser.add_argument("file", type=Path, help="a published checkpoint, or the folder of an adapter")
    option_parser.add_argument(
        "--out", type=Path, required=True, help="checkpoint to write, such as checkpoints/start.ckpt"
    )
    option_parser.add_argument(
        "--base", help="how the adapter calls the language model, if it is called otherwise here"
    )
    return option_parser
