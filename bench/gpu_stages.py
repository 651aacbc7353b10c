"""The stages of `bench/gpu.py`: each yields rows of setting, variant and result."""

import argparse
import importlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import batching
import decoder_step
import generation
import lightning as L
import plan_memory
import routed_layer
import torch
from measuring import in_turns, ratio, spread
from shapes import SHAPES, TARGETS, configuration
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, LlamaModel
from variants import Settings, ours

from octavius.cli.lightning_cli import prepare
from octavius.lora_moe import Routing
from octavius.plan.report import RATES
from octavius.training import OctaviusModule

ROOT = Path(__file__).resolve().parent.parent
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Row = tuple[str, str, str]
"""Setting, variant, and result."""

BF16 = ["--dtype", "bfloat16"]
BESIDE = ["frozen, no adapter", "PEFT LoRA of rank r", "LoRA-MoE"]


def tests(tiny: bool) -> Iterator[Row]:
    """Runs the test files that mention CUDA; a failed one is a row."""
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "cuda" in path.read_text()]
    if tiny:
        files = [path for path in files if path.name == "test_precision.py"]
    words = [sys.executable, "-m", "pytest", "-q", "-rfE", "--no-header", "-p", "no:cacheprovider"]
    ran = subprocess.run([*words, *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=False)
    for line in ran.stdout.splitlines():
        if found := re.match(r"(FAILED|ERROR) (\S+)( - .*)?", line):
            yield found[2], found[1], (found[3] or "")[3:203]
    summary = ran.stdout.strip().splitlines()
    yield f"{len(files)} files", "pytest", summary[-1] if summary else ran.stderr[-200:]


def layer(tiny: bool) -> Iterator[Row]:
    """Forward and backward pass of one layer."""
    words = ["--variants", *BESIDE, "published einsum", "a loop over experts"]
    words += (
        ["--width", "16", "--tokens", "8", "--experts", "1", "4"]
        if tiny
        else ["--experts", "1", "4", "8", "32"]
    )
    options = routed_layer.parse(
        [*words, "--autocast", *([] if tiny else ["--tokens", "512", "--rounds", "15"])]
    )
    for experts in options.experts:
        yield from rows(routed_layer.HEADER, routed_layer.measure(options, experts), 1)


def step(shape: str, tiny: bool) -> Iterator[Row]:
    """Training step of a decoder."""
    words = ["--shape", "tiny", "--tokens", "8", "--rounds", "2", "--experts", "4"]
    if not tiny:
        words = ["--shape", shape, "--tokens", "512", "--rounds", "7", "--experts", "1", "4", "8", "32"]
    options = decoder_step.parse([*words, *BF16, "--autocast", "--variants", *BESIDE])
    for experts in options.experts:
        yield from rows(decoder_step.header(options.compared), decoder_step.measure(options, experts), 1)


def generate(shape: str, tiny: bool) -> Iterator[Row]:
    """Generation of one and eight rows."""
    words = ["--shape", "tiny", "--prompt", "4", "--answer", "3", "--rounds", "2", "--experts", "4"]
    if not tiny:
        words = ["--shape", shape, "--answer", "16", "--rounds", "3", "--experts", "1", "4", "8", "32"]
    options = generation.parse([*words, *BF16])
    for experts in options.experts:
        for samples in options.samples:
            yield from rows(generation.HEADER, generation.measure(options, experts, samples), 2)


def rows(header: Sequence[str], found: Sequence[Sequence[str]], settings: int) -> Iterator[Row]:
    """Converts rows of another benchmark, whose first columns are settings, followed by the variant."""
    for row in found:
        cells = [f"{name} {cell}" for name, cell in zip(header, row, strict=True) if cell]
        yield ", ".join(cells[:settings]), row[settings], ", ".join(cells[settings + 1 :])


def batches(tiny: bool) -> Iterator[Row]:
    """Padded, grouped and packed batches with lengths as in the paper."""
    with tempfile.TemporaryDirectory() as folder:
        cli = prepared(Path(folder), tiny, 1, 1)
        module = cast(OctaviusModule, cli.model).to(DEVICE)
        if tiny:
            module.model.decoder.lm.float()
        size, count = (2, 3) if tiny else (16, 8)
        made = batching.of_mix(module.processor, count, size)
        for kind, rate in batching.rates(module, made, DEVICE).items():
            yield f"batch {size}", kind, " ".join(rate.split())


def quantised(tiny: bool) -> Iterator[Row]:
    """Training steps with LoRA-MoE on bases of 16, 8 and 4 bits."""
    bitsandbytes: Any = importlib.import_module("bitsandbytes")
    shape, tokens, rounds = ("tiny", 8, 2) if tiny else ("llama-7b-layer", 512, 7)
    config = configuration(shape)
    config.use_cache, config.vocab_size = False, 16  # inputs are embeddings
    settings = Settings(4, 32, 2, 0.0)
    kinds: dict[str, Callable[[nn.Linear], nn.Module] | None] = {
        "bfloat16": None,
        "int8": lambda one: bitsandbytes.nn.Linear8bitLt(
            one.in_features, one.out_features, False, has_fp16_weights=False
        ),
        "nf4": lambda one: bitsandbytes.nn.Linear4bit(
            one.in_features, one.out_features, False, torch.bfloat16, quant_type="nf4"
        ),
    }
    steps, held, states = {}, {}, {}
    for name, quantise in kinds.items():
        torch.manual_seed(0)
        model = LlamaModel(config).to(torch.bfloat16)
        if quantise is not None:
            for path, linear in [pair for pair in model.named_modules() if isinstance(pair[1], nn.Linear)]:
                packed = quantise(linear)
                packed.load_state_dict(linear.state_dict())
                parent, _, child = path.rpartition(".")
                setattr(model.get_submodule(parent), child, packed)
        model.to(DEVICE)
        held[name] = sum(part.numel() * part.element_size() for part in model.parameters()) / 2**20
        steps[name] = trained(model, settings, tokens)
        states[name] = steps[name]()
    taken = in_turns(steps, rounds)
    for name, times in taken.items():
        off = float((states[name] - states["bfloat16"]).norm() / states["bfloat16"].norm())
        yield (
            f"{shape}, E 4",
            name,
            f"ms {1000 * statistics.median(times):.1f}, x bfloat16 {ratio(times, taken['bfloat16']):.2f}, "
            f"spread {spread(times, taken['bfloat16'])}, MiB of weights {held[name]:.4g}, "
            f"hidden states off by {off:.1%}",
        )


def trained(model: nn.Module, settings: Settings, tokens: int) -> Callable[[], Tensor]:
    """Adds experts to a model; returns a training step that returns the last hidden states."""
    routing = Routing()
    ours("auto")(model, TARGETS, settings, routing)
    model.to(DEVICE).train()
    x = torch.randn(
        2, tokens, cast(Any, model.config).hidden_size, generator=torch.Generator().manual_seed(1)
    )
    x = x.to(DEVICE, torch.bfloat16).requires_grad_()
    gate = settings.gate(2, DEVICE)
    optimizer = torch.optim.AdamW([part for part in model.parameters() if part.requires_grad], 1e-4)

    def run() -> Tensor:
        with torch.autocast(DEVICE, torch.bfloat16), routing.use(gate, settings.max_active):
            states: Tensor = model(inputs_embeds=x).last_hidden_state.float()
        states[..., 0].mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        return states.detach()

    return run


def memory(tiny: bool) -> Iterator[Row]:
    """Predicted and measured peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        for size in ["narrow"] if tiny else [*plan_memory.SIZES][1:]:
            yield size, "plan", plan_memory.compare(size, Path(folder))


def prepared(folder: Path, tiny: bool, batch: int, steps: int, *more: str) -> Any:
    """`octavius fit` of text-only conventions with a decoder of SmolLM2's size, ready to run.

    Args:
        folder: where the configuration of the decoder and its tokenizer are written.
        tiny: whether to take a tiny decoder instead.
        batch: samples per step.
        steps: number of steps.
        more: further arguments of `fit`.
    """
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "checkpoints" / "miniature" / "language")
    config = configuration("tiny" if tiny else "smollm2-135m")
    config.vocab_size = max(config.vocab_size, len(tokenizer))
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    decoder = "--model.init_args.decoder.init_args"
    options = {
        f"{decoder}.name": folder,
        f"{decoder}.from_scratch": "true",
        f"{decoder}.dtype": "bfloat16",
        "--model.init_args.projectors": "null",
        "--model.init_args.lora.gate": "instance",
        "--data.init_args.train_scenes": 1000,
        "--data.init_args.batch_size": batch,
        "--data.init_args.samples_per_epoch": batch * steps,
        "--trainer.precision": "bf16-mixed",
        "--trainer.limit_val_batches": 0,
        "--trainer.logger": "false",
        "--trainer.enable_progress_bar": "false",
        "--trainer.default_root_dir": folder,
    }
    words = [str(word) for pair in options.items() for word in pair]
    return prepare("fit", ["--config", str(ROOT / "configs" / "conventions.yaml"), *words, *more])


class Meter(L.Callback):
    """Time, tokens and loss of each step, and the FLOPs of one, whose time does not count.

    Attributes:
        seconds: from the end of a step to the end of the next, which includes waiting for data.
        tokens: without padding.
        operations: FLOPs per token of forward and backward pass.
    """

    COUNTED = 1

    def __init__(self) -> None:
        """Nothing is measured yet."""
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self.losses: list[float] = []
        self.operations = 0.0
        self._counter = FlopCounterMode(display=False)
        self._last = 0.0

    def on_train_batch_start(self, *hook: Any) -> None:
        """Starts to count in the second step."""
        if hook[-1] == self.COUNTED:
            self._counter.__enter__()

    def on_train_batch_end(self, *hook: Any) -> None:
        """Notes the step."""
        trainer, _, _, batch, index = hook
        tokens = int(batch.attention_mask.sum())
        if index == self.COUNTED:
            self._counter.__exit__(None, None, None)
            self.operations = self._counter.get_total_flops() / tokens
        self.losses.append(float(trainer.logged_metrics["train/loss"]))  # waits for the device
        now = time.perf_counter()
        if index > self.COUNTED:
            self.seconds.append(now - self._last)
            self.tokens.append(tokens)
        self._last = now


def metered(tiny: bool, *more: str) -> Meter:
    """Runs `fit` for some steps."""
    batch, steps = (4, 6) if tiny else (256, 24)
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        cli = prepared(Path(folder), tiny, batch, steps, *more)
        cli.trainer.callbacks.append(meter)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return meter


def fsdp2(tiny: bool) -> Iterator[Row]:
    """The same steps of `fit` with and without FSDP2."""
    plain = metered(tiny)
    sharded = metered(tiny, "--config", str(ROOT / "configs" / "fsdp.yaml"), "--trainer.devices", "1")
    off = max(abs(one - other) / other for one, other in zip(sharded.losses, plain.losses, strict=True))
    times = ratio(sharded.seconds, plain.seconds)
    yield (
        f"{len(plain.losses)} steps",
        "FSDP2",
        f"x time of one process {times:.2f}, spread {spread(sharded.seconds, plain.seconds)}, "
        f"losses differ by at most {off:.2%}",
    )


def fit(tiny: bool) -> Iterator[Row]:
    """Model FLOPs utilisation: of the rate of a large product, and of the data sheet's if that is known."""
    meter = metered(tiny)
    speed = sum(meter.tokens) / sum(meter.seconds)
    done = speed * meter.operations
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU"
    rates = {"a large product": product_rate(tiny)}
    rates |= {f"an {key}'s data sheet": rate for key, rate in RATES.items() if key in name.replace(" ", "")}
    shares = ", ".join(
        f"{done / rate:.1%} of {key} ({rate / 1e12:.3g} TFLOP/s)" for key, rate in rates.items()
    )
    size = "tiny" if tiny else f"{SHAPES['smollm2-135m']['num_hidden_layers']} layers"
    mean = sum(meter.tokens) / len(meter.tokens)
    yield (
        f"{size}, {mean:.0f} tokens per step",
        "LoRA-MoE",
        f"{speed:.0f} tokens/s, {meter.operations / 1e6:.4g} MFLOP per token, {shares}",
    )


def product_rate(tiny: bool) -> float:
    """FLOP/s of a matrix product, in bfloat16 on a GPU."""
    width, dtype = (256 if tiny else 8192 if DEVICE == "cuda" else 2048), torch.float32
    matrix = torch.randn(width, width, device=DEVICE, dtype=torch.bfloat16 if DEVICE == "cuda" else dtype)
    taken = in_turns({"product": lambda: matrix @ matrix}, 10, 3)["product"]
    return float(2 * width**3 / statistics.median(taken))


STAGES: dict[str, Callable[[bool], Iterator[Row]]] = {
    "tests": tests,
    "layer": layer,
    "step of a LLaMA-7B layer": partial(step, "llama-7b-layer"),
    "step of SmolLM2": partial(step, "smollm2-135m"),
    "generation of a LLaMA-7B layer": partial(generate, "llama-7b-layer"),
    "generation of SmolLM2": partial(generate, "smollm2-135m"),
    "batches": batches,
    "quantised bases": quantised,
    "memory": memory,
    "FSDP2 on one device": fsdp2,
    "fit": fit,
}
"""Functions that take whether sizes are tiny."""


def main() -> None:
    """Runs one stage and writes its rows as JSON lines, each as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("rows", type=Path)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    with options.rows.open("a", buffering=1) as found:
        for row in STAGES[options.stage](options.tiny):
            found.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
