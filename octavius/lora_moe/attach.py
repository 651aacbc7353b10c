"""A language model and settings come in; experts in its layers, and the gate that chooses them, go out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

from torch import nn

from octavius.limits import NOT_NEGATIVE, POSITIVE, PROBABILITY, SIZE
from octavius.lora_moe.backends import BackendName
from octavius.lora_moe.gates.base import Gate
from octavius.lora_moe.gates.cluster import ClusterGate
from octavius.lora_moe.gates.fixed import IndividualGate, UniformGate
from octavius.lora_moe.gates.instance import InstanceGate
from octavius.lora_moe.gates.published import PublishedGate
from octavius.lora_moe.gates.source import SourceGate
from octavius.lora_moe.gates.token import TokenGate
from octavius.lora_moe.inject import Layouts, by_depth, depths, inject
from octavius.lora_moe.layer import Origin
from octavius.lora_moe.losses import LOSSES, LossName
from octavius.lora_moe.routing import Routing

GateName: TypeAlias = Literal[
    "source", "instance", "dense", "token", "individual", "uniform", "cluster", "published"
]
GateInput: TypeAlias = Literal["modality", "media"]


@dataclass(frozen=True)
class LoRAMoE:
    """The settings of the adapters; the defaults are the paper's, and one expert is the plain LoRA baseline.

    Attributes:
        experts: LoRA experts in each group; a list gives numbers by depth: one for each layer of the language
            model, or for each of so many equal ranges of layers.
        rank: of one expert.
        alpha: the update is scaled by alpha / rank.
        dropout: on the experts' inputs.
        top_k: experts that an instance (or token) uses, of the gates that choose.
        targets: names of the linear layers that get a group.
        gate: what chooses: `source` (by the question, begun as a classifier of the training sets), `instance` (by the
            question, begun at random as the paper's), `dense` (likewise, all experts by their
            softmax), `token` (each token by itself, in each layer), `individual` (by the task's name), `uniform`
            (all alike), `cluster` (by the cluster that the question is in), `published` (by the question as the
            published code does, padding included).
        gate_inputs: what the instance and dense gates read beside the question: which modalities the sample
            brings, and a summary of its media.
        per_layer: an instance or dense gate for each layer of the language model, not one for all.
        universal: the last expert is always on, and the gate chooses between the others.
        temperature: the gate's logits are divided by it.
        jitter: noise on the gate's input while training, a share of it.
        tasks: of the individual gate, the tasks' names in the order of the experts; `task/group` names the samples of
            a task that have that `Sample.group`.
        clusters: of the cluster gate, how many; they are fitted to the training questions when training begins.
        shared_a: the experts of a layer share one A and have a B each.
        scale: of the update: `peft`, alpha / rank; `published`, 1 whatever alpha says.
        init: how A is drawn: `peft`, or `published`, which is smaller by the root of the rank.
        backend: how the experts' sum is computed, equal in its values: `concatenated`, one low-rank pair with the
            gate between; `gathered`, only the experts that a sample uses; `merged`, one matrix for each sample;
            `auto` takes the fastest for the sizes at hand.
        losses: auxiliary losses of the gate by name, `cv`, `switch` or `certainty_balance`, and what each is
            multiplied by.
    """

    experts: int | list[int] = 4
    rank: int = 32
    alpha: float = 32.0
    dropout: float = 0.1
    top_k: int = 2
    targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])
    gate: GateName = "instance"
    gate_inputs: list[GateInput] = field(default_factory=list)
    per_layer: bool = False
    universal: bool = False
    temperature: float = 1.0
    jitter: float = 0.0
    tasks: list[str] | None = None
    clusters: int = 16
    shared_a: bool = False
    scale: Origin = "peft"
    init: Origin = "peft"
    backend: BackendName = "auto"
    losses: dict[LossName, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses numbers that mean nothing."""
        SIZE.check(experts=self.experts, rank=self.rank, top_k=self.top_k, clusters=self.clusters)
        POSITIVE.check(alpha=self.alpha, temperature=self.temperature)
        PROBABILITY.check(dropout=self.dropout)
        NOT_NEGATIVE.check(jitter=self.jitter, losses=self.losses)


def attach(
    model: nn.Module,
    settings: LoRAMoE,
    width: int,
    routing: Routing,
    modalities: int = 0,
    layouts: Layouts | None = None,
) -> Gate | None:
    """Puts experts into a language model in place, freezes all else of it, and makes the gate.

    Args:
        model: the language model.
        settings: see there.
        width: size of its word embeddings.
        routing: the holder that its layers will read.
        modalities: how many modalities there are, for a gate that tells them apart.
        layouts: as of `inject`.

    Returns:
        The gate that chooses for each instance; None with one expert, whose weight is 1, and for gates that each
        layer has itself.
    """
    experts: int | list[int] = settings.experts
    _check(settings, modalities)
    if (
        settings.per_layer
        and isinstance(experts, int)
        and settings.gate in ("source", "instance", "dense", "cluster")
    ):
        experts = [experts]
    if not isinstance(experts, int):
        experts = by_depth(experts, depths(model))
    by_token = settings.gate == "token" and experts != 1
    gate = None if by_token or experts == 1 else make_gate(settings, experts, width, modalities)
    inject(
        model,
        settings.targets,
        experts,
        settings.rank,
        settings.alpha,
        settings.dropout,
        routing,
        token_gate=partial(_token_gate, settings) if by_token else None,
        shared_a=settings.shared_a,
        scale=settings.scale,
        init=settings.init,
        backend=settings.backend,
        layouts=layouts,
    )
    return gate


def make_gate(settings: LoRAMoE, experts: int | Sequence[int], width: int, modalities: int = 0) -> Gate:
    """The gate that settings name, for E experts or for those of each depth.

    Raises:
        ValueError: there is none of that name, or its settings do not go together.
    """
    return GATES[settings.gate](settings, experts, width, modalities)


def _check(settings: LoRAMoE, modalities: int) -> None:
    """Refuses what would be silently of no use."""
    if "modality" in settings.gate_inputs and not modalities:
        raise ValueError(
            "the gate cannot read which modalities a sample brings: the model has none; leave it out"
        )
    if settings.gate not in READS:
        raise ValueError(f"there is no gate {settings.gate!r}; gates are {', '.join(READS)}")
    if unknown := sorted(set(settings.losses) - set(LOSSES)):
        raise ValueError(f"there are no auxiliary losses {unknown}; they are {', '.join(LOSSES)}")
    if settings.experts == 1:
        if settings.losses:
            raise ValueError(
                "auxiliary losses train a gate, but a single expert has none; leave `losses` out"
            )
        return
    plain, reads = LoRAMoE(), READS[settings.gate]
    of_gates = sorted(set().union(*READS.values()))
    unread = [
        name for name in of_gates if name not in reads and getattr(settings, name) != getattr(plain, name)
    ]
    if unread:
        raise ValueError(
            f"gate: {settings.gate} does not read {', '.join(unread)}; leave that out, or take a gate that does: "
            f"{', '.join(gate for gate, read in READS.items() if set(unread) <= set(read)) or 'there is none'}"
        )


def _instance(
    kind: type[InstanceGate],
    settings: LoRAMoE,
    experts: int | Sequence[int],
    width: int,
    modalities: int,
    dense: bool = False,
) -> Gate:
    """The gate of the paper or one of its kind; a dense one keeps all experts."""
    return kind(
        width,
        experts,
        None if dense else settings.top_k,
        universal=settings.universal,
        temperature=settings.temperature,
        jitter=settings.jitter,
        modalities=modalities if "modality" in settings.gate_inputs else 0,
        media="media" in settings.gate_inputs,
    )


def _cluster(settings: LoRAMoE, experts: int | Sequence[int], width: int) -> Gate:
    """The gate of question clusters."""
    return ClusterGate(
        width,
        experts,
        settings.top_k,
        settings.clusters,
        universal=settings.universal,
        temperature=settings.temperature,
    )


def _individual(settings: LoRAMoE, experts: int | Sequence[int]) -> Gate:
    """An expert for each task, as many as are asked for."""
    if settings.tasks is None or experts != len(settings.tasks):
        raise ValueError(
            f"gate: individual has an expert for each task, named in `tasks` in the experts' order: found experts = "
            f"{experts}, tasks = {settings.tasks}"
        )
    return IndividualGate(settings.tasks)


def _token_gate(settings: LoRAMoE, width: int, experts: int) -> TokenGate:
    """The gate of one layer."""
    return TokenGate(
        width,
        experts,
        settings.top_k,
        universal=settings.universal,
        temperature=settings.temperature,
        jitter=settings.jitter,
    )


GATES: dict[str, Callable[[LoRAMoE, int | Sequence[int], int, int], Gate]] = {
    "source": partial(_instance, SourceGate),
    "instance": partial(_instance, InstanceGate),
    "dense": partial(_instance, InstanceGate, dense=True),
    "individual": lambda settings, experts, *_: _individual(settings, experts),
    "cluster": lambda settings, experts, width, _: _cluster(settings, experts, width),
    "published": lambda settings, experts, width, _: PublishedGate(width, experts, settings.top_k),
    "uniform": lambda _, experts, *__: UniformGate(experts),
}
"""The gates that choose once for each instance, by the name in a configuration; `token` is in the layers."""

READS: dict[str, tuple[str, ...]] = {
    "source": ("gate_inputs", "per_layer", "universal", "temperature", "jitter", "losses"),
    "instance": ("gate_inputs", "per_layer", "universal", "temperature", "jitter", "losses"),
    "dense": ("gate_inputs", "per_layer", "temperature", "jitter", "losses"),
    "token": ("universal", "temperature", "jitter", "losses"),
    "cluster": ("clusters", "per_layer", "universal", "temperature", "losses"),
    "published": ("losses",),
    "individual": ("tasks",),
    "uniform": (),
}
"""Every gate, and which settings it reads beside `experts` and `top_k`."""
