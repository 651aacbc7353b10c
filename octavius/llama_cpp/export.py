"""Writes a model for llama-server: the language model, an adapter for each expert, and the gate."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import gguf
import torch

from octavius.checkpoint_format.weights import fingerprint
from octavius.llama_cpp.base import Layout, write_base
from octavius.llama_cpp.gate import check_gate, write_gate
from octavius.lora_moe.merge import fold, layers_of
from octavius.training import OctaviusModule

DIGITS = 8
"""Digits of a checksum in the name of each file, by which the server's files are told from those of another export."""


def check_exportable(module: OctaviusModule) -> Layout:
    """Checks that a model can be written for llama-server; returns the layout of its tensors.

    Raises:
        ValueError: its gate has no single weight for each expert and question, its language model is quantised or of
            an unsupported architecture, or experts are on layers that GGUF has no name for.
    """
    check_gate(module)
    decoder = module.model.decoder
    return Layout(decoder.lm, decoder.tokenizer)


def write_gguf(module: OctaviusModule, layout: Layout, folder: Path) -> None:
    """Writes the base, an adapter for each expert, the gate, and the command that starts llama-server.

    Args:
        module: the model.
        layout: from `check_exportable`.
        folder: an empty folder.
    """
    decoder = module.model.decoder
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
    tensors, rank = {}, 0
    # Scale alpha / r is in B already, and llama.cpp multiplies by alpha over the rank it finds: alpha is that rank.
    for name, down, up in fold(module.model.decoder.lm, (torch.arange(count) == index).float()):
        place = layout.name(f"{name}.weight")
        tensors |= {f"{place}.lora_a": down, f"{place}.lora_b": up}
        rank = len(down)
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[layout.architecture.kind])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(rank))
    partial = folder / f"expert{index}.gguf"
    layout.write(writer, partial, tensors)
    digest = sha256(partial.read_bytes()).hexdigest()[:DIGITS]
    return partial.rename(folder / f"expert{index}-{digest}.gguf").name


def commands(base: str, experts: Sequence[str], folder: str) -> str:
    """The shell commands that serve an export."""
    adapters = "".join(f" \\\n    --lora {folder}/{name}" for name in experts)
    return (
        f"llama-server --model {folder}/{base}{adapters} \\\n    --port 8080\n"
        f"octavius serve --backend llama-server --ckpt {folder} --url http://127.0.0.1:8080"
    )
