"""A joint set-up comes in; tokens in a second go out, for padded, grouped and packed batches of the same data.

    python bench/batching.py --images data/miniature --clouds data/rooms    # the joint miniature
    python bench/batching.py --mix                                          # lengths like the paper's

Training steps of the three take turns, so that what else the machine does falls on all alike; packed and padded
batches hold the same instances. Batches are made beforehand. Objects of clouds are blanks, which takes the step as
long as their stored features do. With `--mix` texts have lengths like those of the paper's joint set-up: 36 % are
short (a scene's 16 vectors, about 80 tokens in all), the others long (256 patches, about 400 tokens), and no encoder
runs. Tokens are those of samples, media slots included and padding not. On a CPU, time is that of the process.
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

from octavius.cli import prepare
from octavius.encoders.base import Encoder
from octavius.instruction.batch import Batch, Example, Processor
from octavius.instruction.prompt import Prompt
from octavius.instruction.rois import RoiLoader, rois_of
from octavius.instruction.sample import Media, References, Sample
from octavius.precision import has_bfloat16
from octavius.training import OctaviusModule

KINDS = ("padded", "grouped", "packed")
SHORT, LONG, SHORT_SHARE = (80, 16), (400, 40), 0.36
"""Tokens of 3D and of 2D samples, mean and standard deviation, and the share of the first in the paper's epoch."""


@dataclass(frozen=True)
class BlankRois(RoiLoader):
    """Twenty objects without content for every cloud."""

    width: int

    def __call__(self, media: Media) -> Data:  # noqa: ARG002 - the signature of a loader
        """Features (20, width) and boxes (20, 6)."""
        return rois_of(torch.zeros(20, self.width), torch.ones(20, 6))


def make_step(module: OctaviusModule, device: str) -> Callable[[Batch], None]:
    """A training step, in autocast to bfloat16 where that is fast, with AdamW."""
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
    """Batches of made-up texts; grouped ones are sorted by length over 32 steps, as the sampler does."""
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
    """The first batches of a data module, in each way."""
    data = cast(Any, cli.datamodule)
    module.processor.loaders["cloud"] = BlankRois(cast(Encoder, module.model.encoders["cloud"]).width)
    data.processor = module.processor
    for part in (data.images, data.clouds):  # annotations of some hundreds are as good as all
        part.train = [replace(source, limit=500) for source in part.train]
    batches = {}
    for kind in KINDS:
        data.batching = kind
        batches[kind] = list(islice(data.train_dataloader(), count))
    return batches


def main() -> None:
    """Prints a line for each kind of batch."""
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
        words += [f"{own}.root", getattr(options, part), f"{own}.miniature", "false"]
    cli = prepare("fit", words + further)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = cast(OctaviusModule, cli.model).to(device)
    if not has_bfloat16(device):  # as a training does
        module.model.decoder.lm.float()
    count = options.rounds + 1
    made = of_mix(module.processor, count, options.batch) if options.mix else of_data(cli, module, count)
    step, now = make_step(module, device), time.perf_counter if device == "cuda" else time.process_time
    seconds, tokens, places = (dict.fromkeys(KINDS, 0.0) for _ in range(3))
    for turn in range(count):
        for kind in KINDS:
            batch = made[kind][turn].to(device)
            start = now()
            step(batch)
            if turn:  # the first one warms up
                seconds[kind] += now() - start
                tokens[kind] += int(batch.attention_mask.sum())
                places[kind] += batch.attention_mask.numel()
    kind = "bfloat16" if has_bfloat16(device) else "float32"
    print(
        f"{device}, {kind}, {torch.get_num_threads()} threads, batch {options.batch}, {options.rounds} rounds"
    )
    first = tokens["padded"] / seconds["padded"]
    for kind in KINDS:
        rate = tokens[kind] / seconds[kind]
        full = tokens[kind] / places[kind]
        print(f"{kind:8} {rate:8.0f} tokens/s  x {rate / first:.2f}  {full:.0%} of the places are filled")


if __name__ == "__main__":
    main()
