"""Variants of the adapters come in, the time of a training step of each against the first one goes out.

    python bench/training_step.py --rounds 20

Steps of all variants take turns on the same batches, so that what else the machine does falls on all alike; a ratio
is the median over the rounds. Frozen miniature language model, symbolic scenes, bfloat16 autocast, AdamW.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from datamodules.miniature.symbolic import GRID, WIDTH
from datamodules.pretraining.language import WorldLanguage
from octavius.decoder import Decoder
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.instruction.batch import Batch
from octavius.lora_moe import LoRAMoE
from octavius.training import OctaviusModule

VARIANTS: dict[str, tuple[LoRAMoE, bool]] = {
    "one LoRA, r 16": (LoRAMoE(1, 16, 32, 0.0, 1), False),
    "one LoRA, r 64": (LoRAMoE(1, 64, 128, 0.0, 1), False),
    "4 experts, r 16, top-2": (LoRAMoE(4, 16, 32, 0.0, 2), False),
    "16 experts, r 16, top-2": (LoRAMoE(16, 16, 32, 0.0, 2), False),
    "4 experts, r 16, top-2, compiled": (LoRAMoE(4, 16, 32, 0.0, 2), True),
}


def make_step(lora: LoRAMoE, compiled: bool, device: str) -> tuple[OctaviusModule, Callable[[Batch], None]]:
    """A model and its training step."""
    torch.manual_seed(0)
    decoder = Decoder("miniature/language", attention="eager", compile=compiled)
    module = OctaviusModule(decoder, {"image": PrecomputedFeatures(GRID * GRID, WIDTH)}, lora).to(device)
    optimizer = torch.optim.AdamW([part for part in module.parameters() if part.requires_grad], 1e-4)

    def step(batch: Batch) -> None:
        with torch.autocast(device, torch.bfloat16):
            losses = module.model(batch).losses
        losses.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return module, step


def main() -> None:
    """Prints one line a variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=16)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = {name: make_step(*variant, device) for name, variant in VARIANTS.items()}
    processor = next(iter(made.values()))[0].processor
    data = WorldLanguage(
        batch_size=options.batch_size,
        samples_per_epoch=options.batch_size * (options.rounds + 3),
        workers=0,
        processor=processor,
    )
    times: dict[str, list[float]] = {name: [] for name in made}
    for place, cpu_batch in enumerate(data.train_dataloader()):
        batch = cpu_batch.to(device)
        for name, (_, step) in made.items():
            start = time.perf_counter()
            step(batch)
            if place >= 3:  # the first ones compile and warm up
                times[name].append(time.perf_counter() - start)
    first = next(iter(times.values()))
    print(f"{device}, {torch.get_num_threads()} threads, batch {options.batch_size}, {options.rounds} rounds")
    for name, taken in times.items():
        ratio = statistics.median(one / other for one, other in zip(taken, first, strict=True))
        print(f"{name:34} {1000 * statistics.median(taken):7.1f} ms  x {ratio:.2f}")


if __name__ == "__main__":
    main()
