"""Compares the peak memory that `octavius plan` predicts for training steps with measurements on this machine.

    python bench/plan_memory.py

Each size is measured in a process of its own: the peak over two steps of AdamW on a padded batch, above what the
process held before the model was built, on a GPU that of PyTorch's allocator. The prediction runs nothing.
"""

import argparse
import gc
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig

from octavius.decoder.decoder import Decoder
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.instruction.batch import IGNORE_INDEX, Batch
from octavius.instruction.sample import References, Sample
from octavius.lora_moe import LoRAMoEConfig
from octavius.model import Octavius
from octavius.plan.memory import standing
from octavius.plan.outline import DecoderOutline, Setup
from octavius.plan.rehearsal import Step, rehearse

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SLOTS, FEATURES, EXPERTS, RANK, VOCABULARY = 16, 32, 3, 8, 4000

SIZES: dict[str, tuple[int, int, int, int, bool]] = {
    "warm-up": (64, 2, 2, 32, True),
    "narrow": (256, 4, 8, 200, False),
    "wide": (768, 3, 4, 160, False),
    "deep": (256, 12, 4, 160, False),
    "long": (256, 4, 2, 900, False),
    "deep, checkpointed": (256, 12, 8, 200, True),
    "whole decoder trained": (512, 4, 2, 100, False),
    "large": (2048, 8, 8, 512, False),
    "large, checkpointed": (2048, 8, 16, 512, True),
}
"""Width, layers, batch, tokens, activation checkpointing."""


def setup_of(name: str, folder: Path) -> tuple[Setup, Step]:
    """The set-up of a size, with its configuration written to a folder."""
    width, layers, batch, tokens, checkpointing = SIZES[name]
    LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 5 // 2,
        num_hidden_layers=layers,
        num_attention_heads=8,
        vocab_size=VOCABULARY,
    ).save_pretrained(folder)
    lora = None if name.startswith("whole") else {"experts": EXPERTS, "rank": RANK}
    encoder = {
        "class_path": "octavius.encoders.precomputed.PrecomputedFeatures",
        "init_args": {"num_tokens": SLOTS, "width": FEATURES},
    }
    setup = Setup(
        {"name": str(folder)},
        {"image": encoder},
        lora,
        False,
        tokens,
        checkpointing,
        "32-true",
        False,
        batch,
        1,
        1,
        -1,
        1,
    )
    return setup, Step(batch, tokens, tokens // 2)


def planned(name: str, folder: Path) -> float:
    """Predicted peak of a step, in bytes."""
    setup, step = setup_of(name, folder)
    needs = rehearse(setup, step, setup.checkpointing)
    return needs.peak + sum(standing(setup, made(setup, "meta"), 1).values())


def made(setup: Setup, device: str) -> Octavius:
    """Builds the model with random weights, or on the meta device."""
    with torch.device(device):
        decoder: Decoder = DecoderOutline(setup.decoder["name"], "float32", "sdpa", None)
        lora = None if setup.lora is None else LoRAMoEConfig(EXPERTS, RANK)
        return Octavius(decoder, {"image": PrecomputedFeatures(SLOTS, FEATURES)}, lora)


def measured(name: str, folder: Path) -> float:
    """Measured peak of two steps in this process, in bytes."""
    train(*setup_of("warm-up", folder))  # loads code and buffers that any step needs
    gc.collect()
    if DEVICE == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        train(*setup_of(name, folder))
        return float(torch.cuda.max_memory_allocated() - held)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to the current size
    before = memory("VmRSS")
    train(*setup_of(name, folder))
    return memory("VmHWM") - before


def train(setup: Setup, step: Step) -> None:
    """Builds the model and takes two training steps."""
    model = made(setup, DEVICE)
    model.train()
    if setup.checkpointing:
        context = {"use_reentrant": False, "context_fn": model.routing.checkpoint_context}
        model.decoder.lm.gradient_checkpointing_enable(context)
    optimizer = torch.optim.AdamW([part for part in model.parameters() if part.requires_grad], 1e-4)
    batch = batch_of(step).to(DEVICE)
    for _ in range(2):
        model(batch).losses.sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def batch_of(step: Step) -> Batch:
    """Builds a batch in which all samples have the maximum length."""
    ids = torch.zeros(step.batch, step.tokens, dtype=torch.long)
    labels = torch.full_like(ids, IGNORE_INDEX)
    labels[:, -step.answer :] = 1
    rows, columns = torch.arange(step.batch).repeat_interleave(SLOTS), torch.arange(SLOTS).repeat(step.batch)
    mask = torch.ones_like(ids)
    mask[0, -1] = 0  # without any padding, attention would take a path without a mask
    sample = Sample("a", "captioning", "none", {}, "", References(("a",)))
    return Batch(
        ids, mask, labels, ids[:, :8], torch.ones_like(ids[:, :8]), {"image": torch.stack([rows, columns], 1)},
        {"image": torch.zeros(step.batch, SLOTS, FEATURES)}, [sample] * step.batch,
    )  # fmt: skip


def memory(key: str) -> float:
    """Reads a field of /proc/self/status, in bytes."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return 1024.0 * int(found[1])


def main() -> None:
    """Prints one line per size; with --measure, the bytes of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", choices=SIZES)
    parser.add_argument(
        "--sizes", nargs="+", choices=SIZES, default=[*SIZES][1 : None if DEVICE == "cuda" else -2]
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.measure:
            print(measured(options.measure, folder))
            return
        for size in options.sizes:
            print(f"{size:24} {compare(size, folder)}")


def compare(size: str, folder: Path) -> str:
    """Predicts a size, and measures it in a new process."""
    # malloc then returns freed blocks to the system at once, so that resident memory follows the live tensors.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-W", "ignore", __file__, "--measure", size]
    ran = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    plan, real = planned(size, folder), float(ran.stdout.split()[-1])
    return f"planned {plan / 2**20:7.1f} MiB, measured {real / 2**20:7.1f} MiB, {plan / real:.3f}"


if __name__ == "__main__":
    main()
