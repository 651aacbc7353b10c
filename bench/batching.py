"""A joint set-up comes in; tokens in a second go out, for padded, grouped and packed batches of the same data.

    python bench/batching.py --images data/miniature --clouds data/rooms --rounds 20

Training steps of the three take turns, so that what else the machine does falls on all alike; packed and padded
batches hold the same instances. Batches are made beforehand. Objects of clouds are blanks, which takes the step as
long as their stored features do. Tokens are those of samples, media slots included and padding not.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import torch
from torch_geometric.data import Data

from octavius.cli import prepare
from octavius.encoders.base import Encoder
from octavius.instruction.batch import Batch
from octavius.instruction.rois import RoiLoader, rois_of
from octavius.instruction.sample import Media
from octavius.training import OctaviusModule

KINDS = ("padded", "grouped", "packed")


@dataclass(frozen=True)
class BlankRois(RoiLoader):
    """Twenty objects without content for every cloud."""

    width: int

    def __call__(self, media: Media) -> Data:  # noqa: ARG002 - the signature of a loader
        """Features (20, width) and boxes (20, 6)."""
        return rois_of(torch.zeros(20, self.width), torch.ones(20, 6))


def make_step(module: OctaviusModule, device: str) -> Callable[[Batch], None]:
    """A training step in bfloat16 autocast, with AdamW."""
    optimizer = torch.optim.AdamW([part for part in module.parameters() if part.requires_grad], 1e-4)

    def step(batch: Batch) -> None:
        with torch.autocast(device, torch.bfloat16):
            losses = module.model(batch).losses
        losses.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> None:
    """Prints a line for each kind of batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="2d_3d.yaml")
    parser.add_argument("--images", default="data/miniature")
    parser.add_argument("--clouds", default="data/rooms")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    words = ["--config", options.config, "--trainer.logger", "false", "--data.init_args.workers", "0"]
    for part in ("images", "clouds"):
        own = f"--data.init_args.{part}.init_args"
        words += [f"{own}.root", getattr(options, part), f"{own}.miniature", "false"]
    cli = prepare("fit", words)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module, data = cast(OctaviusModule, cli.model).to(device), cast(Any, cli.datamodule)
    module.processor.loaders["cloud"] = BlankRois(cast(Encoder, module.model.encoders["cloud"]).width)
    data.processor = module.processor
    batches: dict[str, list[Batch]] = {}
    for kind in KINDS:
        data.batching = kind
        batches[kind] = [batch.to(device) for batch in islice(data.train_dataloader(), options.rounds + 1)]
    step = make_step(module, device)
    seconds, tokens, places = (dict.fromkeys(KINDS, 0.0) for _ in range(3))
    for turn in range(options.rounds + 1):
        for kind in KINDS:
            batch = batches[kind][turn]
            start = time.perf_counter()
            step(batch)
            if turn:  # the first one warms up
                seconds[kind] += time.perf_counter() - start
                tokens[kind] += int(batch.attention_mask.sum())
                places[kind] += batch.attention_mask.numel()
    print(f"{device}, {torch.get_num_threads()} threads, batch {data.batch_size}, {options.rounds} rounds")
    first = tokens["padded"] / seconds["padded"]
    for kind in KINDS:
        rate = tokens[kind] / seconds[kind]
        full = tokens[kind] / places[kind]
        print(f"{kind:8} {rate:8.0f} tokens/s  x {rate / first:.2f}  {full:.0%} of the places are filled")


if __name__ == "__main__":
    main()
