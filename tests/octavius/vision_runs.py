"""Short runs of a tiny vision-language model, on one process or two, for `test_processes_vision.py`.

Run as a script by each of two processes, it does everything that the tests of `test_processes_vision.py` look at.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.base import InstructionDataModule
from datamodules.examples import EvalSet, TrainSet
from octavius.decoder.vision_language import VisionLanguageDecoder
from octavius.instruction.sample import Media, References, Sample
from octavius.lora_moe import LoRAMoEConfig
from octavius.training import OctaviusModule
from tests.octavius import tiny_runs


class Dialogues(InstructionDataModule):
    """Texts alone, about one image of several sizes, and about two; three of them to evaluate."""

    def __init__(self, **options: Any) -> None:
        super().__init__(workers=0, eval_batch_size=2, **options)

    def train_sets(self) -> list[TrainSet]:
        return [TrainSet(dialogues(12))]

    def eval_sets(self, stage: str) -> list[EvalSet]:  # noqa: ARG002
        return [EvalSet("dialogues", dialogues(3))]


def dialogues(count: int) -> list[Sample]:
    """Every third has no image, one, or two."""
    rng = np.random.default_rng(0)
    samples = []
    for index in range(count):
        shapes = [(20 + 9 * index, 40, 3), (30, 60, 3)][: index % 3]
        images = tuple(
            ("image", Media(array=rng.integers(0, 255, shape, dtype=np.uint8))) for shape in shapes
        )
        question = ("Say something.", "<image>What is this?", "Is <image> like <image> there?")[index % 3]
        gold = References((tiny_runs.TEXTS[index % 4],))
        samples.append(Sample(f"d{index}", "conversation", "small", {}, question, gold, placed=images))
    return samples


def make(base: Path) -> OctaviusModule:
    """The module with a trained connector, the same at each call."""
    torch.manual_seed(0)
    lora = LoRAMoEConfig(3, rank=2, alpha=4.0, dropout=0.0, targets=["q_proj", "v_proj"])
    module = OctaviusModule(VisionLanguageDecoder(str(base), train_connector=True), {}, lora, lr=0.01)  # type: ignore[arg-type]
    for name, parameter in module.named_parameters():
        if name.endswith("lora_B"):  # zero at the start, which would hide what the experts do
            torch.nn.init.normal_(parameter, std=0.1)
    return module


def two_processes(folder: Path) -> dict[str, dict[str, Any]]:
    """The run that takes two processes; the base model is in the folder already."""
    options: dict[str, Any] = {"batch_size": 2, "pieces": Dialogues}
    return {"ddp": tiny_runs.fit(folder, "ddp", make(folder / "base"), "ddp", 2, **options)[2]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    home, rank = Path(sys.argv[1]), sys.argv[2]
    torch.save(two_processes(home), home / f"notes-{rank}.pt")
