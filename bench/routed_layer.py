"""A frozen linear layer with routed LoRA experts comes in, its time and memory against other ways go out.

    python bench/routed_layer.py --width 4096 --experts 1 4 8 32

Forward and backward of one layer, as in training: the input asks for a gradient too. Every round runs all variants
after another, the ratios are medians over the rounds, the spread is their middle half. How much faster than the
published einsum a variant is, is told of the whole layer, and of the adapter alone: of the time that comes on top of
the frozen layer's. The columns of memory are what autograd keeps for the backward pass besides parameters and the
layer's input, and how much less that is than what the einsum keeps.
"""

import argparse
import statistics

import torch
from measuring import in_turns, kept_bytes, machine, ratio, spread, table
from torch import Tensor, nn
from variants import VARIANTS, Settings, make

FROZEN, EINSUM = "frozen, no adapter", "published einsum"


class Single(nn.Module):
    """A model of one linear layer."""

    def __init__(self, width: int, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.proj = nn.Linear(width, width, bias=False, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layer."""
        return self.proj(x)


def measure(options: argparse.Namespace, experts: int) -> list[list[str]]:
    """The rows of all variants with so many experts."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, options.dtype)
    settings = Settings(experts, options.rank, options.top_k, options.dropout)
    base = Single(options.width, device, dtype)
    x = torch.randn(
        options.samples, options.tokens, options.width, device=device, dtype=dtype
    ).requires_grad_()
    gate = settings.gate(options.samples, device)
    steps, kept = {}, {}
    for name in options.variants:
        model, routing = make(name, base, ["proj"], settings)
        routing.set(gate, settings.kept)

        def step(model: nn.Module = model) -> None:
            model(x).sum().backward()
            model.zero_grad()

        steps[name] = step
        kept[name] = kept_bytes(lambda model=model: model(x), model, [x])  # type: ignore[misc]
    taken = in_turns(steps, options.rounds)
    return rows_of(taken, kept, experts)


def rows_of(taken: dict[str, list[float]], kept: dict[str, int], experts: int) -> list[list[str]]:
    """The lines of the table, of seconds in each round and of bytes."""
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
            f"{kept[name] / 2**20:.2f}",
            f"{kept[EINSUM] / kept[name]:.1f}" if kept[name] else "",
        ]
        for name, times in taken.items()
    ]


def main() -> None:
    """Prints one table."""
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
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="of the frozen layer"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args()
    options.variants = list(dict.fromkeys([FROZEN, EINSUM, *options.variants]))
    torch.manual_seed(0)
    print(f"width {options.width}, {options.samples} x {options.tokens} tokens, r = {options.rank}, ", end="")
    print(f"top-{options.top_k}, dropout {options.dropout:g}, {options.dtype}; {machine()}\n")
    rows = [row for experts in options.experts for row in measure(options, experts)]
    header = ["E", "variant", "ms", f"x {FROZEN}", "spread", "faster than einsum", "adapter alone"]
    print(table([*header, "MiB kept for backward", "less than einsum"], rows))


if __name__ == "__main__":
    main()
