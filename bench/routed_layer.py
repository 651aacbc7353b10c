"""Benchmark of a single LoRA-MoE layer: time and memory beside PEFT, a loop over experts and the published einsum.

    python bench/routed_layer.py --width 4096 --experts 1 4 8 32

Forward and backward of one layer as in training: the input requires a gradient too. Each round runs every variant
once; ratios are medians over rounds, the spread is their interquartile range. The speed-up over the published einsum
is given for the whole layer and for the adapter alone, which is the time on top of the frozen layer's. The columns of
memory are what autograd saves for the backward pass of the adapter (without parameters, the layer's input, and what
the frozen layer saves), and how much less that is than for the einsum.
"""

import argparse
import statistics
import sys
from collections.abc import Callable

import torch
from measuring import in_turns, kept_bytes, machine, ratio, spread, table
from torch import Tensor, nn
from variants import VARIANTS, Settings, make

FROZEN, EINSUM = "frozen, no adapter", "published einsum"
HEADER = [
    "E",
    "variant",
    "ms",
    f"x {FROZEN}",
    "spread",
    "faster than einsum",
    "adapter alone",
    "MiB kept of the adapter",
    "less than einsum",
]


class Single(nn.Module):
    """A model with a single linear layer, as adapters are injected into models."""

    def __init__(self, width: int, device: str) -> None:
        super().__init__()
        self.proj = nn.Linear(width, width, bias=False, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layer."""
        return self.proj(x)


def measure(options: argparse.Namespace, experts: int) -> list[list[str]]:
    """Measures all variants with a number of experts; returns rows of the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = Settings(experts, options.rank, options.top_k, options.dropout)
    base = Single(options.width, device)
    x = torch.randn(options.samples, options.tokens, options.width, device=device).requires_grad_()
    gate = settings.gate(options.samples, device)
    steps, kept = {}, {}
    for name in options.variants:
        model, routing = make(name, base, ["proj"], settings)
        routing.set(gate, settings.max_active)

        def forward(model: nn.Module = model) -> Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=options.autocast):
                return model(x).sum()

        def step(model: nn.Module = model, forward: Callable[[], Tensor] = forward) -> None:
            forward().backward()
            model.zero_grad()

        steps[name], kept[name] = step, kept_bytes(forward, model, [x])
    taken = in_turns(steps, options.rounds)
    return rows_of(taken, kept, experts)


def rows_of(taken: dict[str, list[float]], kept: dict[str, int], experts: int) -> list[list[str]]:
    """Formats rows of the table from seconds per round and bytes saved."""
    frozen, einsum = taken[FROZEN], taken[EINSUM]
    adapter = {
        name: statistics.median(one - bare for one, bare in zip(times, frozen, strict=True))
        for name, times in taken.items()
    }
    return [
        [
            str(experts),
            name,
            f"{1000 * statistics.median(times):.1f}",
            f"{ratio(times, frozen):.2f}",
            spread(times, frozen),
            f"{ratio(einsum, times):.2f}",
            "" if name == FROZEN else f"{adapter[EINSUM] / adapter[name]:.2f}",
            f"{(kept[name] - kept[FROZEN]) / 2**20:.2f}",
            "" if name == FROZEN else f"{(kept[EINSUM] - kept[FROZEN]) / (kept[name] - kept[FROZEN]):.1f}",
        ]
        for name, times in taken.items()
    ]


def parse(words: list[str]) -> argparse.Namespace:
    """Parses the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=4096, help="of input and output (LLaMA-7B: 4096)")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128, help="of a sample")
    parser.add_argument("--experts", type=int, nargs="+", default=[4])
    parser.add_argument("--rank", type=int, default=32, help="of one expert")
    parser.add_argument("--top_k", type=int, default=2, help="experts that a sample uses")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--autocast", action="store_true", help="to bfloat16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args(words)
    options.variants = list(dict.fromkeys([FROZEN, EINSUM, *options.variants]))
    return options


def main() -> None:
    """Prints one table."""
    options = parse(sys.argv[1:])
    torch.manual_seed(0)
    print(f"width {options.width}, {options.samples} x {options.tokens} tokens, r = {options.rank}, ", end="")
    print(f"top-{options.top_k}, dropout {options.dropout:g}{', autocast' * options.autocast}; {machine()}\n")
    rows = [row for experts in options.experts for row in measure(options, experts)]
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
