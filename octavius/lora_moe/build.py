"""Configuration of LoRA-MoE, and `build_lora_moe`, which adds experts to a language model and builds their gate."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast, get_args

from torch import nn

from octavius.limits import NON_NEGATIVE_NUMBER, POSITIVE_NUMBER, PROBABILITY_BELOW_1, SIZE_RANGE
from octavius.lora_moe.backends import BackendName
from octavius.lora_moe.gates.added import AddedGate
from octavius.lora_moe.gates.base import Gate, GateSize, LayerGate, Reading
from octavius.lora_moe.gates.factory import GateFactory, GateLike, factory_of
from octavius.lora_moe.gates.uniform import UniformGate
from octavius.lora_moe.inject import LayerGates, Layouts, depths, inject, longest_list, per_layer
from octavius.lora_moe.layer import Origin
from octavius.lora_moe.losses import LOSSES, LossName
from octavius.lora_moe.routing import Routing
from octavius.suggestions import nearest

Trained: TypeAlias = Literal["all", "experts", "gate", "added"]
"""What is trained: all that is not frozen, experts and gate without the projectors, the gate alone, or the experts
that were added last."""


@dataclass(frozen=True)
class LoRAMoEConfig:
    """Configuration of the LoRA experts and their gate. Defaults are the paper's; one expert is plain LoRA.

    Attributes:
        experts: number of LoRA experts in each adapted layer. A list varies it by depth: one number for each layer
            of the language model, or for each of as many equal ranges of layers.
        rank: rank of one expert.
        alpha: numerator of the scale alpha / rank of the update.
        dropout: dropout probability on the experts' inputs.
        targets: names of the linear layers that get experts, or their last parts, such as `q_proj`.
        gate: how experts are chosen: a gate class by `class_path` and `init_args`, or the short name of a class
            with its default options: `affinity`, `source`, `instance`, `dense`, `token`, `individual`, `uniform`,
            `cluster` or `published` (see docs/gates.md).
        shared_a: whether the experts of a layer share one A and differ in B alone (HydraLoRA).
        scale: scale of the update: `peft` is alpha / rank, `published` is 1 whatever alpha is.
        init: initialisation of A: `peft`, or `published`, which is smaller by the square root of the rank.
        backend: how the weighted sum of the experts is computed; all give the same values. `concatenated` is one
            low-rank pair with the gate weights in between, `gathered` computes only the experts that a sample
            uses, `merged` builds one matrix per sample, `auto` picks the fastest for the sizes at hand.
        losses: auxiliary losses of the gate, `cv`, `switch` or `certainty_balance`, with the factor of each.
        train: `all` trains experts, gate and projectors (or the connector of a vision-language model), `experts`
            only experts and gate, and `gate` the gate alone, as for imported adapters that are to stay as they are.
            `added` trains only the experts that were added last.
        added: numbers of experts that were added to earlier checkpoints, the first one first, among `experts`;
            `octavius import last.ckpt --add-experts 1` sets it. The gate sends questions that are unlike those of
            earlier trainings to them, and all others to where it sent them before.
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
    train: Trained = "all"
    added: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Validates the numbers and turns `gate` into a `GateFactory`."""
        SIZE_RANGE.check(experts=self.experts, rank=self.rank, added=self.added)
        POSITIVE_NUMBER.check(alpha=self.alpha)
        PROBABILITY_BELOW_1.check(dropout=self.dropout)
        NON_NEGATIVE_NUMBER.check(losses=self.losses)
        # The dataclass is frozen, so plain assignment would raise.
        object.__setattr__(self, "gate", factory_of(self.gate))

    @property
    def gate_factory(self) -> GateFactory:
        """`gate` with its type after `__post_init__`: the gate class and its options."""
        return cast(GateFactory, self.gate)


def build_lora_moe(
    model: nn.Module,
    settings: LoRAMoEConfig,
    width: int,
    routing: Routing,
    modalities: int = 0,
    layouts: Layouts | None = None,
    given: Collection[Reading] = get_args(Reading),
) -> Gate | None:
    """Adds LoRA experts to a language model in place, freezes its other parameters, and builds the gate.

    Args:
        model: the language model.
        settings: experts and gate.
        width: size D of its word embeddings.
        routing: holder from which its layers will read the gate weights.
        modalities: number M of modalities, for gates that read which ones a sample has.
        layouts: see `inject`.
        given: the inputs that the caller will pass to the gate.

    Returns:
        The gate that routes each sample. None with a single expert, whose weight is always 1, and for gates that
        live in the layers.

    Raises:
        ValueError: settings contradict each other or do not fit the model, which is then left unchanged.
    """
    experts: int | Sequence[int] = settings.experts
    check_losses(settings)
    check_added(settings)
    if not isinstance(experts, int):
        experts = per_layer(experts, depths(model))
    make = settings.gate_factory
    gate = gate_of(settings, GateSize(width, experts, longest_list(model), modalities))
    # Before `inject`: an error must leave the model unchanged.
    learns = make.kind.in_layers or (gate is not None and any(True for _ in gate.parameters()))
    if settings.train == "gate" and not (learns and settings.experts != 1):
        why = "a single expert has none" if gate is None else f"{type(gate).__name__} has no parameters"
        raise ValueError(f"lora.train: gate trains the gate alone, but {why}; take train: experts, or all")
    if gate is not None:
        check_gate(gate, settings, given)
        # A gate per layer needs a part of the routing per layer, which `inject` makes for a list of counts.
        experts = gate.counts if gate.per_layer else experts
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


def gate_of(settings: LoRAMoEConfig, size: GateSize) -> Gate | None:
    """Builds the gate of all experts, with those that were added.

    Returns:
        None with a single expert, and for gates inside the layers.

    Raises:
        ValueError: the options of the gate, or the number of added experts, do not fit.
    """
    make, added = settings.gate_factory, sum(settings.added)
    counts = [size.experts] if isinstance(size.experts, int) else size.experts
    if added >= min(counts):
        raise ValueError(
            f"lora.added names {added} experts that were added, and lora.experts is {settings.experts}, which has to "
            "count these and at least one more"
        )
    if make.kind.in_layers:
        if added:
            raise ValueError(
                f"experts cannot be added under {make.kind.__name__}, which routes each token in each layer; train "
                "with a gate that reads the question"
            )
        return None
    if size.experts == 1:
        return None
    before = [count - added for count in counts]
    first = size._replace(experts=before[0] if isinstance(size.experts, int) else before)
    gate: Gate = UniformGate(first) if first.experts == 1 else make(first)
    for count in settings.added:
        gate = AddedGate(gate, count)
    return gate


def check_losses(settings: LoRAMoEConfig) -> None:
    """Checks that the auxiliary losses exist and that there is a gate to train.

    Raises:
        ValueError: a loss is unknown, or there is a single expert.
    """
    if unknown := sorted(set(settings.losses) - set(LOSSES)):
        raise ValueError(
            f"there are no auxiliary losses {unknown}{nearest(unknown[0], LOSSES)}"
            f"; they are {', '.join(LOSSES)}"
        )
    if settings.experts == 1 and settings.losses:
        raise ValueError("auxiliary losses train a gate, but a single expert has none; leave `losses` out")


def check_added(settings: LoRAMoEConfig) -> None:
    """Checks that there are added experts if only these are trained.

    Raises:
        ValueError: there are none.
    """
    if settings.train == "added" and not settings.added:
        raise ValueError(
            "lora.train: added trains experts that were added, but lora.added names none; add them to a checkpoint "
            "by octavius import last.ckpt --add-experts 1 --out start.ckpt"
        )


def check_gate(gate: Gate, settings: LoRAMoEConfig, given: Collection[Reading]) -> None:
    """Checks a gate against the auxiliary losses and the inputs that it will get.

    Raises:
        ValueError: losses are set but the gate has no parameters, or it reads an input that is not given.
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
    """Adapts a gate factory to `inject`, which knows only input width and number of experts of a layer."""
    return lambda width, experts: cast(LayerGate, make(GateSize(width, experts)))
