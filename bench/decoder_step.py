"""Benchmark of a training step of a whole decoder with LoRA-MoE: time and memory beside other adapters.

    python bench/decoder_step.py --shape smollm2-135m --experts 4

A step is forward, backward to the gate weights and the input embeddings (as projectors need it), and AdamW. The
decoder is a LLaMA without its head, with experts in q, k, v and o and random weights; the frozen ones are shared by
all variants. Each round runs every variant once; ratios are medians over rounds, the spread is their interquartile
range. "Kept for backward" is what autograd saves besides parameters and inputs; the adapters' share is what the
frozen decoder does not save. Peak memory is that of one step in a process of its own, above what it held before the
model was built.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from measuring import (
    held_megabytes,
    in_new_process,
    in_turns,
    kept_bytes,
    machine,
    peak_megabytes,
    ratio,
    spread,
    table,
)
from shapes import SHAPES, TARGETS, configuration
from torch import Tensor, nn
from transformers import LlamaModel
from variants import VARIANTS, Settings, make


def decoder(options: argparse.Namespace) -> LlamaModel:
    """Builds the frozen decoder."""
    torch.manual_seed(0)
    config = configuration(options.shape)
    config.use_cache, config.vocab_size = False, 16  # inputs are embeddings
    return LlamaModel(config).to(options.device, getattr(torch, options.dtype))


def prepare(
    name: str, base: LlamaModel, options: argparse.Namespace, experts: int
) -> tuple[nn.Module, Callable[[], Tensor], Callable[[], Any], list[Tensor]]:
    """Builds a variant: the model, its forward pass, its whole step, and the input tensors."""
    settings = Settings(experts, options.rank, options.top_k, options.dropout)
    model, routing = make(name, base, TARGETS, settings)
    width = SHAPES[options.shape]["hidden_size"]
    x = torch.randn(options.samples, options.tokens, width, device=options.device)
    x = x.to(getattr(torch, options.dtype)).requires_grad_()
    gate = settings.gate(options.samples, options.device)
    trained = [part for part in model.parameters() if part.requires_grad]
    optimizer = torch.optim.AdamW(trained or [gate], 1e-4, fused=True)
    if options.compile:
        model.compile(dynamic=False)

    def forward() -> Tensor:
        with (
            torch.autocast(options.device, torch.bfloat16, enabled=options.autocast),
            routing.use(gate, settings.max_active),
        ):
            return model(inputs_embeds=x).last_hidden_state.float().square().mean()

    def step() -> None:
        forward().backward()
        x.grad = gate.grad = None  # gate and projectors are not part of this decoder
        optimizer.step()
        optimizer.zero_grad()

    return model, forward, step, [x, gate]


def measure(options: argparse.Namespace, experts: int) -> list[list[str]]:
    """Measures all variants with a number of experts; returns rows of the table."""
    base = decoder(options)
    made = {name: prepare(name, base, options, experts) for name in options.variants}
    taken = in_turns({name: step for name, (_, _, step, _) in made.items()}, options.rounds, 2)
    kept = {name: kept_bytes(forward, model, x) / 2**20 for name, (model, forward, _, x) in made.items()}
    del made, base
    frozen = kept.get("frozen, no adapter", float("nan"))
    peaks = {name: in_new_process(peak, name, options, experts) for name in options.variants}
    compared = options.compared
    return [
        [
            str(experts),
            name,
            f"{1000 * statistics.median(times):.0f}",
            f"{ratio(times, taken[compared]):.2f}",
            spread(times, taken[compared]),
            f"{kept[name]:.1f}",
            f"{kept[name] - frozen:.1f}",
            f"{peaks[name]:.0f}",
            f"{peaks[name] / peaks[compared]:.2f}",
        ]
        for name, times in taken.items()
    ]


def peak(name: str, options: argparse.Namespace, experts: int) -> float:
    """Peak memory in MiB of one step of a variant; for a fresh process."""
    start = held_megabytes()
    _, _, step, _ = prepare(name, decoder(options), options, experts)
    return peak_megabytes(step, start)


def main() -> None:
    """Prints one table."""
    options = parse(sys.argv[1:])
    print(f"{options.shape}, {options.samples} x {options.tokens} tokens, r = {options.rank}, ", end="")
    print(f"top-{options.top_k}, dropout {options.dropout:g}, {options.dtype}", end="")
    print(f"{', autocast' * options.autocast}{', compiled' * options.compile}; {machine()}\n")
    rows = [row for experts in options.experts for row in measure(options, experts)]
    print(table(header(options.compared), rows))


def header(compared: str) -> list[str]:
    """The columns of the rows of `measure`."""
    times = ["E", "variant", "ms", f"x {compared}", "spread"]
    return [*times, "MiB kept for backward", "of it adapters'", "MiB at the peak", f"its x {compared}"]


def parse(words: list[str]) -> argparse.Namespace:
    """Parses the arguments, and adds the device."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--shape", choices=list(SHAPES), default="llama-7b-layer")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=256, help="of a sample")
    parser.add_argument("--experts", type=int, nargs="+", default=[4])
    parser.add_argument("--rank", type=int, default=32, help="of one expert")
    parser.add_argument("--top_k", type=int, default=2, help="experts that a sample uses")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="of frozen weights"
    )
    parser.add_argument("--autocast", action="store_true", help="to bfloat16")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--compared", default="PEFT LoRA of rank r", help="the variant with the ratio 1")
    options = parser.parse_args(words)
    if options.compared not in options.variants:
        parser.error(f"--compared must be one of --variants, found {options.compared!r}")
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    return options


if __name__ == "__main__":
    main()
