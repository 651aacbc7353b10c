"""Adapter variants that the benchmarks compare: LoRA-MoE, PEFT's LoRA, a loop over experts, the published einsum."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from octavius.lora_moe import Routing, inject
from octavius.lora_moe.backends import BackendName


@dataclass(frozen=True)
class Settings:
    """Settings shared by all variants of a table."""

    experts: int
    rank: int
    top_k: int
    dropout: float

    @property
    def max_active(self) -> int:
        """Number of experts that a sample uses."""
        return min(self.top_k, self.experts)

    def gate(self, samples: int, device: str) -> Tensor:
        """Draws gate weights (B, E) with `top_k` non-zero ones per sample; they require a gradient."""
        weights = torch.zeros(samples, self.experts)
        for row in weights:
            row[torch.randperm(self.experts)[: self.max_active]] = torch.rand(self.max_active).softmax(0)
        return weights.to(device).requires_grad_()


class ExpertLoop(nn.Module):
    """Experts as separate LoRAs, applied one after another, as most implementations of LoRA-MoE do."""

    def __init__(self, base: nn.Linear, settings: Settings, routing: Routing) -> None:
        super().__init__()
        self.base, self.routing, self.dropout = base, routing, nn.Dropout(settings.dropout)
        options = {"bias": False, "device": base.weight.device, "dtype": torch.float32}
        self.down = nn.ModuleList(
            nn.Linear(base.in_features, settings.rank, **options) for _ in range(settings.experts)
        )
        self.up = nn.ModuleList(
            nn.Linear(settings.rank, base.out_features, **options) for _ in range(settings.experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Adds each expert, times its weight, to the base."""
        out, dropped, gate = self.base(x), self.dropout(x), self.routing.for_rows(len(x))
        for expert, (down, up) in enumerate(zip(self.down, self.up, strict=True)):
            out = out + gate[:, expert, None, None].to(out.dtype) * up(down(dropped))
        return out


class PublishedEinsum(nn.Module):
    """Computes all experts for every token, (B, T, E, D_out), then their weighted sum, as the published code does."""

    def __init__(self, base: nn.Linear, settings: Settings, routing: Routing) -> None:
        super().__init__()
        self.base, self.routing, self.dropout = base, routing, nn.Dropout(settings.dropout)
        experts, rank, device = settings.experts, settings.rank, base.weight.device
        self.down = nn.Parameter(torch.randn(experts, base.in_features, rank, device=device) / 64)
        self.up = nn.Parameter(torch.zeros(experts, rank, base.out_features, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Adds the weighted sum of the experts to the base."""
        out, dropped, gate = self.base(x), self.dropout(x), self.routing.for_rows(len(x))
        hidden = torch.einsum("btd,edr->bter", dropped, self.down.to(x.dtype))
        full = torch.einsum("bter,ero->bteo", hidden, self.up.to(hidden.dtype))
        return out + torch.einsum("bteo,be->bto", full, gate.to(full.dtype)).to(out.dtype)


Adapt = Callable[[nn.Module, list[str], Settings, Routing], nn.Module]


def frozen(model: nn.Module, targets: list[str], settings: Settings, routing: Routing) -> nn.Module:  # noqa: ARG001
    """Freezes the model and adds no adapter."""
    return model.requires_grad_(False)


def peft(times: Callable[[Settings], int]) -> Adapt:
    """PEFT's LoRA of a multiple of the rank."""

    def adapt(model: nn.Module, targets: list[str], settings: Settings, routing: Routing) -> nn.Module:  # noqa: ARG001
        rank = settings.rank * times(settings)
        config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=settings.dropout, target_modules=targets)
        return get_peft_model(model, config)  # type: ignore[arg-type]

    return adapt


def ours(backend: BackendName) -> Adapt:
    """LoRA-MoE with a backend."""

    def adapt(model: nn.Module, targets: list[str], settings: Settings, routing: Routing) -> nn.Module:
        rank = settings.rank
        inject(model, targets, settings.experts, rank, rank, settings.dropout, routing, backend=backend)
        return model

    return adapt


def swapped(kind: type[ExpertLoop] | type[PublishedEinsum]) -> Adapt:
    """Replaces each target by a module of this class."""

    def adapt(model: nn.Module, targets: list[str], settings: Settings, routing: Routing) -> nn.Module:
        model.requires_grad_(False)
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.Linear) and name.rpartition(".")[2] in targets:
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, kind(module, settings, routing))
        return model

    return adapt


VARIANTS: dict[str, Adapt] = {
    "frozen, no adapter": frozen,
    "PEFT LoRA of rank r": peft(lambda settings: 1),  # noqa: ARG005
    "PEFT LoRA of rank E x r": peft(lambda settings: settings.experts),
    "LoRA-MoE": ours("auto"),
    "LoRA-MoE, concatenated": ours("concatenated"),
    "LoRA-MoE, gathered": ours("gathered"),
    "LoRA-MoE, merged": ours("merged"),
    "a loop over experts": swapped(ExpertLoop),
    "published einsum": swapped(PublishedEinsum),
}


def make(name: str, model: nn.Module, targets: list[str], settings: Settings) -> tuple[nn.Module, Routing]:
    """Copies a model, sharing its frozen weights, and adds adapters; returns the routing that they read too."""
    torch.manual_seed(0)
    # With parameters as memo, deepcopy takes them over instead of copying them.
    copy = deepcopy(model, {id(tensor): tensor for tensor in model.parameters()})
    routing = Routing()
    return VARIANTS[name](copy, targets, settings, routing).train(), routing
