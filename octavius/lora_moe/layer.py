"""A frozen linear module comes in, the same map plus a routed mixture of LoRA experts goes out."""

from itertools import chain
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from octavius.lora_moe.backends import BACKENDS, BackendName, choose
from octavius.lora_moe.dropout import kept_inputs
from octavius.lora_moe.gates.base import LayerGate
from octavius.lora_moe.low_rank import add_without_backward
from octavius.lora_moe.routing import Routing

Origin: TypeAlias = Literal["peft", "published"]
"""Whose scale or initialisation is followed: PEFT's LoRA, or the published Octavius."""


class LoRAMoELinear(nn.Module):
    """A frozen linear module and E LoRA experts beside it, weighed for each sample by the shared routing.

    y = base(x) + alpha / R * sum over e of g_e B_e A_e drop(x), the LLM's linear maps in the paper's equation
    (3). The experts lie side by side in one pair of matrices, expert e in rows (of A) and columns (of B)
    e * R up to (e + 1) * R, so that the mixture is one LoRA of rank E * R with the gate between its halves.
    No tensor of experts by width is made, and every parameter takes part in every pass.

    Args:
        base: a linear-like module, also a quantised one: called on (..., D), with `in_features` and
            `out_features` (or `nx` and `nf`, as in `transformers.pytorch_utils.Conv1D`). It is frozen.
        experts: number E of experts; 1 is plain LoRA.
        rank: rank R of one expert.
        alpha: numerator of the scale alpha / R.
        dropout: probability with which an input of the experts (not of the base) is dropped.
        routing: the holder that the whole model shares, or the part of it that is this layer's.
        gate: a gate of the layer's own, that chooses for each token; None takes the weights of the routing.
        shared_a: whether the experts share one down-projection A and differ in B alone (HydraLoRA, Tian et
            al., 2024).
        scale: `peft` is alpha / R, `published` is 1 whatever alpha says.
        init: how A is drawn: `peft` bounds it by one over the root of D, `published` of D * R.
        backend: how the experts' sum is computed: `auto` takes the fastest for the sizes at hand, all are equal.
            `gathered` and `merged` want weights of samples, not a gate of the layer's own: they would make
            matrices for every token.
        dtype: type in which the experts are kept; they compute in the type of the input.

    Attributes:
        base: the frozen module.
        lora_A: all down-projections, (E * R, D), or the shared one, (R, D).
        lora_B: all up-projections, (D_out, E * R); zero at the start.
        routing: where the weights of this pass are.
        enabled: whether the experts take part; without them the layer is its base.
    """

    def __init__(
        self,
        base: nn.Module,
        experts: int,
        rank: int,
        alpha: float,
        dropout: float,
        routing: Routing,
        *,
        gate: LayerGate | None = None,
        shared_a: bool = False,
        scale: Origin = "peft",
        init: Origin = "peft",
        backend: BackendName = "auto",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        _check_settings(experts, rank, alpha, dropout)
        check_backend(backend, gate is not None)
        widths = linear_widths(base)
        if widths is None:
            raise ValueError(
                f"LoRA-MoE wraps modules with in_features and out_features, found {type(base).__name__}; "
                "name linear layers as targets"
            )
        self.in_features, self.out_features = widths
        self.experts, self.rank, self.alpha = experts, rank, alpha
        self.scale = alpha / rank if scale == "peft" else 1.0
        self.init, self.shared_a, self.backend = init, shared_a, backend
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.routing = routing
        self.gate = gate
        self.enabled = True
        held = next(chain(base.parameters(), base.buffers()), None)
        device = None if held is None else held.device
        rows = rank if shared_a else experts * rank
        self.lora_A = nn.Parameter(torch.empty(rows, self.in_features, device=device, dtype=dtype))
        self.lora_B = nn.Parameter(torch.empty(self.out_features, experts * rank, device=device, dtype=dtype))
        self.reset_parameters()
        self.train(base.training)  # a wrapper put into a model in eval mode must not drop anything

    def reset_parameters(self) -> None:
        """Draws A, each expert by its own fan-in, and zeroes B: the start is the base.

        Kaiming's uniform bound with a slope of sqrt(5) is one over the root of the fan-in. That is D in PEFT; the
        published code draws a tensor (E, D, R), whose fan-in comes out as D * R.
        """
        fan_in = self.in_features * (self.rank if self.init == "published" else 1)
        nn.init.uniform_(self.lora_A, -(fan_in**-0.5), fan_in**-0.5)
        nn.init.zeros_(self.lora_B)

    def forward(self, x: Tensor) -> Tensor:
        """The base plus the routed experts.

        Args:
            x: inputs (B, T, D) or (B, D); B may be a multiple of the samples of the routing (beam search).

        Returns:
            (B, T, D_out) or (B, D_out), in the type of the base's output.
        """
        if not self.enabled:
            plain: Tensor = self.base(x)
            return plain
        if self.gate is not None:
            choice = self.gate(x)
            self.routing.note(choice)
            gate, kept = choice.weights, self.experts
        else:
            gate = self.routing.for_rows(x.shape[0], x.shape[1] if x.dim() > 2 else None)
            kept = self.routing.kept
        if gate.shape[-1] != self.experts:
            raise ValueError(
                f"gate weights are set for {gate.shape[-1]} experts, but a LoRA-MoE layer has {self.experts}; "
                "make the gate and the layers with the same number of experts"
            )
        out: Tensor = self.base(x)
        scale, mask = self.scale, None
        if self.dropout.training and self.dropout.p > 0:
            mask, factor = kept_inputs(x, self.dropout.p)
            scale *= factor
        weights, pair = gate if scale == 1 else gate * scale, (self.lora_A, self.lora_B)
        name = choose(x, *pair, weights, kept) if self.backend == "auto" else self.backend
        generating = mask is None and not torch.is_grad_enabled() and (gate.dim() == 2 or x.dim() == 3)
        if generating and name == "concatenated" and not self.shared_a:
            return add_without_backward(out, x, *pair, weights)
        return out + BACKENDS[name](x, *pair, weights, kept, mask).to(out.dtype)

    def extra_repr(self) -> str:
        """The settings, for printing the model."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, experts={self.experts}, "
            f"rank={self.rank}, alpha={self.alpha}"
            + (", shared_a=True" if self.shared_a else "")
            + (f", backend={self.backend}" if self.backend != "auto" else "")
        )


def linear_widths(module: nn.Module) -> tuple[int, int] | None:
    """Input and output width of a linear-like module; None for any other."""
    for names in (("in_features", "out_features"), ("nx", "nf")):
        width_in, width_out = (getattr(module, name, None) for name in names)
        if isinstance(width_in, int) and isinstance(width_out, int):
            return width_in, width_out
    return None


def check_backend(backend: str, by_token: bool) -> None:
    """Refuses a backend that there is not, and one that makes matrices for every token."""
    if backend not in get_args(BackendName):
        raise ValueError(
            f"there is no backend {backend!r} of LoRA-MoE; backends are {', '.join(get_args(BackendName))}"
        )
    if by_token and backend in ("gathered", "merged"):
        raise ValueError(
            f"backend: {backend} makes matrices for each row of weights, of a gate that chooses for each token as "
            "many as there are tokens; leave it out, or take `concatenated`"
        )


def _check_settings(experts: int, rank: int, alpha: float, dropout: float) -> None:
    """Refuses settings with which no expert could learn."""
    if experts < 1:
        raise ValueError(f"LoRA-MoE needs at least 1 expert, found experts = {experts}; 1 is plain LoRA")
    if rank < 1:
        raise ValueError(f"the rank of a LoRA expert must be at least 1, found rank = {rank}; choose 8 or 32")
    if alpha <= 0:
        raise ValueError(f"alpha must be positive, found alpha = {alpha:g}; alpha = rank gives a scale of 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is a probability in 0..1 (1 excluded), found dropout = {dropout:g}")
