"""Memory of each GPU in training by kind, and changes that make it fit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn

from octavius.decoder.loading import layers
from octavius.decoder.quantised import BYTES, Quantised
from octavius.model import Octavius
from octavius.plan.outline import Setup
from octavius.plan.rehearsal import Rehearsal, Step, rehearse

GIB = 2**30

KINDS = ("frozen decoder", "frozen encoders", "trained weights", "gradients", "optimizer states", "gathered")


@dataclass(frozen=True)
class Plan:
    """The memory of one GPU.

    Attributes:
        setup: the set-up.
        gpus: number of GPUs.
        step: the longest micro-batch.
        kinds: bytes by kind.
        step_needs: the rehearsal of the step.
    """

    setup: Setup
    gpus: int
    step: Step
    kinds: dict[str, float]
    step_needs: Rehearsal

    @property
    def total(self) -> float:
        """Bytes of all kinds."""
        return sum(self.kinds.values())


def plan_memory(setup: Setup, model: Octavius, gpus: int, step: Step, reserve: float) -> Plan:
    """Memory of one GPU while training on a micro-batch in which all samples have the maximum length.

    Args:
        setup: the set-up.
        model: its outline.
        gpus: number of GPUs; with FSDP2 they share the decoder, otherwise each has all of it.
        step: the micro-batch.
        reserve: bytes outside tensors: CUDA context, workspaces of libraries, fragmentation.
    """
    needs = rehearse(setup, step, setup.checkpointing)
    kinds = standing(setup, model, gpus)
    kinds |= {"activations": needs.held, "logits and temporaries": needs.peak - needs.held}
    if step.image.tokens:
        # While the vision tower runs, the language part holds nothing yet.
        tower = max(0.0, step.batch * step.image.temporaries - needs.peak)
        kinds["images"] = step.batch * step.image.pixels + tower
    return Plan(setup, gpus, step, kinds | {"reserve": reserve}, needs)


def standing(setup: Setup, model: Octavius, gpus: int) -> dict[str, float]:
    """Bytes on one GPU that are in use in every step, by kind.

    FSDP2 gathers the root unit of embeddings, head and projectors, which stays gathered through a step; and
    of the layers the current one, the prefetched next one, and the all-gather buffer that a layer is copied
    out of, plus the unsharded gradients of a layer before they are reduced. DDP holds the gradients a second
    time, in its buckets.
    """
    frozen = [part for part in model.decoder.parameters() if not part.requires_grad]
    saved = quantisation_saves(model, setup.decoder.get("quantise"))
    encoders = size(model.encoders.parameters())
    trained = size(part for part in model.parameters() if part.requires_grad)
    share = gpus if setup.sharded else 1
    blocks = layers(model.decoder.lm)
    inside = {id(part) for block in blocks for part in block.parameters()} | {
        id(part) for part in model.encoders.parameters()
    }
    gathered = 0.0
    if setup.sharded and gpus > 1:
        block = max(blocks, key=lambda one: size(one.parameters()))
        root = [part for part in model.parameters() if id(part) not in inside]
        gathered = size(root) + size(part for part in root if part.requires_grad)
        gathered += 3 * size(block.parameters()) + 2 * size(p for p in block.parameters() if p.requires_grad)
    elif gpus > 1:
        gathered = trained
    return {
        "frozen decoder": (size(frozen) - saved) / share,
        "frozen encoders": encoders,
        "trained weights": trained / share,
        "gradients": trained / share,
        "optimizer states": 2 * trained / share,  # the two moments of AdamW
        "gathered": gathered,
    }


def quantisation_saves(model: Octavius, kind: Quantised | None) -> float:
    """Bytes by which quantised linear layers are smaller than in the type of the decoder."""
    if kind is None:
        return 0.0
    linear = [part.weight for part in model.decoder.tuned.modules() if isinstance(part, nn.Linear)]
    kept = model.decoder.lm.get_output_embeddings()
    return sum(
        weight.numel() * (weight.element_size() - BYTES[kind])
        for weight in linear
        if kept is None or weight is not kept.weight
    )


def size(tensors: Iterable[Tensor]) -> float:
    """Bytes of tensors, counting each tensor once."""
    once = {id(tensor): tensor for tensor in tensors}
    return float(sum(tensor.numel() * tensor.element_size() for tensor in once.values()))


def count(tensors: Iterable[Tensor]) -> int:
    """Number of elements of tensors, counting each tensor once."""
    return sum({id(tensor): tensor.numel() for tensor in tensors}.values())


def parts(model: Octavius) -> dict[str, tuple[int, int]]:
    """Parameters of each part of a model: in total, and trained."""
    named: dict[str, nn.Module] = {"decoder": model.decoder}
    named |= {f"encoder {name}": part for name, part in model.encoders.items()}
    named |= {f"projector {name}": part for name, part in model.projectors.items()}
    if isinstance(model.gate, nn.Module):
        named["gate"] = model.gate
    table: dict[str, tuple[int, int]] = {}
    for name, part in named.items():
        everything = list(part.parameters())
        trained = count(one for one in everything if one.requires_grad)
        if name == "decoder" and model.lora is not None:
            table |= _with_experts(model, count(everything) - trained, trained)
        else:
            table[name] = (count(everything), trained)
    return table


def _with_experts(model: Octavius, frozen: int, trained: int) -> dict[str, tuple[int, int]]:
    """Parameters of a decoder with experts, in a vision-language model those beside the language part apart."""
    decoder = model.decoder
    if decoder.tuned is decoder.lm:
        return {"language model": (frozen, 0), "LoRA experts": (trained, trained)}
    inside = {id(part) for part in decoder.tuned.parameters()} | {
        id(part) for part in decoder.lm.get_output_embeddings().parameters()
    }
    beside = [part for part in decoder.parameters() if id(part) not in inside]
    connector = count(part for part in beside if part.requires_grad)
    return {
        "language model": (frozen + connector - count(beside), 0),
        "vision tower, connector": (count(beside), connector),
        "LoRA experts": (trained - connector, trained - connector),
    }


def remedies(plan: Plan, model: Octavius, memory: float) -> Iterator[str]:
    """Changes that would make a plan fit, with the memory then needed; the least invasive first."""
    setup, reserve = plan.setup, plan.kinds["reserve"]
    trials: list[tuple[str, Setup]] = []
    if not setup.checkpointing:
        setup = replace(setup, checkpointing=True)
        trials.append(("--model.init_args.activation_checkpointing true", setup))
    if not setup.sharded and plan.gpus > 1:
        trials.append(("--config fsdp.yaml", replace(plan.setup, sharded=True)))
        setup = replace(setup, sharded=True)
        if not plan.setup.checkpointing:
            trials.append(("--config fsdp.yaml --model.init_args.activation_checkpointing true", setup))
    smaller = plan.setup.batch_size
    while smaller > 1:
        smaller //= 2
        times = plan.setup.accumulate * (plan.setup.batch_size // smaller)
        words = f"--data.init_args.batch_size {smaller} --trainer.accumulate_grad_batches {times}"
        trials.append((words, replace(plan.setup, batch_size=smaller)))
        if setup != plan.setup:
            trials.append((f"{words} and all of the above", replace(setup, batch_size=smaller)))
    for words, trial in trials:
        step = replace(plan.step, batch=trial.batch_size)
        total = plan_memory(trial, model, plan.gpus, step, reserve).total
        if total <= memory:
            yield f"{words}  ({total / GIB:.1f} GiB)"
