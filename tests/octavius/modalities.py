"""Short runs on images, rooms and texts, on one process or two, for `test_processes_modalities.py`.

Run as a script by each of two processes, it does everything that the tests of `test_processes_modalities.py` look at.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.base import InstructionDataModule
from datamodules.examples import EvalSet, TrainSet
from datamodules.mixed import MixedInstructions
from octavius.decoder.decoder import Decoder
from octavius.distributed.fsdp2 import FSDP2
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.precomputed_rois import PrecomputedRois
from octavius.instruction.batch import Processor
from octavius.instruction.sample import ClassName, Media, References, Sample
from octavius.lora_moe import LoRAMoEConfig
from octavius.training import OctaviusModule
from tests.octavius import tiny_runs

SEED = 11
"""Of a mixture in which the ranks' batches differ in every way; a test looks that they do."""

ROI, READER = 5, ReaderSizes(width=16, queries=16, heads=2, layers=1, dropout=0.0, hidden=8)


class Drawn(InstructionDataModule):
    """Six pictures to name and three texts to say; three pictures to evaluate."""

    def train_sets(self) -> list[TrainSet]:
        return [TrainSet(tiny_runs.pictures("a", 6), 2.0), TrainSet(tiny_runs.texts("b", 3), 1.0)]

    def eval_sets(self, stage: str) -> list[EvalSet]:  # noqa: ARG002
        return [EvalSet("pictures", tiny_runs.pictures("a", 3))]


class Scanned(InstructionDataModule):
    """Five rooms, of none to four things, to describe and to name; three of them to evaluate."""

    def train_sets(self) -> list[TrainSet]:
        return [TrainSet(rooms("c", 5))]

    def eval_sets(self, stage: str) -> list[EvalSet]:  # noqa: ARG002
        return [EvalSet("rooms", rooms("c", 4)[1:])]


def rooms(prefix: str, count: int) -> list[Sample]:
    """Room n has n things."""
    rng = np.random.default_rng(1)
    samples = []
    for index in range(count):
        media = {"cloud": Media(array=rng.normal(size=(index, ROI + 6)).astype(np.float32))}
        texts = References((tiny_runs.TEXTS[index % 4], tiny_runs.TEXTS[(index + 1) % 4]))
        gold = texts if index % 2 else ClassName(tiny_runs.NAMES[index % 5], tiny_runs.NAMES)
        task = "captioning3d" if index % 2 else "classification3d"
        samples.append(tiny_runs.sample(f"{prefix}{index}", task, gold, media))
    return samples


def mixture(processor: Processor, batch_size: int) -> MixedInstructions:
    """Nine pictures and texts once and five rooms twice: four steps of four instances."""
    return MixedInstructions(
        Drawn(),
        Scanned(),
        batch_size=batch_size,
        eval_batch_size=2,
        workers=0,
        seed=SEED,
        processor=processor,
    )


def make(decoder: Path) -> OctaviusModule:
    """A model with an eye for each modality, the same at each call."""
    torch.manual_seed(0)
    encoders = {"image": PrecomputedFeatures(3, 8), "cloud": PrecomputedRois(ROI, reader=READER)}
    lora = LoRAMoEConfig(3, rank=2, alpha=4.0, dropout=0.0)
    module = OctaviusModule(Decoder(str(decoder)), encoders, lora, lr=0.01)  # type: ignore[arg-type]
    for name, parameter in module.named_parameters():
        if name.endswith("lora_B"):  # zero at the start, which would hide what the experts do
            torch.nn.init.normal_(parameter, std=0.1)
    return module


def two_processes(folder: Path) -> dict[str, dict[str, Any]]:
    """The runs that take two processes; the decoder is in the folder already."""
    notes: dict[str, dict[str, Any]] = {}
    for kind in ("ddp", "fsdp"):
        strategy = FSDP2() if kind == "fsdp" else kind
        model = make(folder / "decoder")
        notes[kind] = tiny_runs.fit(folder, kind, model, strategy, 2, batch_size=2, pieces=mixture)[2]
    return notes


if __name__ == "__main__":
    torch.set_num_threads(1)
    home, rank = Path(sys.argv[1]), sys.argv[2]
    torch.save(two_processes(home), home / f"notes-{rank}.pt")
