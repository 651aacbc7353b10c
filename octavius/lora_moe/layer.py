"""The LoRA-MoE layer: a frozen linear module plus a gated mixture of LoRA experts."""

from itertools import chain
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from octavius.lora_moe.backends import BACKENDS, BackendName, choose
from octavius.lora_moe.dropout import kept_inputs
from octavius.lora_moe.gates.base import LayerGate
from octavius.lora_moe.low_rank import add_without_backward
from octavius.lora_moe.routing import Routing
from octavius.suggestions import nearest

Origin: TypeAlias = Literal["peft", "published"]
"""Convention for scale and initialisation: that of PEFT, or that of the published code of Octavius."""


class LoRAMoELinear(nn.Module):
    """A frozen linear module plus E LoRA experts, weighted per sample by the gate weights of a shared `Routing`.

    y = base(x) + alpha / R * sum over e of g_e B_e A_e dropout(x), equation (3) of the paper for one linear layer.
    The experts are stored in one pair of matrices, expert e in rows (of A) and columns (of B) e * R up to
    (e + 1) * R, so the mixture is one LoRA of rank E * R with the gate weights between A and B. No (E, D_out)
    tensor per token is built, and every parameter gets a gradient in every pass (zeros for unused experts), which
    distributed training needs.

    Args:
        base: a linear-like module, possibly quantised: maps (..., D) to (..., D_out), and has `in_features` and
            `out_features` (or `nx` and `nf`, as `transformers.pytorch_utils.Conv1D`). It is frozen here.
        experts: number E of experts; 1 is plain LoRA.
        rank: rank R of one expert.
        alpha: numerator of the scale alpha / R.
        dropout: dropout probability on the inputs of the experts, not of the base.
        routing: holder of the gate weights, shared by the model, or the part of it that is for this layer.
        gate: a gate inside the layer, which routes each token; None takes the weights from `routing`.
        shared_a: whether the experts share one down-projection A and differ in B alone (HydraLoRA, Tian et
            al., 2024).
        scale: `peft` is alpha / R, `published` is 1 whatever alpha says.
        init: initialisation of A, uniform within 1 / sqrt(D) (`peft`) or 1 / sqrt(D * R) (`published`).
        backend: how the weighted sum is computed (see `backends`); `auto` picks the fastest for the sizes at hand.
            `gathered` and `merged` cannot be combined with `gate`: they would build matrices for every token.
        dtype: dtype of the experts' parameters; they are cast to the dtype of the input (or of autocast).

    Attributes:
        base: the frozen module.
        lora_A: down-projections of all experts, (E * R, D), or the shared one, (R, D).
        lora_B: up-projections of all experts, (D_out, E * R), initialised to zero.
        routing: holder of the gate weights of the current pass.
        enabled: whether the experts are added; if not, the layer computes its base alone.
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
        # Quantised modules may hold their weights in buffers.
        held = next(chain(base.parameters(), base.buffers()), None)
        device = None if held is None else held.device
        rows = rank if shared_a else experts * rank
        self.lora_A = nn.Parameter(torch.empty(rows, self.in_features, device=device, dtype=dtype))
        self.lora_B = nn.Parameter(torch.empty(self.out_features, experts * rank, device=device, dtype=dtype))
        self.reset_parameters()
        self.train(
            base.training
        )  # a new module is in training mode; in a model in eval mode it would apply dropout

    def reset_parameters(self) -> None:
        """Draws A by the fan-in of a single expert and zeroes B, so that the layer starts as its base."""
        # `kaiming_uniform_(a=sqrt(5))`, as PEFT calls it, has the bound 1 / sqrt(fan_in), with fan_in = D. The
        # published code calls it on a tensor (E, D, R), for which PyTorch computes fan_in = D * R.
        fan_in = self.in_features * (self.rank if self.init == "published" else 1)
        nn.init.uniform_(self.lora_A, -(fan_in**-0.5), fan_in**-0.5)
        nn.init.zeros_(self.lora_B)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the weighted sum of the experts to the output of the base.

        Args:
            x: inputs (B, T, D) or (B, D); B may be a multiple of the samples in the routing (beam search).

        Returns:
            (B, T, D_out) or (B, D_out), in the dtype of the base's output.

        Raises:
            RuntimeError: no gate weights are set.
            ValueError: they are for other numbers of experts, rows or tokens.
        """
        if not self.enabled:
            plain: Tensor = self.base(x)
            return plain
        if self.gate is not None:
            choice = self.gate(x)
            self.routing.note(choice)
            # Tokens use different experts, so none can be skipped for a whole row.
            gate, max_active = choice.weights, self.experts
        else:
            gate = self.routing.for_rows(x.shape[0], x.shape[1] if x.dim() > 2 else None)
            max_active = self.routing.max_active
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
        # Scale and dropout factor are folded into the gate weights, by far the smallest factor of the product.
        weights, pair = gate if scale == 1 else gate * scale, (self.lora_A, self.lora_B)
        name = choose(x, *pair, weights, max_active) if self.backend == "auto" else self.backend
        # Without gradients and dropout the sum needs no autograd function and is added by one fused product. In
        # generation this runs in every layer for every token, where the number of kernel launches counts.
        generating = mask is None and not torch.is_grad_enabled() and (gate.dim() == 2 or x.dim() == 3)
        if generating and name == "concatenated" and not self.shared_a:
            return add_without_backward(out, x, *pair, weights)
        return out + BACKENDS[name](x, *pair, weights, max_active, mask).to(out.dtype)

    def extra_repr(self) -> str:
        """Settings shown when the model is printed."""
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
    """Checks that a backend exists, and that it does not build matrices per token under a gate per token."""
    if backend not in get_args(BackendName):
        raise ValueError(
            f"there is no backend {backend!r} of LoRA-MoE{nearest(backend, get_args(BackendName))}"
            f"; backends are {', '.join(get_args(BackendName))}"
        )
    if by_token and backend in ("gathered", "merged"):
        raise ValueError(
            f"backend: {backend} makes matrices for each row of weights, of a gate that chooses for each token as "
            "many as there are tokens; leave it out, or take `concatenated`"
        )


def _check_settings(experts: int, rank: int, alpha: float, dropout: float) -> None:
    """Checks the numbers of a layer."""
    if experts < 1:
        raise ValueError(f"LoRA-MoE needs at least 1 expert, found experts = {experts}; 1 is plain LoRA")
    if rank < 1:
        raise ValueError(f"the rank of a LoRA expert must be at least 1, found rank = {rank}; choose 8 or 32")
    if alpha <= 0:
        raise ValueError(f"alpha must be positive, found alpha = {alpha:g}; alpha = rank gives a scale of 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is a probability in 0..1 (1 excluded), found dropout = {dropout:g}")
