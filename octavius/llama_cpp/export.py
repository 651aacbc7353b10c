"""Writes a model for llama-server: the language model, an adapter for each expert, and the gate."""

from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from octavius.checkpoint_format.weights import fingerprint
from octavius.llama_cpp.base import Layout, write_base
from octavius.llama_cpp.gate import check_gate, write_gate
from octavius.lora_moe.merge import fold, layers_of
from octavius.training import OctaviusModule

DIGITS = 8
"""Digits of a checksum in the name of each file, which tell the files of one export from those of another."""


def check_exportable(module: OctaviusModule) -> None:
    """Checks that a model can be written for llama-server.

    Raises:
        ValueError: its gate has no single weight for each expert and question, its language model is quantised or of
            an unsupported architecture, experts are on layers that GGUF has no name for, or the package gguf is
            missing.
    """
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise ValueError(
            "--format gguf needs the package gguf: pip install 'octavius[gguf]', or in a checkout "
            "pip install -e '.[gguf]' -c constraints.txt"
        ) from None
    check_gate(module)
    layout_of(module)


def layout_of(module: OctaviusModule) -> Layout:
    """The layout of the tensors of a model's language model."""
    return Layout(module.model.decoder.lm, module.model.decoder.tokenizer)


def write_gguf(module: OctaviusModule, folder: Path) -> None:
    """Writes the base, an adapter for each expert, and the gate.

    Args:
        module: the model; see `check_exportable`.
        folder: an empty folder.
    """
    decoder, layout = module.model.decoder, layout_of(module)
    base = f"base-{fingerprint(module)[:DIGITS]}.gguf"
    write_base(folder / base, Path(decoder.name).name, decoder.lm, layout)
    count = next(iter(layers_of(decoder.lm).values())).experts
    experts = [write_expert(folder, index, count, module, layout) for index in range(count)]
    write_gate(folder, module, base, experts)


def write_expert(folder: Path, index: int, count: int, module: OctaviusModule, layout: Layout) -> str:
    """Writes one expert as an adapter whose effect at scale 1 is that of gate weight 1; returns its file name.

    Args:
        folder: folder of the export.
        index: index of the expert.
        count: number of experts.
        module: the model.
        layout: layout of its language model.
    """
    import gguf

    tensors: dict[str, Tensor] = {}
    rank = 0
    # Scale alpha / r is in B already, and llama.cpp multiplies by alpha over the rank it finds: alpha is that rank.
    for name, down, up in fold(module.model.decoder.lm, (torch.arange(count) == index).float()):
        place = layout.name(f"{name}.weight")
        tensors |= {f"{place}.lora_a": down, f"{place}.lora_b": up}
        rank = len(down)
    writer = gguf.GGUFWriter(None, layout.architecture.kind)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(rank))
    partial = folder / f"expert{index}.gguf"
    layout.write(writer, partial, tensors)
    digest = sha256(partial.read_bytes()).hexdigest()[:DIGITS]
    return partial.rename(folder / f"expert{index}-{digest}.gguf").name
