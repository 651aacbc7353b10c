"""The gate of an exported model with all that routing needs: its weights, the word embeddings and the tokenizer.

The folder is read without the language model, whose word embeddings alone the gate reads.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from octavius.checkpoint_format.weights import load_exactly
from octavius.files import read_json, write_text
from octavius.folders import check_listed, listed
from octavius.instruction.chat import template_of
from octavius.instruction.prompt import PromptBuilder
from octavius.instruction.tokenizer import load_tokenizer
from octavius.lora_moe.gates import GATES
from octavius.lora_moe.gates.base import Gate, GateInputs, GateSize
from octavius.lora_moe.gates.factory import GateFactory
from octavius.published.prompts import prompt_builder
from octavius.training import OctaviusModule

FOLDER, SETTINGS, TENSORS = "gate", "gate.json", "gate.safetensors"
EMBEDDINGS = "embeddings"
"""Name of the word embeddings (V, D) among the tensors."""


@dataclass(frozen=True)
class ExportedGate:
    """A gate that was read from an exported folder.

    Attributes:
        prompts: builds the prompts.
        gate: the gate; None for a single expert, whose weight is 1.
        embeddings: word embeddings (V, D); empty without a gate.
        base: file name of the language model.
        experts: file name of each of the E experts.
        positions: number of positions that the language model was made for.
    """

    prompts: PromptBuilder
    gate: Gate | None
    embeddings: Tensor
    base: str
    experts: tuple[str, ...]
    positions: int

    @torch.inference_mode()
    def weights(self, ids: Sequence[int]) -> tuple[float, ...]:
        """Weights of the E experts for the token ids that the gate reads of a prompt."""
        if self.gate is None:
            return (1.0,)
        question = F.embedding(torch.tensor([ids]), self.embeddings)
        mask = torch.ones(1, len(ids), dtype=torch.bool)
        [choice] = self.gate.choices(GateInputs(question, mask))
        return tuple(choice.weights[0].tolist())


def check_gate(module: OctaviusModule) -> None:
    """Checks that the question determines one weight for each expert, by a gate that can be read again.

    Raises:
        ValueError: it is otherwise.
    """
    model = module.model
    assert model.lora is not None
    name = model.lora.gate_factory.kind.__name__
    if model.lora.experts == 1:
        return
    said = None
    if model.gate is None:
        said = f"{name} routes each token inside each layer"
    elif model.gate.per_layer:
        said = f"{name} has weights for each layer of the language model"
    elif beside := [part for part in model.gate.reads if part not in ("question", "padding")]:
        said = f"{name} reads {' and '.join(beside)} beside the question"
    elif model.lora.added:
        said = "it has experts that were added later, whose gate the server does not know"
    elif type(model.gate) not in GATES.values():
        said = f"{name} is a class of your own, which the server could not load"
    if said is not None:
        raise ValueError(
            f"this model cannot be exported with --format gguf: {said}, but llama-server takes one scale for each "
            "expert and request, computed from the question by a gate of Octavius. Export it with --format experts, "
            "or a fixed routing with --format hf"
        )


def write_gate(folder: Path, module: OctaviusModule, base: str, experts: Sequence[str]) -> None:
    """Writes the gate with its tokenizer into the folder `gate` of an export.

    Args:
        folder: folder of the export.
        module: the model; see `check_gate`.
        base: file name of the language model.
        experts: file name of each expert.
    """
    model, prompts = module.model, module.processor.prompts
    gate, tensors = model.gate, {}
    settings: dict[str, Any] = {
        "base": base,
        "experts": list(experts),
        "positions": model.decoder.lm.config.max_position_embeddings,
        "max_tokens": prompts.max_tokens,
        "template": asdict(prompts.generation_template),
        "gate": None,
    }
    if gate is not None:
        assert model.lora is not None
        [name] = [name for name, kind in GATES.items() if kind is type(gate)]
        options = model.lora.gate_factory.options
        settings["gate"] = {"name": name, "options": dict(options), "size": gate.size._asdict()}
        embeddings: Any = model.decoder.lm.get_input_embeddings()
        tensors = {**gate.state_dict(), EMBEDDINGS: embeddings.weight}
    place = folder / FOLDER
    place.mkdir()
    prompts.tokenizer.backend.save_pretrained(str(place))
    save_file({name: part.detach().contiguous() for name, part in tensors.items()}, place / TENSORS)
    write_text(place / SETTINGS, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def read_gate(folder: Path) -> ExportedGate:
    """Reads the gate of an exported folder; the other files of the folder need not be there.

    Raises:
        ValueError: files are missing or damaged.
    """
    place = folder / FOLDER
    if not (place / SETTINGS).is_file():
        raise ValueError(
            f"{folder} has no {FOLDER}/{SETTINGS}: expected a folder that `octavius export --format gguf` wrote"
        )
    for name, digest in listed(folder).items():
        if name.startswith(f"{FOLDER}/"):
            check_listed(folder / name, digest)
    settings: Any = read_json(place / SETTINGS)
    try:
        template = template_of(settings["template"], str(place / SETTINGS))
        tokenizer, tensors = load_tokenizer(place), load_file(place / TENSORS)
        prompts = prompt_builder(tokenizer, {}, template, int(settings["max_tokens"]))
        embeddings, gate = tensors.pop(EMBEDDINGS, torch.zeros(0)), None
        if (chosen := settings["gate"]) is not None:
            factory = GateFactory(GATES[chosen["name"]], chosen["options"])
            gate = factory(GateSize(**chosen["size"])).eval().requires_grad_(False)
            load_exactly(gate, tensors, set(gate.state_dict()), place / TENSORS)
        return ExportedGate(
            prompts,
            gate,
            embeddings,
            settings["base"],
            tuple(settings["experts"]),
            int(settings["positions"]),
        )
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{place} cannot be read ({type(error).__name__}: {' '.join(str(error).split())}); export again"
        ) from None
