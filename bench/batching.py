"""Benchmark of training throughput with padded, length-grouped and packed batches of the same data.

    python bench/batching.py --images data/miniature --clouds data/rooms    # the joint miniature
    python bench/batching.py --mix                                          # lengths like the paper's

Steps of the three kinds are interleaved, so that other load on the machine affects all alike; packed and padded
batches hold the same samples. Batches are built beforehand. Objects of clouds have zero features, which take a step
as long as stored ones. With `--mix` text lengths resemble the paper's joint training: 36 % are short (16 vectors per
scene, about 80 tokens in all), the others long (256 patches, about 400 tokens), and no encoder runs. Tokens per
second count media slots but not padding. On a CPU, time is process time.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast

import torch
from torch_geometric.data import Data

import octavius.cli.classes  # noqa: F401 - the classes that configurations name
from octavius.cli.lightning_cli import prepare
from octavius.distributed.precision import has_bfloat16
from octavius.encoders.base import Encoder
from octavius.instruction.batch import Batch, Example, Processor
from octavius.instruction.prompt import Prompt
from octavius.instruction.sample import Media, References, Sample
from octavius.media.rois import RoiLoader, rois_of
from octavius.training import OctaviusModule

KINDS = ("padded", "grouped", "packed")
SHORT, LONG, SHORT_SHARE = (80, 16), (400, 40), 0.36
"""Mean and standard deviation of the tokens of 3D and of 2D samples, and the share of 3D in an epoch of the paper."""


@dataclass(frozen=True)
class BlankRois(RoiLoader):
    """Loads twenty objects with zero features for every cloud."""

    width: int

    def __call__(self, media: Media) -> Data:  # noqa: ARG002 - the signature of a loader
        """Features (20, width) and boxes (20, 6)."""
        return rois_of(torch.zeros(20, self.width), torch.ones(20, 6))


def make_step(module: OctaviusModule, device: str) -> Callable[[Batch], None]:
    """Builds a training step with AdamW, under bfloat16 autocast where that is fast."""
    optimizer = torch.optim.AdamW([part for part in module.parameters() if part.requires_grad], 1e-4)

    def step(batch: Batch) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=has_bfloat16(device)):
            losses = module.model(batch).losses
        losses.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def of_mix(processor: Processor, count: int, size: int) -> dict[str, list[Batch]]:
    """Builds batches of random tokens; grouped ones are sorted by length within 32 steps, as the sampler does."""
    rng = random.Random(0)
    examples = []
    for number in range(max(count, 32) * size):
        length = max(40, round(rng.gauss(*(SHORT if rng.random() < SHORT_SHARE else LONG))))
        ids = [rng.randrange(10, 2000) for _ in range(length)]
        sample = Sample(str(number), "captioning", "mix", {}, "", References(("a",)))
        examples.append(Example(sample, Prompt(ids, length - 30, {}, ids[5:20]), {}))

    def cut(items: Sequence[Example], packed: bool = False) -> list[Batch]:
        return [
            processor.collate(items[start : start + size], packed) for start in range(0, len(items), size)
        ]

    grouped = cut(sorted(examples[: 32 * size], key=lambda one: len(one.prompt.ids)))
    rng.shuffle(grouped)
    return {
        "padded": cut(examples)[:count],
        "grouped": grouped[:count],
        "packed": cut(examples, True)[:count],
    }


def of_data(cli: Any, module: OctaviusModule, count: int) -> dict[str, list[Batch]]:
    """Takes the first batches of a data module, of each kind."""
    data = cast(Any, cli.datamodule)
    module.processor.loaders["cloud"] = BlankRois(cast(Encoder, module.model.encoders["cloud"]).width)
    data.processor = module.processor
    for part in (data.images, data.clouds):  # a few hundred samples suffice, and load faster
        part.train = [replace(source, limit=500) for source in part.train]
    batches = {}
    for kind in KINDS:
        data.batching = kind
        batches[kind] = list(islice(data.train_dataloader(), count))
    return batches


def rates(module: OctaviusModule, made: dict[str, list[Batch]], device: str) -> dict[str, str]:
    """Times steps on the batches of each kind; returns tokens per second, ratios to `padded`, and filled places."""
    step, now = make_step(module, device), time.perf_counter if device == "cuda" else time.process_time
    seconds, tokens, places = (dict.fromkeys(KINDS, 0.0) for _ in range(3))
    for turn in range(len(made["padded"])):
        for kind in KINDS:
            batch = made[kind][turn].to(device)
            start = now()
            step(batch)
            if turn:  # the first one warms up
                seconds[kind] += now() - start
                tokens[kind] += int(batch.attention_mask.sum())
                places[kind] += batch.attention_mask.numel()
    speed = {kind: tokens[kind] / seconds[kind] for kind in KINDS}
    return {
        kind: f"{speed[kind]:8.0f} tokens/s  x {speed[kind] / speed['padded']:.2f}  "
        f"{tokens[kind] / places[kind]:.0%} of the places are filled"
        for kind in KINDS
    }


def main() -> None:
    """Prints one line per kind of batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="2d_3d.yaml")
    parser.add_argument("--images", default="data/miniature")
    parser.add_argument("--clouds", default="data/rooms")
    parser.add_argument("--mix", action="store_true")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    options, further = parser.parse_known_args()  # such as --model.init_args.decoder.init_args.compile false
    words = ["--config", options.config, "--trainer.logger", "false", "--data.init_args.workers", "0"]
    words += ["--data.init_args.batch_size", str(options.batch)]
    for part in ("images", "clouds"):
        own = f"--data.init_args.{part}.init_args"
        words += [f"{own}.root", getattr(options, part)]
    cli = prepare("fit", words + further)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = cast(OctaviusModule, cli.model).to(device)
    if not has_bfloat16(device):  # as training does
        module.model.decoder.lm.float()
    count = options.rounds + 1
    made = of_mix(module.processor, count, options.batch) if options.mix else of_data(cli, module, count)
    kind = "bfloat16" if has_bfloat16(device) else "float32"
    print(
        f"{device}, {kind}, {torch.get_num_threads()} threads, batch {options.batch}, {options.rounds} rounds"
    )
    for kind, rate in rates(module, made, device).items():
        print(f"{kind:8} {rate}")


if __name__ == "__main__":
    main()
