"""The settings of LoRA-MoE, and `attach`, which puts experts into a language model and makes the gate."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import cast, get_args

from torch import nn

from octavius.limits import NOT_NEGATIVE, POSITIVE, PROBABILITY, SIZE
from octavius.lora_moe.backends import BackendName
from octavius.lora_moe.gates.base import Gate, GateSize, LayerGate, Reading
from octavius.lora_moe.gates.factory import GateFactory, GateLike, factory_of
from octavius.lora_moe.inject import LayerGates, Layouts, by_depth, depths, inject, longest_list
from octavius.lora_moe.layer import Origin
from octavius.lora_moe.losses import LOSSES, LossName
from octavius.lora_moe.routing import Routing


@dataclass(frozen=True)
class LoRAMoE:
    """The settings of the adapters; the defaults are the paper's, and one expert is the plain LoRA baseline.

    Attributes:
        experts: LoRA experts in each group; a list gives numbers by depth: one for each layer of the language
            model, or for each of so many equal ranges of layers.
        rank: of one expert.
        alpha: the update is scaled by alpha / rank.
        dropout: on the experts' inputs.
        targets: names of the linear layers that get a group.
        gate: what chooses the experts: a class of gates with its options, by `class_path` and `init_args`, or the
            short name of a class for its defaults: `source`, `instance`, `dense`, `token`, `individual`, `uniform`,
            `cluster` or `published` (see docs/gates.md).
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
    targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])
    gate: GateLike = "instance"
    shared_a: bool = False
    scale: Origin = "peft"
    init: Origin = "peft"
    backend: BackendName = "auto"
    losses: dict[LossName, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses numbers that mean nothing."""
        SIZE.check(experts=self.experts, rank=self.rank)
        POSITIVE.check(alpha=self.alpha)
        PROBABILITY.check(dropout=self.dropout)
        NOT_NEGATIVE.check(losses=self.losses)
        object.__setattr__(self, "gate", factory_of(self.gate))

    @property
    def gate_factory(self) -> GateFactory:
        """The class of the gate and its options."""
        return cast(GateFactory, self.gate)


def attach(
    model: nn.Module,
    settings: LoRAMoE,
    width: int,
    routing: Routing,
    modalities: int = 0,
    layouts: Layouts | None = None,
    given: Collection[Reading] = get_args(Reading),
) -> Gate | None:
    """Puts experts into a language model in place, freezes all else of it, and makes the gate.

    Args:
        model: the language model.
        settings: see there.
        width: size of its word embeddings.
        routing: the holder that its layers will read.
        modalities: how many modalities there are, for a gate that tells them apart.
        layouts: as of `inject`.
        given: what the gate is going to be given of a batch.

    Returns:
        The gate that chooses for each sample; None with one expert, whose weight is 1, and for gates that each
        layer has itself.

    Raises:
        ValueError: settings contradict each other, or do not fit the model, which stays as it was.
    """
    experts: int | Sequence[int] = settings.experts
    check_losses(settings)
    if not isinstance(experts, int):
        experts = by_depth(experts, depths(model))
    size, make = GateSize(width, experts, longest_list(model), modalities), settings.gate_factory
    gate = None if experts == 1 or make.kind.in_layers else make(size)
    if gate is not None:
        check_gate(gate, settings, given)
        experts = gate.counts if gate.by_depth else experts
    inject(
        model,
        settings.targets,
        experts,
        settings.rank,
        settings.alpha,
        settings.dropout,
        routing,
        layer_gate=_layer_gate(make) if make.kind.in_layers and experts != 1 else None,
        shared_a=settings.shared_a,
        scale=settings.scale,
        init=settings.init,
        backend=settings.backend,
        layouts=layouts,
    )
    return gate


def check_losses(settings: LoRAMoE) -> None:
    """Refuses auxiliary losses that there are not, and any where there is no gate.

    Raises:
        ValueError: see above.
    """
    if unknown := sorted(set(settings.losses) - set(LOSSES)):
        raise ValueError(f"there are no auxiliary losses {unknown}; they are {', '.join(LOSSES)}")
    if settings.experts == 1 and settings.losses:
        raise ValueError("auxiliary losses train a gate, but a single expert has none; leave `losses` out")


def check_gate(gate: Gate, settings: LoRAMoE, given: Collection[Reading]) -> None:
    """Refuses a gate that cannot be trained as asked, or reads what it is not given.

    Raises:
        ValueError: see above.
    """
    if settings.losses and not any(True for _ in gate.parameters()):
        raise ValueError(
            f"auxiliary losses train a gate, but {type(gate).__name__} has nothing to train; leave `losses` out"
        )
    if missing := [name for name in gate.reads if name not in given]:
        raise ValueError(
            f"the gate reads {' and '.join(missing)}, which this model is not given: leave that out of the gate's "
            "inputs, or take another gate"
        )


def _layer_gate(make: GateFactory) -> LayerGates:
    """Makes the gate of a layer, of its input's width and its number of experts."""
    return lambda width, experts: cast(LayerGate, make(GateSize(width, experts)))
