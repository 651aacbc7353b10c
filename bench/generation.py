"""Benchmark of generation with routed LoRA experts against merged weights.

    python bench/generation.py --shape smollm2-135m --samples 1 8

Greedy generation with a KV cache, for prompts and answers of fixed lengths; weights are random, the frozen ones
shared. Every row of a batch has its own gate weights, while merged weights hold for a single choice of them. A check
before timing asserts, in float32, that with those gate weights routed and merged experts generate the same tokens,
and others than the base. Each round runs every variant once; ratios are medians over rounds, the spread is their
interquartile range.
"""

import argparse
import statistics
import sys
from collections.abc import Callable

import torch
from measuring import in_turns, machine, ratio, spread, table
from shapes import SHAPES, TARGETS, configuration
from torch import Tensor, nn
from transformers import LlamaForCausalLM
from variants import Settings, make

from octavius.lora_moe import LoRAMoELinear
from octavius.lora_moe.fixed import fixed_routing
from octavius.lora_moe.merge import merge

BARE, MERGED, ROUTED = "frozen, no adapter", "merged for one gate", "LoRA-MoE"
COMPARED = [MERGED, BARE, ROUTED, "PEFT LoRA of rank r"]
HEADER = ["E", "rows", "variant", "tokens/s", f"x {MERGED}", "spread"]

Generate = Callable[[Tensor], Tensor]


def prepare(
    name: str,
    base: nn.Module,
    settings: Settings,
    merged_for: Tensor,
    options: argparse.Namespace,
    samples: int,
) -> Generate:
    """Builds a function that generates token ids (B, N) with a variant, given gate weights (B, E).

    Args:
        name: one of `COMPARED`.
        base: the frozen model.
        settings: settings of the experts.
        merged_for: gate weights (E,) for which experts are merged.
        options: command line options.
        samples: batch size B.
    """
    model, routing = make(ROUTED if name == MERGED else name, base, TARGETS, settings)
    for layer in model.modules():
        if isinstance(layer, LoRAMoELinear):  # B starts as zeros, with which experts change nothing
            nn.init.normal_(layer.lora_B, std=0.1)
    if name == MERGED:
        merge(model, merged_for)
    model.eval()
    torch.manual_seed(1)
    width = SHAPES[options.shape]["hidden_size"]
    # About the size of word embeddings.
    prompts = torch.randn(samples, options.prompt, width, device=options.device) / 50
    prompts = prompts.to(getattr(torch, options.dtype))
    seen = torch.ones(prompts.shape[:2], dtype=torch.long, device=options.device)

    @torch.no_grad()
    def generate(gate: Tensor) -> Tensor:
        greedy = {"max_new_tokens": options.answer, "do_sample": False, "pad_token_id": 0}
        with routing.use(gate, settings.max_active), fixed_routing(model):
            ids: Tensor = model.generate(inputs_embeds=prompts, attention_mask=seen, **greedy)  # type: ignore[operator]
        assert ids.shape == (samples, options.answer)
        return ids

    return generate


def measure(options: argparse.Namespace, experts: int, samples: int) -> list[list[str]]:
    """Measures all variants with a number of experts and a batch size; returns rows of the table."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(configuration(options.shape))
    base = base.to(options.device, getattr(torch, options.dtype))
    settings = Settings(experts, options.rank, options.top_k, 0.0)
    gates = settings.gate(samples, options.device).detach()
    one = gates[0]
    made = {name: prepare(name, base, settings, one, options, samples) for name in COMPARED}
    if options.dtype == "float32":  # in bfloat16 rounding may change a token
        check(made, one.expand(samples, -1))
    steps = {name: lambda run=run: run(gates) for name, run in made.items()}
    taken = in_turns(steps, options.rounds)
    merged = taken[MERGED]
    return [
        [
            str(experts),
            str(samples),
            name,
            f"{samples * options.answer / statistics.median(times):.1f}",
            f"{ratio(merged, times):.2f}",
            spread(merged, times),
        ]
        for name, times in taken.items()
    ]


def check(made: dict[str, Generate], gate: Tensor) -> None:
    """Asserts that with equal gate weights (B, E) in all rows, routed and merged experts generate the same tokens."""
    said = {name: made[name](gate) for name in (MERGED, ROUTED, BARE)}
    assert torch.equal(said[ROUTED], said[MERGED]), "routed and merged experts give different tokens"
    assert not torch.equal(said[ROUTED], said[BARE]), (
        "the experts change nothing, so that nothing was compared"
    )


def parse(words: list[str]) -> argparse.Namespace:
    """Parses the arguments, and adds the device."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--shape", choices=list(SHAPES), default="miniature")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 8], help="of a batch")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--answer", type=int, default=64, help="tokens to generate")
    parser.add_argument("--experts", type=int, nargs="+", default=[4])
    parser.add_argument("--rank", type=int, default=32, help="of one expert")
    parser.add_argument("--top_k", type=int, default=2, help="experts that a sample uses")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the model")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(words)
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    return options


def main() -> None:
    """Prints one table."""
    options = parse(sys.argv[1:])
    print(f"{options.shape}, {options.prompt} tokens of prompt, {options.answer} of answer, ", end="")
    print(f"r = {options.rank}, top-{options.top_k}, {options.dtype}; {machine()}\n")
    rows = [
        row
        for experts in options.experts
        for samples in options.samples
        for row in measure(options, experts, samples)
    ]
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
