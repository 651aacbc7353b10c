"""Samples, answers, and a model that knows the right answers, for tests of evaluations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from datamodules.base import InstructionDataModule
from datamodules.examples import EvalSet, TrainSet
from octavius.evaluation.answers import Answered, Decoding
from octavius.evaluation.generation import answer_batch
from octavius.instruction.batch import Batch, Processor
from octavius.instruction.media_loader import MediaLoader
from octavius.instruction.sample import Boxes, Choice, ClassName, Gold, LabelledBox, Media, References, Sample
from octavius.tasks import TASKS

OPTIONS, NAMES = ("red", "blue", "green"), ("cat", "dog", "cow")


def sample(name: str, task: str, gold: Gold, group: str = "", benchmark: str = "reader") -> Sample:
    return Sample(name, task, benchmark, {}, "Which colour?" if task == "vqa" else "", gold, group=group)


def questions(count: int) -> list[Sample]:
    groups = ("colour", "side")
    return [sample(f"q{n}", "vqa", Choice(OPTIONS, n % 3), groups[n % 2]) for n in range(count)]


def captions(count: int) -> list[Sample]:
    texts = ("a red ring on a mat", "two cats in the sun", "one dog and a cow")
    return [
        sample(f"c{n}", "captioning", References((texts[n % 3], "a picture of it"))) for n in range(count)
    ]


def detections(count: int) -> list[Sample]:
    boxes = [(0.0, 0.0, 0.2, 0.2), (0.5, 0.5, 1.0, 1.0), (0.0, 0.5, 0.3, 1.0)]
    return [
        sample(f"d{n}", "detection", Boxes((LabelledBox(NAMES[n % 3], boxes[n % 3]),))) for n in range(count)
    ]


def objects(count: int) -> list[Sample]:
    """Objects of a class that their features tell, and their boxes only whether it is the first one."""
    found = []
    for n in range(count):
        kind = n % 3
        media = {"cloud": Media(array=np.array([[*np.eye(3)[kind], *[1.0 + (kind > 0)] * 6]], np.float32))}
        found.append(replace(sample(f"o{n}", "classification3d", ClassName(NAMES[kind], NAMES)), media=media))
    return found


@dataclass
class Rois:
    """As much of a `torch_geometric.data.Batch` as the controls know: N objects in all, of M media."""

    x: Tensor
    boxes: Tensor
    batch: Tensor

    def to(self, device: object) -> "Rois":
        return Rois(*(part.to(device) for part in (self.x, self.boxes, self.batch)))  # type: ignore[call-overload]


class RoisOfArrays(MediaLoader):
    """Arrays (O, 3 + 6) of features and boxes."""

    def __call__(self, media: Media) -> Tensor:
        return torch.from_numpy(media.array)

    def collate(self, items: Sequence[Tensor]) -> Rois:
        rows = torch.cat(list(items))
        owners = torch.repeat_interleave(torch.tensor([len(item) for item in items]))
        return Rois(rows[:, :3], rows[:, 3:], owners)


class Sets(InstructionDataModule):
    """Evaluation sets by stage."""

    def __init__(self, processor: Processor, **sets: list[EvalSet]) -> None:
        super().__init__(2, 2, workers=0, processor=processor)
        self.sets = sets
        self.training = captions(4)

    def train_sets(self) -> list[TrainSet]:
        return [TrainSet(self.training)]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        return self.sets[stage]


class FakeModule(L.LightningModule):
    """Gives the true answer, but for samples whose answer is set; notes what it was asked."""

    def __init__(self, processor: Processor, **answers: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.processor, self.answers = processor, answers
        self.decoding = Decoding()
        self.asked: list[str] = []
        self.limits: list[int] = []
        self.options: list[dict[str, Any]] = []

    def answer(self, batch: Batch, limits: Sequence[int], **options: Any) -> tuple[list[str], Tensor]:
        self.asked += [one.id for one in batch.samples]
        self.limits += limits
        self.options.append(options)
        texts = [self.answers.get(one.id, TASKS[one.task].answer(one, FIRST)) for one in batch.samples]
        return texts, torch.tensor([[0.25, 0.75]] * len(texts))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        return self.weight * len(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Answered]]:  # noqa: ARG002
        return {"answers": answer_batch(self, batch, self.decoding)}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Answered]]:  # noqa: ARG002
        return {"answers": answer_batch(self, batch, self.decoding)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Looker(FakeModule):
    """Names an object by its features, by its box where they are zero, and as a cat where it sees nothing."""

    def answer(self, batch: Batch, limits: Sequence[int], **options: Any) -> tuple[list[str], Tensor]:
        texts, gate = super().answer(batch, limits, **options)
        if "cloud" not in batch.media:
            return texts, gate
        rois, slots = batch.media["cloud"], batch.slots["cloud"]
        for index, row in enumerate(slots[:, 0].unique().tolist()):
            thing = int((rois.batch == index).nonzero()[0])
            known = rois.x[thing].argmax() if rois.x[thing].any() else rois.boxes[thing][0] > 1
            shown = batch.attention_mask[row][slots[slots[:, 0] == row][:, 1]].any()
            texts[row] = NAMES[int(known) if shown else 0]
        return texts, gate


class First:
    """A generator that draws the first of everything."""

    def choice(self, items: Sequence[Any]) -> Any:
        return items[0]


FIRST: Any = First()


def make_trainer(*callbacks: L.Callback, **options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{"num_sanity_val_steps": 0, "logger": False, **options},
    )


def answered(samples: Sequence[Sample], says: Callable[[Sample], str] | None = None) -> list[Answered]:
    """What a pupil would say, by default the truth."""
    found: list[Answered] = []
    for one in samples:
        text = TASKS[one.task].answer(one, FIRST) if says is None else says(one)
        found.append(Answered(one, "?", text, TASKS[one.task].parse(text, one), None, len(found)))
    return found


def in_set(name: str, samples: Sequence[Sample]) -> list[Sample]:
    return [replace(one, benchmark=name) for one in samples]
