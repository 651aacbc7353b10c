"""`octavius export`: converts the experts of a checkpoint to Hugging Face or PEFT weights that others can load."""

from dataclasses import replace
from importlib.metadata import version
from json import dumps
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from octavius import __version__
from octavius.checkpoint.hub import check_login, push
from octavius.checkpoint.load import MANIFEST, load_checkpoint
from octavius.checkpoint.model_card import CARD, is_local, located, write_card
from octavius.checkpoint.opened import OpenCheckpoint, open_checkpoint
from octavius.checkpoint.peft_format import write_adapter
from octavius.checkpoint_format.weights import fingerprint, trainable_names
from octavius.files import check_writable, remove_partials, write_text
from octavius.folders import saving_folder
from octavius.instruction.batch import Batch, Example
from octavius.instruction.sample import Media, References, Sample
from octavius.llama_cpp.export import check_exportable, write_gguf
from octavius.lora_moe import adapter_parameters
from octavius.lora_moe.merge import FixedGate, fold, layers_of, merge
from octavius.presets import find_checkpoint
from octavius.suggestions import nearest
from octavius.tasks import TASKS
from octavius.training import PROJECTORS, OctaviusModule

GATE = "gate.safetensors"
"""File of the gate, beside the experts of `--format experts`."""

WHAT = {
    "hf": "a Hugging Face folder of the language model, with the experts of one routing added into its weights",
    "peft": "a LoRA adapter of PEFT: the experts of one routing side by side, gate weights in B",
    "experts": "each expert as a LoRA adapter of PEFT, and the gate that chose between them",
    "gguf": "the language model and each expert in GGUF files of llama.cpp, and the gate that weights the experts",
}


