"""The frozen language model as a GGUF file of llama.cpp, for architectures that are LLaMA's or close to it.

Tensor names are those of the package `gguf`. llama.cpp rotates neighbouring pairs of the query and key features of
LLaMA, transformers the first half against the second, so the rows of these projections are permuted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from octavius.instruction.tokenizer import Tokenizer
from octavius.llama_cpp.vocabulary import Vocabulary, vocabulary_of
from octavius.lora_moe.layer import LoRAMoELinear, linear_widths

if TYPE_CHECKING:
    from gguf import GGUFWriter

TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
"""GGUF type of each dtype."""

FACTORS = "rope_freqs.weight"
"""Tensor of the divisors of LLaMA's rotary frequencies."""


@dataclass(frozen=True)
class Architecture:
    """An architecture of transformers that llama.cpp has too.

    Attributes:
        kind: its name in GGUF.
        permuted: whether llama.cpp rotates neighbouring pairs, so that rows of q and k are permuted.
    """

    kind: str
    permuted: bool = False


ARCHITECTURES = {
    "llama": Architecture("llama", permuted=True),
    "mistral": Architecture("llama", permuted=True),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
}
"""Architectures that can be written, by `model_type` of their configuration."""


class Layout:
    """Where the tensors of a language model go in GGUF.

    Raises:
        ValueError: the model cannot be written: another architecture or option, a quantised base, or a tokenizer of
            another kind.
    """

    def __init__(self, lm: PreTrainedModel, tokenizer: Tokenizer) -> None:
        import gguf

        self.config: Any = lm.config
        _check_architecture(self.config)
        _check_weights(lm)
        self.architecture = ARCHITECTURES[self.config.model_type]
        self.vocabulary: Vocabulary = vocabulary_of(tokenizer, self.config.vocab_size)
        [kind] = [kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == self.architecture.kind]
        self._names = gguf.get_tensor_name_map(kind, self.config.num_hidden_layers)
        self.factors = _rotary_factors(lm, self.architecture)
        for name, _ in _weights(lm):
            self.name(name)

    def name(self, name: str) -> str:
        """GGUF's name of a parameter.

        Raises:
            ValueError: the architecture has no such tensor.
        """
        found = self._names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ValueError(
                f"the language model has a parameter {name}, for which GGUF's architecture "
                f"{self.architecture.kind} has no place; export it in another format"
            )
        return str(found)

    def write(self, writer: "GGUFWriter", path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Writes a GGUF file, tensor by tensor, so that only one is converted at a time.

        Matrices keep their dtype. Vectors are in fp32, as llama.cpp's kernels expect of norms and biases.

        Args:
            writer: a writer with all metadata.
            path: the file.
            tensors: the tensors by their GGUF name, rows in the order of transformers.
        """
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
        from gguf.quants import quantize

        kinds = {
            name: GGMLQuantizationType[TYPES[tensor.dtype if tensor.dim() > 1 else torch.float32]]
            for name, tensor in tensors.items()
        }
        for name, tensor in tensors.items():
            size = tensor.numel() * GGML_QUANT_SIZES[kinds[name]][1]
            writer.add_tensor_info(name, tuple(tensor.shape), np.dtype(np.float32), size, kinds[name])
        try:
            writer.write_header_to_file(path)
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for name, tensor in tensors.items():
                rows = self._rows(name, tensor.detach()).float().cpu().contiguous()
                writer.write_tensor_data(quantize(rows.numpy(), kinds[name]))
        finally:
            writer.close()

    def _rows(self, name: str, tensor: Tensor) -> Tensor:
        """The rows (D_out, ...) of a tensor in llama.cpp's order."""
        heads = None
        if self.architecture.permuted and not name.endswith(".lora_a"):
            if ".attn_q." in name:
                heads = self.config.num_attention_heads
            elif ".attn_k." in name:
                heads = self.config.num_key_value_heads
        return tensor if heads is None else tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def write_base(path: Path, name: str, lm: PreTrainedModel, layout: Layout) -> None:
    """Writes the language model without its experts, in its own dtype.

    Args:
        path: the GGUF file.
        name: name of the model in its metadata.
        lm: the model, which may have LoRA-MoE layers.
        layout: its layout.
    """
    import gguf

    config = layout.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer = gguf.GGUFWriter(None, layout.architecture.kind)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    layout.vocabulary.add_to(writer)
    tensors = {layout.name(name): weight for name, weight in _weights(lm)}
    if layout.factors is not None:
        tensors[FACTORS] = layout.factors
    layout.write(writer, path, tensors)


def _weights(lm: PreTrainedModel) -> list[tuple[str, Tensor]]:
    """Parameters without those of experts and gates, by the names that they have without LoRA-MoE layers.

    An output layer that is tied to the word embeddings is left out, which llama.cpp takes for tied, unless it has
    experts: their adapters need a tensor of that name.
    """
    routed = {name for name, module in lm.named_modules() if isinstance(module, LoRAMoELinear)}
    embeddings = lm.get_input_embeddings().weight
    found: list[tuple[str, Tensor]] = []
    for name, parameter in lm.named_parameters(remove_duplicate=False):
        layer, _, _ = name.rpartition(".base.")
        if layer in routed:
            name = f"{layer}.{name.rpartition('.base.')[2]}"
        elif (name == "lm_head.weight" and parameter is embeddings) or any(
            name.startswith(f"{layer}.") for layer in routed
        ):
            continue
        found.append((name, parameter))
    return found


def _check_architecture(config: Any) -> None:
    """Refuses architectures and options that GGUF or llama.cpp would compute otherwise."""
    kind = config.model_type
    if kind not in ARCHITECTURES:
        raise ValueError(
            f"language models of the architecture {kind} cannot be written as GGUF here: supported are "
            f"{', '.join(ARCHITECTURES)}. Export the experts with --format experts, and convert both by "
            "the scripts of llama.cpp"
        )
    rope: Mapping[str, Any] = config.rope_parameters
    options = {
        "hidden_act": (config.hidden_act, ("silu",)),
        "sliding_window": (
            getattr(config, "sliding_window", None) if _slides(config) else None,
            (None,),
        ),
        "rope_type": (
            rope.get("rope_type", "default"),
            ("default", "linear", "llama3") if ARCHITECTURES[kind].permuted else ("default",),
        ),
        "partial_rotary_factor": (rope.get("partial_rotary_factor", 1.0), (1.0, None)),
    }
    for name, (value, allowed) in options.items():
        if value not in allowed:
            raise ValueError(
                f"language models of the architecture {kind} can be written as GGUF with {name} "
                f"{' or '.join(map(str, allowed))} only, found {value}"
            )


def _slides(config: Any) -> bool:
    """Whether a layer attends to a window of the text only."""
    kinds = getattr(config, "layer_types", None)
    return kinds is None or any(kind != "full_attention" for kind in kinds)


def _check_weights(lm: PreTrainedModel) -> None:
    """Refuses bases whose weights are quantised, or of a class that may apply them otherwise."""
    for name, module in lm.named_modules():
        if isinstance(module, LoRAMoELinear) or linear_widths(module) is None:
            continue
        weight = getattr(module, "weight", None)
        if type(module) is not nn.Linear or type(weight) is not nn.Parameter or weight.dtype not in TYPES:
            raise ValueError(
                f"{name.removesuffix('.base')} is a {type(module).__name__} with weights of the type "
                f"{getattr(weight, 'dtype', None)}: expected nn.Linear in float32, float16 or bfloat16. A quantised "
                "base cannot be written as GGUF; load it unquantised, and quantise the GGUF file by llama-quantize"
            )


def _rotary_factors(lm: PreTrainedModel, architecture: Architecture) -> Tensor | None:
    """Divisors (head_dim / 2,) of the rotary frequencies; None if they are all 1."""
    if not architecture.permuted:
        return None
    config: Any = lm.config
    frequencies: Tensor = lm.get_submodule("model.rotary_emb").get_buffer("inv_freq").double().cpu()
    width = 2 * len(frequencies)
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
    factors = config.rope_parameters["rope_theta"] ** -exponents / frequencies
    return None if bool((factors - 1).abs().max() < 1e-5) else factors.float()
