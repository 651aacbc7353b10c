"""A frozen linear layer with routed LoRA experts comes in, its time and memory against other ways go out.

    python bench/routed_layer.py --width 4096 --experts 1 4 8 32

Forward and backward of one layer, as in training: the input asks for a gradient too. Every round runs all variants
after another, the ratios are medians over the rounds. The column of memory is what autograd keeps for the backward
pass besides parameters and the layer's input.
"""

import argparse
import statistics

import torch
from measuring import in_turns, kept_bytes, machine, ratio, table
from torch import Tensor, nn
from variants import VARIANTS, Settings, make


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
        routing.set(gate)

        def step(model: nn.Module = model) -> None:
            model(x).sum().backward()
            model.zero_grad()

        steps[name] = step
        kept[name] = kept_bytes(lambda model=model: model(x), model, [x])  # type: ignore[misc]
    taken = in_turns(steps, options.rounds)
    first = taken[options.variants[0]]
    return [
        [
            str(experts),
            name,
            f"{1000 * statistics.median(times):.1f}",
            f"{ratio(times, first):.2f}",
            f"{kept[name] / 2**20:.2f}",
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
    torch.manual_seed(0)
    print(f"width {options.width}, {options.samples} x {options.tokens} tokens, r = {options.rank}, ", end="")
    print(f"top-{options.top_k}, dropout {options.dropout:g}, {options.dtype}; {machine()}\n")
    rows = [row for experts in options.experts for row in measure(options, experts)]
    print(table(["E", "variant", "ms", f"x {options.variants[0]}", "MiB kept for backward"], rows))


if __name__ == "__main__":
    main()