def export(
    out: Path,
    format: Literal["hf", "peft", "experts", "gguf"],
    question: str | None = None,
    task: str | None = None,
    ckpt: str = "last.ckpt",
    trust: bool = False,
    push_to_hub: str | None = None,
) -> None:
    """Exports a checkpoint to formats that other programs load.

    The gate chooses the experts by the question. With the gate weights fixed for one question or one task, the
    experts are one plain LoRA, which can be merged into the language model. Projectors and encoder settings are
    exported too, so `octavius predict --ckpt FOLDER` works on the result.

    Args:
        out: folder to write to, new or empty.
        format: hf: the merged language model. peft: a LoRA adapter of rank k x r, with k experts in use. experts:
            each expert as an adapter of rank r, and the gate; no question is needed. gguf: the language model and the
            experts for llama-server, and the gate by which `octavius serve --backend llama-server` weights them.
        question: question for which the gate weights are fixed.
        task: task for which the gate weights are fixed, averaged over the forms of its question; beside a question,
            the task of that question, for gates that read the task.
        ckpt: checkpoint of `octavius fit`, with its configuration beside it.
        trust: allow that configuration to name any class, which runs its code.
        push_to_hub: repository on the Hugging Face Hub, such as user/model, to which the folder is uploaded too; a
            new one is private.
    """
    if push_to_hub is not None:
        check_login(push_to_hub)
    path = find_checkpoint(ckpt)
    remove_partials(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists already and is not empty; name another folder, or remove it first")
    if task is not None and task not in TASKS:
        raise ValueError(f"there is no task {task!r}{nearest(task, TASKS)}; tasks are {', '.join(TASKS)}")
    check_writable(out.absolute().parent)
    checkpoint = open_file(path)
    module = experts_of(checkpoint, trust)
    if format in ("hf", "gguf"):
        check_writable(
            out.absolute().parent, sum(part.nbytes for part in module.model.decoder.lm.parameters())
        )
    base = module.model.decoder.name
    if push_to_hub is not None and format in ("peft", "experts") and is_local(base):
        raise ValueError(
            f"adapters need their base, {base}, which is a folder of this machine: push the merged model with "
            "--format hf, or tune a base that is on the Hub"
        )
    if format == "gguf":
        check_exportable(module)
    gate = None if format in ("experts", "gguf") else fixed_gate(module, question, task)
    manifest: dict[str, Any] = {
        "what": WHAT[format],
        "format": format,
        "base": base,
        "loaders": module.model.decoder.loaders,
        "question": question,
        "task": task,
        "gate": None if gate is None else weights_of(gate),
        "checkpoint": str(path),
        "versions": {"octavius": __version__, **{name: version(name) for name in ("torch", "transformers")}},
    }
    # The folder has projectors of its own: what training started from, and what it saves, is not repeated.
    model = checkpoint.model_section()
    model["init_args"] |= {"projectors": None, "save_decoder": None}
    model["init_args"] |= module.processor.prompts.saved()
    with saving_folder(out, new=True) as folder:
        if format == "gguf":
            write_gguf(module, folder)
        elif gate is None:
            write_experts(module, folder)
        elif format == "peft":
            model["init_args"]["lora"] = write_peft(module, gate, folder)
        else:
            model["init_args"]["lora"] = None
            write_merged(module, gate, folder)
        manifest |= {"frozen_fingerprint": fingerprint(module), "model": model}
        if format != "gguf":  # the others are read by `octavius predict`
            projectors = module.model.projectors.state_dict()
            save_file({name: part.contiguous() for name, part in projectors.items()}, folder / PROJECTORS)
        write_text(folder / MANIFEST, dumps(manifest, indent=2, ensure_ascii=False) + "\n")
        write_card(folder, manifest, checkpoint, push_to_hub or out.name)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {WHAT[format]} ({size / 1e6:,.1f} MB)")
    if push_to_hub is not None:
        print(f"pushed: {push(out, push_to_hub)}")
    if format == "gguf":
        print(f"next: start llama-server by the command in {out / CARD}")
    if gate is not None:
        weights = weights_of(gate)
        if isinstance(weights, list):
            used = (f"{index} ({weight:.2f})" for index, weight in enumerate(weights) if weight)
            print(f"experts: {', '.join(used)}")
        print(f'next: octavius predict --ckpt {out} --question "{question or "..."}"')


def open_file(path: Path) -> OpenCheckpoint:
    """Opens a checkpoint.

    Raises:
        ValueError: it is an exported folder itself.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; export from a checkpoint of `octavius fit`, such as last.ckpt")
    return open_checkpoint(path)


def experts_of(checkpoint: OpenCheckpoint, trust: bool = False) -> OctaviusModule:
    """Loads a checkpoint that has experts.

    Raises:
        ValueError: it has none.
    """
    module = load_checkpoint(checkpoint, trust)
    if module.model.lora is None:
        raise ValueError(
            f"{checkpoint.path} has no experts: its language model was trained whole. The option save_decoder of the "
            "model writes such a one as a Hugging Face folder at the end of `octavius fit`"
        )
    return module


@torch.no_grad()
def fixed_gate(module: OctaviusModule, question: str | None, task: str | None) -> dict[str, Tensor]:
    """Gate weights (E,) of each layer for one question, or averaged over the forms of a task's question.

    Raises:
        ValueError: neither is given though the gate reads it, or the gate reads other inputs too.
    """
    model, layers = module.model, layers_of(module.model.decoder.lm)
    refuse_other_inputs(module, task)
    asks = model.gate is not None and "question" in model.gate.reads
    if question is None and task is None and asks:
        raise ValueError(
            "which experts? The gate chooses them by the question: name one by --question, or a task by --task, or "
            "export all of them with --format experts"
        )
    questions = [question] if question is not None else list(TASKS[task].questions if task else ["any"])
    if question is None and asks and len(questions) < 2:
        raise ValueError(
            f"the questions of the task {task} come from its data; name one of them by --question"
        )
    found = []
    for text in questions:  # one at a time, since some gates read the padding of a batch
        weights = model.route(read_by_gate(module, text, task))
        assert weights is not None
        with model.routing.use(weights):
            found.append({name: layer.routing.weights[0].float() for name, layer in layers.items()})
    return {name: torch.stack([weights[name] for weights in found]).mean(0) for name in layers}


def read_by_gate(module: OctaviusModule, question: str, task: str | None) -> Batch:
    """Builds a batch of one question without media, of which only the tags in the prompt can matter to the gate."""
    prompts = module.processor.prompts
    media = {
        name: Media(array=np.empty(0))
        for name in prompts.slots
        if prompts.generation_template.gate == "prompt"
    }
    sample = Sample("export", task or "conversation", "export", media, question, References(("",)))
    prompt = replace(prompts.build(sample, question, None), slots={})
    return module.processor.collate([Example(sample, prompt, {})])


def refuse_other_inputs(module: OctaviusModule, task: str | None) -> None:
    """Refuses gates that read more than question and task, since these alone do not determine the gate weights."""
    gate = module.model.gate
    if any(layer.gate is not None for layer in layers_of(module.model.decoder.lm).values()):
        raise ValueError(
            "this model's gates choose for each token anew, so that no question fixes the routing; export its "
            "experts with --format experts"
        )
    reads = () if gate is None else gate.reads
    if beside := [name for name in reads if name not in ("question", "padding", "task")]:
        raise ValueError(
            f"this model's gate reads {' and '.join(beside)} beside the question, so that no question "
            "fixes the routing; export its experts with --format experts"
        )
    if module.processor.prompts.generation_template.gate == "prompt" and len(module.model.encoders) > 1:
        raise ValueError(
            f"this model's gate reads the whole prompt, whose tags tell {' from '.join(module.model.encoders)}, so "
            "that no question fixes the routing; export its experts with --format experts"
        )
    if gate is not None and "task" in reads and task is None:
        raise ValueError(
            f"this model's gate goes by the task's name; name one by --task: {', '.join(gate.task_names or TASKS)}"
        )


def weights_of(gate: dict[str, Tensor]) -> list[float] | dict[str, list[float]]:
    """Gate weights for the manifest: one list if all layers share it, else one per layer."""
    rounded = {name: [round(weight, 6) for weight in weights.tolist()] for name, weights in gate.items()}
    first = next(iter(rounded.values()))
    return first if all(weights == first for weights in rounded.values()) else rounded


def write_merged(module: OctaviusModule, gate: FixedGate, out: Path) -> None:
    """Merges the experts into the language model and saves it in its own dtype, with its tokenizer."""
    decoder = module.model.decoder
    merge(decoder.lm, gate)
    _untie(decoder.lm)
    tokens = decoder.tokenizer
    decoder.lm.generation_config = GenerationConfig(
        bos_token_id=tokens.bos_id, eos_token_id=tokens.eos_id, pad_token_id=tokens.pad_id
    )
    decoder.lm.save_pretrained(out)
    decoder.save_tokenizer(out)
    decoder.unfreeze()  # as when the folder is loaded: without experts a decoder counts as trained, not as frozen


def _untie(lm: PreTrainedModel) -> None:
    """Switches `tie_word_embeddings` off if experts were merged into the output layer.

    Otherwise transformers would load the word embeddings in its place.
    """
    head: Any = lm.get_output_embeddings()
    if head is not None and head.weight is not cast(Any, lm.get_input_embeddings()).weight:
        for config in (lm.config, lm.config.get_text_config(decoder=True)):
            config.tie_word_embeddings = False


def write_peft(module: OctaviusModule, gate: FixedGate, out: Path) -> dict[str, Any]:
    """Writes one LoRA for fixed gate weights; returns the `lora` section with which Octavius loads it.

    Raises:
        ValueError: other parameters of the language model are trained too, which an adapter cannot hold.
    """
    lm = module.model.decoder.lm
    refuse_more_than_experts(module)
    rank = write_adapter(out, located(module.model.decoder.name), fold(lm, gate), turned=turned(module))
    targets = list(layers_of(module.model.decoder.tuned))
    return {"experts": 1, "rank": rank, "alpha": float(rank), "dropout": 0.0, "targets": targets}


def write_experts(module: OctaviusModule, out: Path) -> None:
    """Writes each expert as an adapter of rank r, and the tensors of all gates."""
    lm, base = module.model.decoder.lm, located(module.model.decoder.name)
    refuse_more_than_experts(module)
    layers = layers_of(lm)
    for index in range(max(layer.experts for layer in layers.values())):
        # One-hot gate weights pick an expert; layers with fewer experts get all zeros, an empty LoRA.
        alone = {name: (torch.arange(layer.experts) == index).float() for name, layer in layers.items()}
        write_adapter(out / f"expert{index}", base, fold(lm, alone), turned=turned(module))
    state = {} if module.model.gate is None else module.model.gate.state_dict()
    for name, layer in layers.items():
        gate_state = {} if layer.gate is None else layer.gate.state_dict()
        state |= {f"{name}.gate.{part}": tensor for part, tensor in gate_state.items()}
    if state:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, out / GATE)


def refuse_more_than_experts(module: OctaviusModule) -> None:
    """Refuses models with other trained parameters: an adapter holds LoRA of linear layers alone."""
    lm = module.model.decoder.lm
    if more := sorted(trainable_names(lm) - adapter_parameters(lm).keys()):
        raise ValueError(
            f"besides its experts this model has trained {', '.join(more[:3])}, which no LoRA adapter holds; "
            "export it with --format hf"
        )


def turned(module: OctaviusModule) -> bool:
    """Whether layers with experts are `Conv1D`, which stores its weights transposed (GPT-2)."""
    return any(isinstance(layer.base, Conv1D) for layer in layers_of(module.model.decoder.lm).values())
